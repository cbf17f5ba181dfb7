package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// firstLook and lastLook bound the time after which an event that waits for
	// another one of its task, which another Caddy may have, is looked at again.
	firstLook = 50 * time.Millisecond
	lastLook  = 2 * time.Second

	// lookTimeout bounds the looks at the events of one batch, as those that need
	// none wait for them. What was not found out by then is looked at again. Of
	// looksAtOnce at a time, few meet a server that stands still.
	lookTimeout = 2 * time.Second
	looksAtOnce = 64

	// passedOn is the time after which an event comes again that waits for
	// another one, when too many wait here.
	passedOn = 2 * time.Second
)

// Lease waits for events that are due.
func (s *store) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	if err := checkMax(max); err != nil {
		return nil, err
	}
	return s.Pick(ctx, inbox.Want{Max: max})
}

// awaitReady waits until the streams were checked, but not for long.
func (s *store) awaitReady(ctx context.Context) error {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	select {
	case <-s.ready:
		if s.closed() {
			return errClosed()
		}
		return nil
	case <-bounded.Done():
		if s.closed() {
			return errClosed()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return *s.setUpErr.Load()
	}
}

// leaseBatch returns leases of those events whose turn it is. It is not ended by
// whoever waits for them: what it has leased would be lost.
func (s *store) leaseBatch(batch []*candidate) []*inbox.Lease {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.life, min(s.publishTimeout(), lookTimeout))
	defer cancel()
	got := make([]*inbox.Lease, len(batch))
	var wg sync.WaitGroup
	places := make(chan struct{}, looksAtOnce)
	first := s.leaser.firstOfTasks(batch)
	for i, c := range batch {
		if s.isFirst(c) && !s.pick.mayHave(c.seq) {
			got[i] = s.leaseOf(&heldLease{candidate: c, history: history{}}, s.token())
			continue
		}
		if !c.again && !c.event.Status.Final() && first[c.id[:keyLength]] < c.seq {
			// Its turn comes after that of one that is here. It is not looked at,
			// as a look reads all events of the task.
			s.park(c, c.lookDelay())
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			got[i] = s.leaseOne(ctx, c)
		})
	}
	wg.Wait()
	var leases []*inbox.Lease
	for _, l := range got {
		if l != nil {
			leases = append(leases, l)
		}
	}
	return leases
}

// isFirst reports whether an event can be leased without a look at its task: it
// was never handed out, is the first of its task, and nothing supersedes it.
// Later ones wait for its end.
func (s *store) isFirst(c *candidate) bool {
	return !c.again && c.times == 1 && c.event.Status.Final() && !c.event.prev && c.event.origin == nil && !s.leaser.recheckNew.Load()
}

// token names one lease among those of all Caddys.
func (s *store) token() string {
	return fmt.Sprintf("%s.%d", s.instance, lastRef.Add(1))
}

// leaseOf makes the lease of an event; nil if it is leased here already.
func (s *store) leaseOf(h *heldLease, token string) *inbox.Lease {
	h.token = token
	h.lease = &inbox.Lease{Event: h.event.Event, Attempt: h.rec.Attempts + 1, Ref: lastRef.Add(1)}
	h.lease.Untried = !h.again && h.rec.Attempts == 0
	if !s.leaser.add(h) {
		if h.early {
			s.withdraw([]*heldLease{h})
			return nil
		}
		s.park(h.candidate, firstLook)
		return nil
	}
	return h.lease
}

// leaseOne finds out what is to be done with an event that was handed out.
func (s *store) leaseOne(ctx context.Context, c *candidate) *inbox.Lease {
	h, err := s.tryLease(ctx, c)
	if h != nil {
		return s.leaseOf(h, h.token)
	}
	if err != nil {
		wait := firstLook
		if !errors.Is(err, errConflict) && !s.closed() {
			s.log.Warn("an event cannot be looked at, it is tried again", zap.String("event", c.id), zap.Error(err))
			wait = c.lookDelay()
		}
		s.park(c, wait)
	}
	return nil
}

// lookDelay is how long to wait for the next look at an event: longer each time.
func (c *candidate) lookDelay() time.Duration { return min(firstLook<<min(c.waited, 8), lastLook) }

// park keeps the event here, or hands it back for a while if too many are here.
func (s *store) park(c *candidate, wait time.Duration) {
	if !s.leaser.park(c, wait, s.options.limits.parked) {
		_ = c.msg.NakWithDelay(passedOn)
	}
}

