package tracing

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// traced returns a request with a span that has a trace state.
func traced(t *testing.T, state string) *http.Request {
	t.Helper()
	parsed, err := trace.ParseTraceState(state)
	require.NoError(t, err)
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: parsed,
	})
	return httptest.NewRequestWithContext(trace.ContextWithSpanContext(t.Context(), span), http.MethodPost, "/", http.NoBody)
}

func TestAnEventHasTheTraceOfItsRequest(t *testing.T) {
	s, e := new(Source), new(inbox.Event)
	require.Nil(t, s.Provider())
	s.AddTo(e, traced(t, "vendor=x"))
	assert.Equal(t, "00-01000000000000000000000000000000-0200000000000000-01", e.TraceParent)
	assert.Equal(t, "vendor=x", e.TraceState)
	assert.NotNil(t, s.Provider(), "attempts have spans from now on")
}

func TestALongTraceStateIsNotPassedOn(t *testing.T) {
	e := new(inbox.Event)
	vendor := strings.Repeat("x", 200)
	new(Source).AddTo(e, traced(t, "a="+vendor+",b="+vendor+",c="+vendor))
	assert.NotEmpty(t, e.TraceParent)
	assert.Empty(t, e.TraceState)
}

// A header of the caller alone is no trace.
func TestARequestWithoutSpanAddsNothing(t *testing.T) {
	s, e := new(Source), new(inbox.Event)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	r.Header.Set("Traceparent", "00-01000000000000000000000000000000-0200000000000000-01")
	s.AddTo(e, r)
	assert.Equal(t, inbox.Event{}, *e)
	assert.Nil(t, s.Provider())
}

func TestAServerWithoutTracingHasNoProvider(t *testing.T) {
	for _, server := range []*caddyhttp.Server{nil, new(caddyhttp.Server)} {
		s := new(Source)
		require.NoError(t, s.Find(server))
		assert.Nil(t, s.Provider())
	}
}
