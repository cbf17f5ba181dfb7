package gateway

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// observer logs, counts and publishes what a lane's dispatcher does. Each attempt has
// one line in the log.
type observer struct {
	logger      *zap.Logger
	destination string
	metrics     DestinationMetrics
	journal     *Journal
}

// verdicts is how each verdict is published and logged.
var verdicts = map[inbox.Verdict]struct {
	kind  string
	level zapcore.Level
	text  string
}{
	inbox.Deliver: {control.Delivered, zap.InfoLevel, "event delivered"},
	inbox.GiveUp:  {control.Dead, zap.ErrorLevel, "event is dead"},
	inbox.Release: {control.GivenBack, zap.WarnLevel, "attempt failed, not counted"},
	inbox.Retry:   {control.Retried, zap.WarnLevel, "attempt failed"},
}

// Attempted implements dispatch.Observer.
func (o observer) Attempted(lease *inbox.Lease, r dispatch.Result, verdict inbox.Verdict, due time.Time, took time.Duration) {
	e := lease.Event
	age := time.Since(e.ReceivedAt)
	o.metrics.Attempted(verdict, took, age)
	o.journal.past.attempted(o.destination, verdict, age)
	o.publish(lease, &r, verdict, due, took)
	line := o.logger.Check(verdicts[verdict].level, verdicts[verdict].text)
	if line == nil {
		return
	}
	fields := logfield.Event(e,
		zap.Int("attempt", lease.Attempt),
		zap.Int("upstream_status", r.Status),
		zap.Duration("took", took),
		zap.Duration("age", age))
	if verdict != inbox.Deliver {
		fields = append(fields, zap.String("reason", logfield.Cut(r.Reason)))
	}
	if !due.IsZero() {
		fields = append(fields, zap.Time("due", due))
	}
	line.Write(fields...)
}

func (o observer) publish(lease *inbox.Lease, r *dispatch.Result, verdict inbox.Verdict, due time.Time, took time.Duration) {
	if lease.Attempt == 1 {
		o.journal.arrivals.accepted(lease.Event, o.journal.feed.Publish)
	}
	n := noticeOf(verdicts[verdict].kind, lease.Event)
	n.Destination = o.destination
	n.Attempt, n.UpstreamStatus, n.DurationMS = lease.Attempt, r.Status, control.Milliseconds(took)
	if verdict != inbox.Deliver {
		n.Reason = r.Reason
	}
	if !due.IsZero() {
		due = due.UTC()
		n.Due = &due
	}
	o.journal.feed.Publish(n)
}

// Held implements dispatch.Observer.
func (o observer) Held(h dispatch.Holding) {
	n := control.Notice{Kind: control.Held, Destination: o.destination, By: holder(h), Reason: h.Reason}
	fields := []zap.Field{zap.String("reason", logfield.Cut(h.Reason))}
	if h.ByHand {
		fields = append(fields, zap.Time("since", h.Since))
	}
	if !h.Until.IsZero() {
		until := h.Until.UTC()
		n.Until = &until
		fields = append(fields, zap.Time("until", h.Until))
	}
	o.journal.feed.Publish(n)
	if h.ByHand {
		o.logger.Info("deliveries are held by hand", fields...)
	} else {
		o.logger.Warn("upstream is in trouble; deliveries are held", fields...)
	}
}

// Prolonged implements dispatch.Observer. The attempt has a line already.
func (o observer) Prolonged(dispatch.Holding) {}

// Resumed implements dispatch.Observer.
func (o observer) Resumed(h dispatch.Holding, after time.Duration) {
	o.journal.feed.Publish(control.Notice{
		Kind: control.Resumed, Destination: o.destination, By: holder(h), Reason: h.Reason, DurationMS: control.Milliseconds(after),
	})
	if h.ByHand {
		o.logger.Info("hold by hand ended; deliveries go on", zap.Duration("held", after))
	} else {
		o.logger.Info("upstream is back; deliveries go on", zap.Duration("held", after))
	}
}

// Trouble implements dispatch.Observer.
func (o observer) Trouble(err error) {
	o.logger.Error("deliveries: inbox", zap.Error(err))
}

func holder(h dispatch.Holding) string {
	if h.ByHand {
		return control.ByOperator
	}
	return control.ByUpstream
}
