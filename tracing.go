package fotorwebhook

import (
	"context"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/tracing"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// The headers of W3C Trace Context.
const (
	headerTraceParent = "Traceparent"
	headerTraceState  = "Tracestate"
)

// maxTraceState is the length that W3C Trace Context (3.3.1.5) asks to pass on.
const maxTraceState = 512

var traceContext propagation.TraceContext

// noteTrace stores the trace with the event if Caddy's tracing handler is on
// the way of the request. A traceparent that only the caller sent is not his to
// give: without the handler it is ignored.
func (h *Handler) noteTrace(r *http.Request, e *inbox.Event) {
	span := trace.SpanFromContext(r.Context())
	if !span.SpanContext().IsValid() {
		return
	}
	h.tracers.CompareAndSwap(nil, &tracerSource{span.TracerProvider()})
	header := make(http.Header, 2)
	traceContext.Inject(r.Context(), propagation.HeaderCarrier(header))
	e.TraceParent = header.Get(headerTraceParent)
	if state := header.Get(headerTraceState); len(state) <= maxTraceState {
		e.TraceState = state
	}
}

// tracerSource is where the tracing handler's tracers come from.
type tracerSource struct{ trace.TracerProvider }

const tracerName = "github.com/fotor-webhook/caddy-fotor-webhook"

// attempt makes one delivery attempt, as a span of its own if the event's
// callback was traced.
func (h *Handler) attempt(ctx context.Context, lease *inbox.Lease) dispatch.Result {
	e := lease.Event
	tracers := h.tracers.Load()
	if e.TraceParent == "" || tracers == nil {
		return h.attempter.attempt(ctx, lease)
	}
	carrier := propagation.MapCarrier{"traceparent": e.TraceParent, "tracestate": e.TraceState}
	ctx, span := tracers.Tracer(tracerName).Start(traceContext.Extract(ctx, carrier), "fotor_webhook deliver",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("fotor_webhook.handler", h.Name),
			attribute.String("fotor_webhook.event.id", e.ID),
			attribute.String("fotor_webhook.task.id", logfield.Cut(e.TaskID)),
			attribute.String("fotor_webhook.task.type", logfield.Cut(e.Type)),
			attribute.String("fotor_webhook.task.status", e.Status.String()),
			attribute.Int("fotor_webhook.attempt", lease.Attempt)))
	defer span.End()
	r := h.attempter.attempt(ctx, lease)
	if r.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", r.Status))
	}
	if r.Reason != "" {
		span.SetStatus(codes.Error, logfield.Cut(r.Reason))
	}
	return r
}

// passTrace lets the trace of the event go on in the request of an attempt: from
// the attempt's span, or from the callback's if the attempt has none.
func passTrace(ctx context.Context, e *inbox.Event, header http.Header) {
	if e.TraceParent == "" {
		return
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		traceContext.Inject(ctx, propagation.HeaderCarrier(header))
		return
	}
	header.Set(headerTraceParent, e.TraceParent)
	if e.TraceState != "" {
		header.Set(headerTraceState, e.TraceState)
	}
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
		headerTraceParent: {"00-" + unsampledTrace + "-00"},
	}}
	w := &answerWriter{header: make(http.Header)}
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
