package fotorwebhook

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/tracing"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxTraceState is the length that W3C Trace Context (3.3.1.5) asks to pass on.
const maxTraceState = 512

// addTrace adds the trace of a request to its event, if Caddy's tracing handler has
// made one. The caller's own traceparent does not count without that handler.
func (h *Handler) addTrace(r *http.Request, e *inbox.Event) {
	span := trace.SpanFromContext(r.Context())
	if !span.SpanContext().IsValid() {
		return
	}
	h.tracers.CompareAndSwap(nil, &tracerSource{span.TracerProvider()})
	carrier := make(propagation.MapCarrier, 2)
	propagation.TraceContext{}.Inject(r.Context(), carrier)
	e.TraceParent = carrier["traceparent"]
	if state := carrier["tracestate"]; len(state) <= maxTraceState {
		e.TraceState = state
	}
}

// tracerSource has the tracer provider of Caddy's tracing handler.
type tracerSource struct{ trace.TracerProvider }

// tracerProvider returns the provider for the spans of attempts, nil until it has been
// found.
func (h *Handler) tracerProvider() trace.TracerProvider {
	if source := h.tracers.Load(); source != nil {
		return source.TracerProvider
	}
	return nil
}

// findTracers takes the tracer provider of a tracing handler in the routes of the
// handler's server. Without it, a backlog would not be traced after a restart until the
// first callback.
func (h *Handler) findTracers() {
	if h.server == nil {
		return
	}
	tracer := tracingIn(h.server.Routes)
	if tracer == nil {
		return
	}
	// The provider is only found in the context of a request that the tracing handler
	// serves. The parent of this one is not sampled, so it makes no trace.
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{
		"Traceparent": {"00-" + unsampledTrace + "-00"},
	}}
	w := make(discardWriter)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, h.server)
	err := tracer.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		if span := trace.SpanFromContext(r.Context()); span.SpanContext().IsValid() {
			h.tracers.CompareAndSwap(nil, &tracerSource{span.TracerProvider()})
		}
		return nil
	}))
	if err != nil {
		h.logger.Warn("the tracing handler cannot be used for attempts before the first callback", zap.Error(err))
	}
}

// unsampledTrace is the trace and the parent of findTracers' request.
const unsampledTrace = "f0700000000000000000000000000001-0000000000000001"

func tracingIn(routes caddyhttp.RouteList) *tracing.Tracing {
	for i := range routes {
		for _, handler := range routes[i].Handlers {
			switch handler := handler.(type) {
			case *tracing.Tracing:
				return handler
			case *caddyhttp.Subroute:
				if found := tracingIn(handler.Routes); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// discardWriter is the http.ResponseWriter of a made-up request. It keeps no answer.
type discardWriter http.Header

// Header implements http.ResponseWriter.
func (w discardWriter) Header() http.Header { return http.Header(w) }

// Write implements http.ResponseWriter.
func (discardWriter) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (discardWriter) WriteHeader(int) {}

// Interface guard
var _ http.ResponseWriter = discardWriter(nil)
