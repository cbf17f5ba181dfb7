package forward

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

const tracerName = "github.com/fotor-webhook/caddy-fotor-webhook"

var traceContext propagation.TraceContext

// traced makes an attempt with a span, whose parent is the span of the callback.
func (f *Forwarder) traced(ctx context.Context, lease *inbox.Lease, tracers trace.TracerProvider) dispatch.Result {
	e := lease.Event
	carrier := propagation.MapCarrier{"traceparent": e.TraceParent, "tracestate": e.TraceState}
	ctx, span := tracers.Tracer(tracerName).Start(traceContext.Extract(ctx, carrier), "fotor_webhook deliver",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("fotor_webhook.handler", f.options.Handler),
			attribute.String("fotor_webhook.destination", f.options.Destination),
			attribute.String("fotor_webhook.event.id", e.ID),
			attribute.String("fotor_webhook.task.id", logfield.Cut(e.TaskID)),
			attribute.String("fotor_webhook.task.type", logfield.Cut(e.Type)),
			attribute.String("fotor_webhook.task.status", e.Status.String()),
			attribute.Int("fotor_webhook.attempt", lease.Attempt)))
	defer span.End()
	r := f.sender.attempt(ctx, lease)
	if r.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", r.Status))
	}
	if r.Reason != "" {
		span.SetStatus(codes.Error, logfield.Cut(r.Reason))
	}
	return r
}

// passTrace adds the trace of an event to the request of an attempt. The parent is the
// attempt's span, or the callback's if the attempt has none.
func passTrace(ctx context.Context, e *inbox.Event, header http.Header) {
	if e.TraceParent == "" {
		return
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		traceContext.Inject(ctx, propagation.HeaderCarrier(header))
		return
	}
	header.Set("Traceparent", e.TraceParent)
	if e.TraceState != "" {
		header.Set("Tracestate", e.TraceState)
	}
}
