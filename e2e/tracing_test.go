package e2e

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// span is the part of a span that tests look at.
type span struct {
	Name, Trace, ID, Parent string
	Kind                    tracepb.Span_SpanKind
	Failed                  bool
	Destination             string
}

// spans collects the spans that Caddy exports, as an OTLP collector does.
type spans struct {
	mu  sync.Mutex
	all []span
}

// collectSpans makes Caddy export its spans to a collector.
func collectSpans(t *testing.T) *spans {
	t.Helper()
	s := new(spans)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil {
			t.Errorf("export: %v", err)
		}
		s.add(&request)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	return s
}

func (s *spans) add(request *collector.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, sp := range scope.GetSpans() {
				destination := ""
				for _, a := range sp.GetAttributes() {
					if a.GetKey() == "fotor_webhook.destination" {
						destination = a.GetValue().GetStringValue()
					}
				}
				s.all = append(s.all, span{
					Name:   sp.GetName(),
					Trace:  hex.EncodeToString(sp.GetTraceId()),
					ID:     hex.EncodeToString(sp.GetSpanId()),
					Parent: hex.EncodeToString(sp.GetParentSpanId()),
					Kind:   sp.GetKind(),
					Failed: sp.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,

					Destination: destination,
				})
			}
		}
	}
}

// Await waits for n spans of that name and returns them.
func (s *spans) Await(t *testing.T, name string, n int) []span {
	t.Helper()
	var found []span
	await(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		found = nil
		for _, sp := range s.all {
			if sp.Name == name {
				found = append(found, sp)
			}
		}
		return len(found) >= n
	}, "%d spans %q", n, name)
	return found
}

const (
	tracedRoute = "tracing {\nspan callback\n}"
	attemptSpan = "fotor_webhook deliver"

	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent  = "00-" + callersTrace + "-00f067aa0ba902b7-01"
)

// Each attempt is a span in the trace of its callback.
func TestTraceGoesOnInAttempts(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		collected := collectSpans(t)
		up := newUpstream(t, failTimes(1, func(w http.ResponseWriter, _ delivery) { w.WriteHeader(http.StatusTeapot) }))
		g := newGateway(t)
		g.Start(forward(up.URL)+quick, tracedRoute, quiet)
		answer := g.Post(notice("task", 1), "Traceparent", traceparent, "Tracestate", "vendor=value")
		require.Equal(t, http.StatusOK, answer.Status)
		g.delivered(1)

		callback := collected.Await(t, "callback", 1)[0]
		assert.Equal(t, callersTrace, callback.Trace)
		attempts := collected.Await(t, attemptSpan, 2)
		for i, sp := range attempts {
			assert.Equal(t, callersTrace, sp.Trace)
			assert.Equal(t, callback.ID, sp.Parent)
			assert.Equal(t, tracepb.Span_SPAN_KIND_CLIENT, sp.Kind)
			assert.Equal(t, i == 0, sp.Failed)
			assert.Equal(t, "default", sp.Destination)
			d := up.Deliveries()[i]
			assert.Equal(t, "00-"+callersTrace+"-"+sp.ID+"-01", d.Header.Get("Traceparent"))
			assert.Equal(t, "vendor=value", d.Header.Get("Tracestate"))
		}
		shown := ask[control.EventDetail](g, http.MethodGet, "default/events/"+answer.ID, "")
		assert.Equal(t, "00-"+callersTrace+"-"+callback.ID+"-01", shown.TraceParent)
	})
}

// The trace is stored with the event, so that it goes on after a restart, even before
// another callback has arrived.
func TestTraceGoesOnAfterRestart(t *testing.T) {
	collected := collectSpans(t)
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, tracedRoute, quiet)
	ask[control.Holds](g, http.MethodPost, "default/hold", "")
	require.Equal(t, http.StatusOK, g.Post(notice("task", 1), "Traceparent", traceparent).Status)
	g.Stop()
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL, "route /callback {\n"+tracedRoute+"\n}", quiet)))
	ask[control.Holds](g, http.MethodPost, "default/resume", "")
	g.delivered(1)
	attempt := collected.Await(t, attemptSpan, 1)[0]
	assert.Equal(t, callersTrace, attempt.Trace)
	assert.Equal(t, collected.Await(t, "callback", 1)[0].ID, attempt.Parent)
	assert.Len(t, collected.Await(t, "callback", 1), 1, "looking for the tracer is no span")
}

// Without the tracing handler a caller's traceparent is not passed on.
func TestUntracedRouteIgnoresTraceparent(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	require.Equal(t, http.StatusOK, g.Post(notice("task", 1), "Traceparent", traceparent, "Tracestate", "a=b").Status)
	d := up.Await(t, 1)[0]
	assert.Empty(t, d.Header.Get("Traceparent"))
	assert.Empty(t, d.Header.Get("Tracestate"))
}
