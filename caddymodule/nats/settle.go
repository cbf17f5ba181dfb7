package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// settleAtOnce is the number of outcomes of one call that are stored
// concurrently.
const settleAtOnce = 128

func (s *store) now() int64 { return time.Now().UnixMicro() }

// Settle ends leases. Each outcome is a message of its own. If some cannot be
// stored, the others are remembered, so that the call can be repeated.
func (q *queue) Settle(ctx context.Context, outcomes ...inbox.Outcome) error {
	for _, o := range outcomes {
		if o.Verdict < inbox.Deliver || o.Verdict > inbox.Release {
			return fmt.Errorf("verdict %d is none", o.Verdict)
		}
	}
	bounded, cancel, err := q.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	errs := make([]error, len(outcomes))
	records := make([]*settled, len(outcomes))
	leases := make([]*heldLease, len(outcomes))
	seen := map[*heldLease]bool{}
	var wg sync.WaitGroup
	places := make(chan struct{}, settleAtOnce)
	for i, o := range outcomes {
		var h *heldLease
		if o.Lease != nil {
			h = q.leaser.get(o.Lease.Ref)
		}
		if h == nil || h.lease != o.Lease || seen[h] {
			errs[i] = notHeld(o.Lease)
			continue
		}
		seen[h], leases[i] = true, h
		if h.ended == o.Verdict {
			continue // by an earlier call
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			records[i], errs[i] = q.settle(bounded, h, o)
		})
	}
	wg.Wait()
	var lost []error
	for _, err := range errs {
		switch {
		case errors.Is(err, inbox.ErrState):
			lost = append(lost, err)
		case err != nil:
			return q.failed(ctx, err)
		}
	}
	if err := q.finish(bounded, records); err != nil {
		return q.failed(ctx, err)
	}
	for i, h := range leases {
		if h != nil {
			q.leaser.remove(h)
			if errs[i] == nil {
				q.leaser.wakeTask(h.id)
				q.pick.wakeTask(h.id)
			}
		}
	}
	return errors.Join(lost...)
}

func notHeld(l *inbox.Lease) error {
	if l == nil || l.Event == nil {
		return fmt.Errorf("an outcome without a lease: %w", inbox.ErrState)
	}
	return fmt.Errorf("lease of event %s is not held: %w", l.Event.ID, inbox.ErrState)
}

// settled is a lease of which the outcome was recorded.
type settled struct {
	*heldLease
	verdict inbox.Verdict
	member  *member  // the delivery with the record; nil if it was just returned to the server
	others  []uint64 // records that it replaces
}

// settle stores the outcome of one lease. If it need not be concluded, it then
// acknowledges its message.
func (q *queue) settle(ctx context.Context, h *heldLease, o inbox.Outcome) (*settled, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k, rec, err := q.outcome(ctx, h, o)
	if err != nil {
		return nil, err
	}
	if !k.ended() {
		h.blind.Store(true) // whoever ends it later looks
	}
	if k == none {
		if err := q.handBack(ctx, h); err != nil {
			return nil, err
		}
		h.ended = o.Verdict
		return nil, nil //nolint:nilnil // there is no record
	}
	m, others, err := q.writeOutcome(ctx, h, o.Verdict, k, rec)
	if err == nil && k == dead && !h.marked {
		err = q.checkDeadExists(ctx, h, m)
	}
	if errors.Is(err, inbox.ErrState) {
		err = cmp.Or(q.concludeLost(ctx, h), err)
	}
	if err != nil {
		return nil, err
	}
	h.blind.Store(true)
	done := &settled{h, o.Verdict, m, others}
	if k.ended() && m.at != q.subjects.home() {
		return done, nil
	}
	q.acknowledge(ctx, done)
	return nil, nil //nolint:nilnil // it is done
}

// finish writes down what the ends of deliveries mean for their events, and then
// acknowledges their messages. After a crash in between, they are handed out again, and
// their records say that they were settled.
func (q *queue) finish(ctx context.Context, records []*settled) error {
	var members []*member
	for _, r := range records {
		if r != nil {
			members = append(members, r.member)
		}
	}
	if len(members) == 0 {
		return nil
	}
	if err := q.concludeAll(ctx, members); err != nil {
		return err
	}
	for _, r := range records {
		if r != nil {
			q.acknowledge(ctx, r)
		}
	}
	return nil
}

