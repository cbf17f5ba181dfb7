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
	// firstLook and lastLook bound the time after which an event is looked at
	// again that waits for another one of its task.
	firstLook = 50 * time.Millisecond
	lastLook  = 2 * time.Second

	// lookTimeout bounds the looks at one batch, because events that need none
	// wait for them. Events left over are looked at again. With looksAtOnce
	// looks at a time, few meet a server that stands still.
	lookTimeout = 2 * time.Second
	looksAtOnce = 64

	// passedOn is the time after which a waiting event is handed out again, if
	// too many wait here.
	passedOn = 2 * time.Second
)

// Lease waits until events are due.
func (s *store) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	if err := checkMax(max); err != nil {
		return nil, err
	}
	return s.Pick(ctx, inbox.Want{Max: max})
}

// awaitReady waits until the streams are set up, but no longer than the publish
// timeout.
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

// leaseBatch leases the events of a batch whose turn it is. It does not end
// with the context of the caller, or leases would be lost.
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
			got[i] = s.leaseOf(ctx, &heldLease{candidate: c, history: history{}}, s.token())
			continue
		}
		if !c.again && !c.event.Status.Final() && first[c.id[:keyLength]] < c.seq {
			// An earlier event of its task is here. A look would read all
			// events of the task, so there is none.
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

// isFirst reports whether an event can be leased without a look at its
// task: it was never handed out before, is the first of its task, and nothing
// can supersede it. Later events wait for it.
func (s *store) isFirst(c *candidate) bool {
	return !c.again && c.times == 1 && c.event.Status.Final() && !c.event.prev && c.event.origin == nil && !s.leaser.recheckNew.Load()
}

// token returns a name for a lease that no other Caddy uses.
func (s *store) token() string {
	return fmt.Sprintf("%s.%d", s.instance, lastRef.Add(1))
}

// leaseOf creates the lease of an event; nil if the event is leased here
// already.
func (s *store) leaseOf(ctx context.Context, h *heldLease, token string) *inbox.Lease {
	h.token = token
	h.lease = &inbox.Lease{Event: h.event.Event, Attempt: h.rec.Attempts + 1, Ref: lastRef.Add(1)}
	h.lease.Untried = !h.again && h.rec.Attempts == 0
	if !s.leaser.add(h) {
		if h.early {
			s.withdraw(ctx, []*heldLease{h})
			return nil
		}
		s.park(h.candidate, firstLook)
		return nil
	}
	return h.lease
}

// leaseOne leases an event if it is its turn, and otherwise decides what to do
// with it.
func (s *store) leaseOne(ctx context.Context, c *candidate) *inbox.Lease {
	h, err := s.tryLease(ctx, c)
	if h != nil {
		return s.leaseOf(ctx, h, h.token)
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

// lookDelay returns the time until the next look at the event, which grows with
// the number of looks.
func (c *candidate) lookDelay() time.Duration { return min(firstLook<<min(c.waited, 8), lastLook) }

// park keeps an event here for a while, or returns it to the server for a while
// if too many are here.
func (s *store) park(c *candidate, wait time.Duration) {
	if !s.leaser.park(c, wait, s.options.limits.parked) {
		_ = c.msg.NakWithDelay(passedOn)
	}
}

// tryLease returns a lease if it is the event's turn. Otherwise it parks or
// postpones the event, or acknowledges its message if that need not be handed
// out again.
func (s *store) tryLease(ctx context.Context, c *candidate) (*heldLease, error) {
	if s.leaser.holds(c.id) {
		s.park(c, firstLook) // it is just being settled
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
		// The replica does not have the record yet that this message is.
		return nil, errConflict
	case !c.isOf(me):
		// Another message stands for the event.
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
		// Another Caddy may have done the same: both retry, and one will be
		// faster.
		me.kind, me.last, me.others = leased, h.last, h.others
		return nil, s.parkWaiting(ctx, c, me)
	}
	return h, nil
}

// unchanged reports whether the mark is the only record of the task that was
// written since its events were read. Two queries suffice for any number of
// events: one for the next record, one for the last.
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

// hasEnded reports whether a parked event was superseded meanwhile. If so, its
// message is acknowledged.
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
// just marked as leased. Another Caddy may have replayed and leased one since
// the task was read. As each marks first and looks then, at least one sees the
// other.
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

// isOf reports whether the message stands for the event: that is the event's
// own message until there is a pending record, and then that record.
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

// missingFor is the time for which an event has to be missing before it is taken
// to be purged. A server that has just become the leader, or has just come back, may
// not know of all events yet.
const missingFor = 5 * time.Second

// dropPurged acknowledges the message of an event that was purged. If the event
// is only missing on the server that answered, it is looked at again: once it is
// acknowledged, nothing would bring it back.
func (s *store) dropPurged(ctx context.Context, c *candidate) error {
	m, err := s.last(ctx, s.subjects.stream, s.subjects.event(c.id))
	if err != nil {
		return err
	}
	if m != nil {
		c.missing = time.Time{}
		return errConflict
	}
	if c.missing.IsZero() {
		c.missing = time.Now()
	}
	if time.Since(c.missing) < missingFor {
		s.park(c, c.lookDelay())
		return nil
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
