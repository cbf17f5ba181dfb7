// Package tracing lets the trace of a callback go on in its deliveries.
package tracing

import (
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	caddytracing "github.com/caddyserver/caddy/v2/modules/caddyhttp/tracing"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/dryrun"
)

// maxTraceState is the length that W3C Trace Context (3.3.1.5) asks to pass on.
const maxTraceState = 512

// Source is where the spans of attempts come from: the tracer provider of Caddy's tracing
// handler, once that has been found. It is safe for concurrent use.
type Source struct{ found atomic.Pointer[provider] }

type provider struct{ trace.TracerProvider }

// Provider returns the provider for the spans of attempts, nil until it has been found.
func (s *Source) Provider() trace.TracerProvider {
	if found := s.found.Load(); found != nil {
		return found.TracerProvider
	}
	return nil
}

// AddTo adds the trace of a request to its event, if Caddy's tracing handler has made
// one. The caller's own traceparent does not count without that handler.
func (s *Source) AddTo(e *inbox.Event, r *http.Request) {
	if !s.learn(r) {
		return
	}
	carrier := make(propagation.MapCarrier, 2)
	propagation.TraceContext{}.Inject(r.Context(), carrier)
	e.TraceParent = carrier["traceparent"]
	if state := carrier["tracestate"]; len(state) <= maxTraceState {
		e.TraceState = state
	}
}

// learn takes the provider from a request with a span, and reports whether it has one.
func (s *Source) learn(r *http.Request) bool {
	span := trace.SpanFromContext(r.Context())
	if !span.SpanContext().IsValid() {
		return false
	}
	s.found.CompareAndSwap(nil, &provider{span.TracerProvider()})
	return true
}

// Find takes the provider of a tracing handler in the routes of a server, which may be
// nil. Without it, a backlog would not be traced after a restart until the first callback.
func (s *Source) Find(server *caddyhttp.Server) error {
	if server == nil {
		return nil
	}
	handler := handlerIn(server.Routes)
	if handler == nil {
		return nil
	}
	// The provider is only found in the context of a request that the tracing handler
	// serves. The parent of this one is not sampled, so it makes no trace.
	w, r := dryrun.Prepare(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{
		"Traceparent": {"00-" + unsampledTrace + "-00"},
	}}, server)
	return handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		s.learn(r)
		return nil
	}))
}

// unsampledTrace is the trace and the parent of Find's request.
const unsampledTrace = "f0700000000000000000000000000001-0000000000000001"

func handlerIn(routes caddyhttp.RouteList) *caddytracing.Tracing {
	for i := range routes {
		for _, handler := range routes[i].Handlers {
			switch handler := handler.(type) {
			case *caddytracing.Tracing:
				return handler
			case *caddyhttp.Subroute:
				if found := handlerIn(handler.Routes); found != nil {
					return found
				}
			}
		}
	}
	return nil
}