func (q *queue) acknowledge(ctx context.Context, r *settled) {
	q.forgetRecords(ctx, r.member.at, r.others)
	_ = q.leaser.messageOf(r.heldLease).Ack()
	r.heldLease.ended = r.verdict
}

// writeOutcome stores the record of an outcome. It returns the event with it, and the
// sequences of the records that it replaces. If there are records that the lease
// does not know of, it finds out whether the lease still holds.
func (q *queue) writeOutcome(ctx context.Context, h *heldLease, v inbox.Verdict, k kind, rec record) (done *member, others []uint64, err error) {
	at, after, others := h.history.at, h.last, h.others
	var seq uint64
	for wait := conflictWait; ; wait = min(2*wait, 50*time.Millisecond) {
		err = q.tryOnce(ctx, func(ctx context.Context) (err error) {
			seq, err = q.writeRecord(ctx, at, k, h.id, rec, after)
			return err
		})
		if errors.Is(err, errUnanswered) {
			continue // if it was stored after all, the next try finds that out
		}
		if !errors.Is(err, errConflict) {
			done = &member{stored: h.event, history: history{at: at, kind: k, rec: rec, last: seq}}
			return done, others, err
		}
		m, err := q.find(ctx, h.id)
		switch {
		case errors.Is(err, inbox.ErrNotFound):
			return nil, nil, notHeld(h.lease)
		case err != nil:
			return nil, nil, err
		case m.kind == leased && m.history.lease.By == h.token && (m.at != at || m.last > after):
			// The lease was renewed, but the answer was lost.
		case m.kind != leased && m.rec.By == h.token:
			return m, m.others[:len(m.others)-1], nil // it was stored, only the answer was lost
		case m.at == at && m.last <= after:
			// The conflicting record is not stored yet, or not visible here
			// yet.
			if !sleep.For(ctx, wait) {
				return nil, nil, ctx.Err()
			}
			continue
		case m.seq != h.event.seq, m.kind == delivered, m.kind == dead:
			return nil, nil, notHeld(h.lease)
		case !h.marked && m.kind == leased && m.history.lease.Early:
			// It was handed to this inbox before, so the other one withdraws.
		case v != inbox.Deliver && (h.marked || m.kind != none):
			return nil, nil, notHeld(h.lease)
		}
		// Either a slow inbox lost the lease but delivered the event, or the
		// records are of an earlier event with the same id.
		at, after, others = m.at, m.last, m.others
	}
}

// checkDeadExists makes sure that the event of a dead record exists. A lease
// without a record is invisible to other Caddys: one may have purged the event,
// and the record would stay and be counted for ever.
func (q *queue) checkDeadExists(ctx context.Context, h *heldLease, written *member) error {
	m, err := q.last(ctx, q.subjects.stream, q.subjects.event(h.id))
	if err != nil || m != nil && m.seq == h.event.seq {
		return err
	}
	q.forgetRecords(ctx, written.at, []uint64{written.last})
	return notHeld(h.lease)
}

// outcome returns the record of an outcome, and its kind: none if the event is
// just returned to the server.
func (q *queue) outcome(ctx context.Context, h *heldLease, o inbox.Outcome) (kind, record, error) {
	rec := h.rec
	rec.Event, rec.Received, rec.By, rec.Base, rec.Due = h.event.seq, inbox.Micros(h.event.ReceivedAt), h.token, 0, 0
	if o.Verdict != inbox.Release {
		rec.Attempts++
		rec.Log = append(slices.Clip(rec.Log), attemptOf(o.Attempt))
		rec.keep(q.options.limits.attempts)
	}
	switch o.Verdict {
	case inbox.Deliver:
		rec.Settled = q.now()
		return delivered, rec, nil
	case inbox.GiveUp:
		rec.Settled = q.now()
		return dead, rec, nil
	default:
	}
	if !h.event.Status.Final() {
		final, err := q.finalExists(ctx, h.id)
		if err != nil {
			return none, rec, err
		}
		if final {
			rec.Settled = q.now()
			return superseded, rec, nil
		}
	}
	if o.Due.After(time.Now()) {
		rec.Due = inbox.Micros(o.Due)
	} else if o.Verdict == inbox.Release && (!h.marked || h.lease.Untried) {
		return none, rec, nil
	}
	return pending, rec, nil
}
