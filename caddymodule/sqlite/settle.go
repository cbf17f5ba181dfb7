package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// settle is the request to end leases.
type settle struct {
	request
	queue    *queue
	outcomes []inbox.Outcome
}

// Settle ends leases.
func (q *queue) Settle(ctx context.Context, outcomes ...inbox.Outcome) error {
	for _, o := range outcomes {
		if o.Verdict < inbox.Deliver || o.Verdict > inbox.Release {
			return fmt.Errorf("verdict %d of %s is none of Deliver, Retry, GiveUp and Release", o.Verdict, leaseName(o.Lease))
		}
	}
	if len(outcomes) == 0 {
		return nil
	}
	err := q.submit(&settle{request: newRequest(ctx), queue: q, outcomes: outcomes})
	if errors.Is(err, inbox.ErrBroken) {
		return q.errClosed() // retrying is useless
	}
	return err
}

func leaseName(l *inbox.Lease) string {
	if l == nil || l.Event == nil {
		return "an outcome without a lease"
	}
	return "event " + l.Event.ID
}

func (r *settle) apply(t *tx) error {
	r.err = nil
	var unknown []error
	c := t.of(r.queue)
	for i := range r.outcomes {
		o := &r.outcomes[i]
		h := r.queue.leases.get(o.Lease)
		if h != nil {
			if _, ended := c.settled[h.seq()]; ended {
				h = nil
			}
		}
		if h == nil {
			unknown = append(unknown, fmt.Errorf("%w: the lease of %s is not held", inbox.ErrState, leaseName(o.Lease)))
			continue
		}
		if err := t.settle(c, h, o); err != nil {
			return err
		}
	}
	r.err = errors.Join(unknown...)
	return nil
}

func (r *settle) grows() bool { return false }

const (
	insertSettled = `INSERT INTO delivery$ (state, attempts, due, settled_at, last_at, last_duration, last_status, last_reason, seq)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateSettled = `UPDATE delivery$ SET state = ?, attempts = ?, due = ?, settled_at = ?,
		last_at = ?, last_duration = ?, last_status = ?, last_reason = ? WHERE seq = ?`
	insertReleased = `INSERT INTO delivery$ (state, due, seq) VALUES (?, ?, ?)`
	updateReleased = `UPDATE delivery$ SET state = ?, due = ? WHERE seq = ?`
)

// settle stores the outcome of one lease.
func (t *tx) settle(c *change, h *heldLease, o *inbox.Outcome) error {
	to, due := retry, t.now
	switch o.Verdict {
	case inbox.Deliver:
		to = delivered
	case inbox.GiveUp:
		to = dead
	case inbox.Release:
		if o.Lease.Untried && o.Due.IsZero() {
			to = ready // it was not even tried, and keeps its place
			c.becomesReady(h.seq())
		}
	default: // Retry
	}
	if !o.Due.IsZero() {
		due = max(1, o.Due.UnixMicro())
	}
	var err error
	if o.Verdict == inbox.Release {
		query := updateReleased
		if h.fresh {
			query = insertReleased
		}
		err = t.c.exec(c.queue.sql(query), int64(to), due, h.seq())
	} else {
		err = t.settleAttempt(c.queue, h, o, to, due)
	}
	if err != nil {
		return err
	}
	if c.settled == nil {
		c.settled = make(map[int64]struct{})
	}
	c.settled[h.seq()] = struct{}{}
	if err := t.changed(c.queue, h.seq(), h.state, h.fresh, to); err != nil {
		return err
	}
	return t.orderWaiting(c.queue, h.key, o.Lease.Event.TaskID)
}

// settleAttempt stores the outcome of an attempt that counts.
func (t *tx) settleAttempt(q *queue, h *heldLease, o *inbox.Outcome, to state, due int64) error {
	count := h.attempts + 1
	var settledAt int64
	if to.ended() {
		due, settledAt = 0, t.now
	}
	a := o.Attempt
	reason := clip.Text(a.Reason, inbox.MaxReason)
	if to != delivered {
		if err := t.keepAttempt(q, h.seq(), count, &a, reason); err != nil {
			return err
		}
	}
	query := updateSettled
	if h.fresh {
		query = insertSettled
	}
	return t.c.exec(q.sql(query), int64(to), int64(count), due, settledAt, inbox.Micros(a.At), int64(a.Duration), int64(a.Status), reason, h.seq())
}