// tryLease returns a lease if it is the event's turn. If it is not, it has parked
// the event or has made sure that it need not come again.
func (s *store) tryLease(ctx context.Context, c *candidate) (*heldLease, error) {
	if s.leaser.holds(c.id) {
		s.park(c, firstLook) // it is settled just now
		return nil, nil
	}
	if s.isFirst(c) {
		// Unless it was leased out of turn.
		if m, err := s.last(ctx, s.subjects.states(), s.subjects.statesOf(c.id)); err != nil || m == nil {
			return &heldLease{candidate: c, token: s.token()}, err
		}
	}
	if !c.again && c.waited > 0 {
		if ended, err := s.hasEnded(ctx, c); ended || err != nil {
			return nil, err
		}
	}
	task, err := s.task(ctx, c.id)
	if err != nil {
		return nil, err
	}
	var me *member
	for _, m := range task {
		if m.ID == c.id {
			me = m
		}
	}
	if me == nil {
		return nil, s.dropPurged(ctx, c)
	}
	c.event = me.stored
	switch {
	case c.again && !c.isOf(me) && me.last < c.seq:
		// The replica that was asked does not know yet what this message is of.
		return nil, errConflict
	case !c.isOf(me):
		// Another message answers for the event.
		if c.again && me.last != c.seq {
			s.forgetRecords(ctx, []uint64{c.seq})
		}
		return nil, c.msg.Ack()
	case me.kind == none && me.origin != nil:
		if err := s.recordOrigin(ctx, me); err != nil {
			return nil, err
		}
		return nil, c.msg.Ack()
	case me.kind == leased && me.history.lease.Early && s.leaser.isClaimed(me.last, s.current.Load().lease):
		s.park(c, c.lookDelay())
		return nil, nil
	}
	outdated, gone, waits := arrange(task, c.id)
	if gone {
		if err := s.supersede(ctx, me); err != nil {
			return nil, err
		}
		s.leaser.wakeTask(c.id)
		return nil, c.msg.Ack()
	}
	for _, m := range outdated {
		if err := s.supersede(ctx, m); err != nil {
			return nil, err
		}
	}
	if left := time.Until(inbox.FromMicros(me.rec.Due)); me.kind == pending && left > 0 {
		return nil, s.postpone(ctx, c, me, left)
	}
	if waits {
		return nil, s.parkWaiting(ctx, c, me)
	}
	h, err := s.markLeased(ctx, c, me)
	if err != nil {
		return nil, err
	}
	free, err := s.unchanged(ctx, task, c.id, h.last)
	if err == nil && !free {
		free, err = s.stillFree(ctx, task, c.id)
	}
	if !free || err != nil {
		// Both may have stepped back: each comes again, and one is faster.
		me.kind, me.last, me.others = leased, h.last, h.others
		return nil, s.parkWaiting(ctx, c, me)
	}
	return h, nil
}

// unchanged reports whether the mark is the only record of a task that was
// written since its events were looked at. Two questions tell that, however
// many events the task has: which record is the next one, and which the last.
func (s *store) unchanged(ctx context.Context, task []*member, id string, mark uint64) (bool, error) {
	if len(task) == 1 {
		return true, nil
	}
	known := uint64(0)
	for _, m := range task {
		known = max(known, m.last)
	}
	of := s.subjects.taskStates(id)
	for _, request := range []map[string]any{{"seq": known + 1, "next_by_subj": of}, {"last_by_subj": of}} {
		if m, err := s.leaderGet(ctx, s.subjects.states(), request); err != nil || m == nil || m.seq != mark {
			return false, err
		}
	}
	return true, nil
}

// hasEnded reports whether an event that has waited here was superseded
// meanwhile, and if so has made sure that it need not come again.
func (s *store) hasEnded(ctx context.Context, c *candidate) (bool, error) {
	records, err := s.latest(ctx, s.subjects.states(), s.subjects.statesOf(c.id))
	if err != nil {
		return false, err
	}
	h, err := s.historyOf(c.event, records)
	if err != nil || h.newer || !h.kind.ended() {
		return false, err
	}
	s.leaser.wakeTask(c.id)
	return true, c.msg.Ack()
}

// stillFree reports whether no other event of the task goes before one that was
// just marked as leased. Another Caddy may have replayed one and leased it since
// it was looked at: whoever marks first and looks then cannot miss the other.
func (s *store) stillFree(ctx context.Context, task []*member, id string) (bool, error) {
	before := true
	for _, m := range task {
		if m.ID == id {
			before = false
			continue
		}
		last, err := s.last(ctx, s.subjects.states(), s.subjects.statesOf(m.ID))
		if err != nil {
			return false, err
		}
		k := none
		if last != nil {
			k = s.subjects.kindIn(last.subject)
		} else if m.origin != nil {
			k = m.origin.Kind
		}
		if k == leased || before && !k.ended() {
			return false, nil
		}
	}
	return true, nil
}

// isOf reports whether a message is the one that stands for its event: the
// event's own until there is a pending record, then that.
func (c *candidate) isOf(m *member) bool {
	switch {
	case m.kind.ended():
		return false
	case c.again:
		return m.base == c.seq
	default:
		return m.seq == c.seq && m.base == 0
	}
}

// dropPurged drops an event that was purged. If only the replica that answered
// does not know of it yet, it is looked at again.
func (s *store) dropPurged(ctx context.Context, c *candidate) error {
	m, err := s.last(ctx, s.subjects.stream, s.subjects.event(c.id))
	if err != nil {
		return err
	}
	if m != nil {
		return errConflict
	}
	if c.again {
		s.forgetRecords(ctx, []uint64{c.seq})
	}
	return c.msg.Ack()
}

func checkMax(n int) error {
	if n < 1 {
		return fmt.Errorf("lease of %d events; it must be at least 1", n)
	}
	return nil
}
