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

// noteTrace stores the trace with the event if Caddy's tracing handler is on
// the way of the request. A traceparent that only the caller sent is not his to
// give: without the handler it is ignored.
func (h *Handler) noteTrace(r *http.Request, e *inbox.Event) {
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

// tracerSource is where the tracing handler's tracers come from.
type tracerSource struct{ trace.TracerProvider }

// tracerProvider returns where the spans of attempts come from, nil as long as
// that is not known.
func (h *Handler) tracerProvider() trace.TracerProvider {
	if source := h.tracers.Load(); source != nil {
		return source.TracerProvider
	}
	return nil
}

// findTracers looks for a tracing handler on the routes of the handler's server,
// so that events of before a restart are traced before a callback has come.
func (h *Handler) findTracers() {
	if h.server == nil {
		return
	}
	tracer := tracingIn(h.server.Routes)
	if tracer == nil {
		return
	}
	// It gives its tracers only to those whom it serves. The parent of the
	// request made for that is not sampled, so that it is not traced itself.
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{
		"Traceparent": {"00-" + unsampledTrace + "-00"},
	}}
	w := make(unheard)
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

// unheard is the http.ResponseWriter of a request that nobody sent: all that
// counts is what handlers make of it.
type unheard http.Header

// Header implements http.ResponseWriter.
func (w unheard) Header() http.Header { return http.Header(w) }

// Write implements http.ResponseWriter.
func (unheard) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (unheard) WriteHeader(int) {}

// Interface guard
var _ http.ResponseWriter = unheard(nil)
