package sqlite

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// lastWaiting returns the newest blocked event of a task.
const lastWaiting = `SELECT e.status FROM delivery$ d JOIN events e ON e.seq = d.seq
	WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? ORDER BY d.seq DESC LIMIT 1`

// findYielding finds events that must not be leased before their task was put
// in order: they were leased by an inbox that has ended since, and meanwhile an
// event of their task was blocked that goes first.
func (l *leaser) findYielding(f *scanResult) error {
	if l.view.Load().rows[blocked] == 0 {
		return nil
	}
	for _, h := range f.found {
		yields, err := l.mustYield(h)
		if err != nil {
			return err
		}
		if yields {
			f.yielding = append(f.yielding, h)
		}
	}
	return nil
}

// mustYield reports whether a blocked event of the task goes before h: an older
// one, or a final one if h is in progress. Only the first and the last blocked
// event are looked at, because there may be very many: once a final event is
// stored, later in-progress ones are not blocked but superseded.
func (l *leaser) mustYield(h *heldLease) (bool, error) {
	e := h.lease.Event
	first, err := l.conn.number(l.sql(firstWaiting), h.key, e.TaskID)
	if err != nil || first == 0 || first < h.seq() || e.Status.Final() {
		return first != 0 && first < h.seq(), err
	}
	status, err := l.conn.number(l.sql(lastWaiting), h.key, e.TaskID)
	return inbox.Status(status).Final(), err //nolint:gosec // as it was stored
}

// reorder makes the writer put the tasks of these leases in order.
func (l *leaser) reorder(ctx context.Context, yielding []*heldLease) error {
	return l.submit(&reorder{request: newRequest(ctx), queue: l.queue, leases: yielding})
}

// reorder is the request to put tasks in order.
type reorder struct {
	request
	queue  *queue
	leases []*heldLease
}

func (r *reorder) apply(t *tx) error {
	r.err = nil
	for _, h := range r.leases {
		if err := t.orderWaiting(r.queue, h.key, h.lease.Event.TaskID); err != nil {
			return err
		}
	}
	return nil
}

func (r *reorder) grows() bool { return false }
