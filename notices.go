package fotorwebhook

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// arrivals are the callbacks that are being stored. A delivery may be over
// before the request that brought the callback goes on: whoever comes first
// tells that it was accepted, so that this is always told before the rest.
type arrivals struct {
	mu     sync.Mutex
	untold map[arrival]control.Notice
}

// arrival is the event of one request.
type arrival struct {
	id string
	at int64 // in µs
}

func arrivalOf(e *inbox.Event) arrival { return arrival{e.ID, e.ReceivedAt.UnixMicro()} }

// begin notes that the event of a request is about to be stored.
func (a *arrivals) begin(e *inbox.Event, source netip.Addr) {
	n := noticeOf(control.Accepted, e)
	n.SourceIP = source.String()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.untold == nil {
		a.untold = make(map[arrival]control.Notice)
	}
	a.untold[arrivalOf(e)] = n
}

// end takes an event out and returns its notice, if that was not told yet.
func (a *arrivals) end(e *inbox.Event) (n control.Notice, ok bool) {
	key := arrivalOf(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok = a.untold[key]
	delete(a.untold, key)
	return n, ok
}

// tellAccepted tells that an event was stored, unless that was told.
func (d *desk) tellAccepted(e *inbox.Event) {
	if n, ok := d.arrivals.end(e); ok {
		d.feed.Publish(n)
	}
}

// put stores an event and tells of it. One that was stored before gets the id
// that it has there, which may be a former one.
func (h *Handler) put(ctx context.Context, st *station, e *inbox.Event, source netip.Addr) (duplicate bool, err error) {
	h.desk.arrivals.begin(e, source)
	duplicateOf, err := st.inbox.Put(ctx, e)
	switch {
	case err != nil:
		h.desk.arrivals.end(e)
	case duplicateOf != "":
		h.desk.arrivals.end(e)
		e.ID = duplicateOf
	default:
		h.desk.tellAccepted(e)
	}
	return duplicateOf != "", err
}

// tellQuarantined tells that a callback was not valid. What was kept has no id if
// that was nothing.
func (h *Handler) tellQuarantined(kept *inbox.Suspect, source netip.Addr, reason string, problems int) {
	h.desk.feed.Publish(control.Notice{
		Kind:         control.InQuarantine,
		QuarantineID: kept.ID,
		Count:        kept.Count,
		SourceIP:     source.String(),
		Problems:     problems,
		Reason:       reason,
	})
}

func noticeOf(kind string, e *inbox.Event) control.Notice {
	return control.Notice{Kind: kind, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status.String()}
}

// observer logs, counts and tells what the dispatcher does: one line for each
// attempt.
type observer struct {
	logger  *zap.Logger
	metrics *handlerMetrics
	desk    *desk
}

// verdicts is how each verdict is told.
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
	o.metrics.attempted(verdict, took, age)
	o.tell(lease, &r, verdict, due, took)
	line := o.logger.Check(verdicts[verdict].level, verdicts[verdict].text)
	if line == nil {
		return
	}
	fields := eventFields(e,
		zap.Int("attempt", lease.Attempt),
		zap.Int("upstream_status", r.Status),
		zap.Duration("took", took),
		zap.Duration("age", age))
	if verdict != inbox.Deliver {
		fields = append(fields, zap.String("reason", cut(r.Reason)))
	}
	if !due.IsZero() {
		fields = append(fields, zap.Time("due", due))
	}
	line.Write(fields...)
}

func (o observer) tell(lease *inbox.Lease, r *dispatch.Result, verdict inbox.Verdict, due time.Time, took time.Duration) {
	if lease.Attempt == 1 {
		o.desk.tellAccepted(lease.Event)
	}
	n := noticeOf(verdicts[verdict].kind, lease.Event)
	n.Attempt, n.UpstreamStatus, n.DurationMS = lease.Attempt, r.Status, control.Milliseconds(took)
	if verdict != inbox.Deliver {
		n.Reason = r.Reason
	}
	if !due.IsZero() {
		due = due.UTC()
		n.Due = &due
	}
	o.desk.feed.Publish(n)
}

// Held implements dispatch.Observer.
func (o observer) Held(h dispatch.Holding) {
	n := control.Notice{Kind: control.Held, By: holder(h), Reason: h.Reason}
	fields := []zap.Field{zap.String("reason", cut(h.Reason))}
	if h.ByHand {
		fields = append(fields, zap.Time("since", h.Since))
	}
	if !h.Until.IsZero() {
		until := h.Until.UTC()
		n.Until = &until
		fields = append(fields, zap.Time("until", h.Until))
	}
	o.desk.feed.Publish(n)
	if h.ByHand {
		o.logger.Info("deliveries are held by hand", fields...)
	} else {
		o.logger.Warn("upstream is in trouble; deliveries are held", fields...)
	}
}

// Prolonged implements dispatch.Observer. There is a line for the attempt.
func (o observer) Prolonged(dispatch.Holding) {}

// Resumed implements dispatch.Observer.
func (o observer) Resumed(h dispatch.Holding, after time.Duration) {
	o.desk.feed.Publish(control.Notice{Kind: control.Resumed, By: holder(h), Reason: h.Reason, DurationMS: control.Milliseconds(after)})
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
