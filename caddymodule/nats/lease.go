package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
func (q *queue) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	if err := checkMax(max); err != nil {
		return nil, err
	}
	return q.Pick(ctx, inbox.Want{Max: max})
}

// awaitReady waits until the streams are set up, but no longer than the publish
// timeout.
func (q *queue) awaitReady(ctx context.Context) error {
	bounded, cancel := q.bound(ctx)
	defer cancel()
	select {
	case <-q.ready:
		if q.closed() {
			return errClosed()
		}
		return nil
	case <-bounded.Done():
		if q.closed() {
			return errClosed()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return *q.setUpErr.Load()
	}
}

// leaseBatch leases the events of a batch whose turn it is. It does not end
// with the context of the caller, or leases would be lost.
func (q *queue) leaseBatch(batch []*candidate) []*inbox.Lease {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.life, min(q.publishTimeout(), lookTimeout))
	defer cancel()
	got := make([]*inbox.Lease, len(batch))
	var wg sync.WaitGroup
	places := make(chan struct{}, looksAtOnce)
	first := q.leaser.firstOfTasks(batch)
	for i, c := range batch {
		if q.isFirst(c) && !q.pick.mayHave(c.seq) {
			got[i] = q.leaseOf(ctx, &heldLease{candidate: c, history: history{at: q.placeOf(c.event)}}, q.token())
			continue
		}
		if !c.again && !c.event.Status.Final() && first[c.id[:keyLength]] < c.seq {
			// An earlier event of its task is here. A look would read all
			// events of the task, so there is none.
			q.park(c, c.lookDelay())
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			got[i] = q.leaseOne(ctx, c)
		})
	}
	wg.Wait()
	q.leaser.done(batch...)
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
func (q *queue) isFirst(c *candidate) bool {
	return !c.again && c.times == 1 && c.event.Status.Final() && !c.event.prev && c.event.originAt(q.name) == nil && !q.leaser.recheckNew.Load()
}

// token returns a name for a lease that no other Caddy uses.
func (q *queue) token() string {
	return fmt.Sprintf("%s.%d", q.instance, lastRef.Add(1))
}

// leaseOf creates the lease of an event; nil if the event is leased here
// already.
func (q *queue) leaseOf(ctx context.Context, h *heldLease, token string) *inbox.Lease {
	h.token = token
	h.lease = &inbox.Lease{Event: h.event.Event, Attempt: h.rec.Attempts + 1, Replay: h.rec.replayed(), Ref: lastRef.Add(1)}
	h.lease.Untried = !h.again && h.rec.Attempts == 0
	if !q.leaser.add(h) {
		if h.early {
			q.withdraw(ctx, []*heldLease{h})
			return nil
		}
		q.park(h.candidate, h.lookDelay())
		return nil
	}
	return h.lease
}

// leaseOne leases an event if it is its turn, and otherwise decides what to do
// with it.
func (q *queue) leaseOne(ctx context.Context, c *candidate) *inbox.Lease {
	h, err := q.tryLease(ctx, c)
	if h != nil {
		return q.leaseOf(ctx, h, h.token)
	}
	if err != nil {
		wait := firstLook
		if !errors.Is(err, errConflict) && !q.closed() {
			q.warnUnlooked(c.id, err)
			wait = c.lookDelay()
		}
		q.park(c, wait)
	}
	return nil
}

// lookDelay returns the time until the next look at the event, which grows with
// the number of looks.
func (c *candidate) lookDelay() time.Duration { return min(firstLook<<min(c.waited, 8), lastLook) }

// park keeps an event here for a while, or returns it to the server for a while
// if too many are here.
func (q *queue) park(c *candidate, wait time.Duration) {
	if !q.leaser.park(c, wait, q.options.limits.parked) {
		_ = c.msg.NakWithDelay(passedOn)
	}
}

// tryLease returns a lease if it is the event's turn. Otherwise it parks or
// postpones the event, or acknowledges its message if that need not be handed
// out again.
func (q *queue) tryLease(ctx context.Context, c *candidate) (*heldLease, error) {
	if q.leaser.holds(c.id) {
		q.park(c, c.lookDelay()) // it is looked at as soon as that lease is settled
		return nil, nil
	}
	if q.isFirst(c) {
		// Unless it was leased out of turn.
		at := q.placeOf(c.event)
		if m, err := q.last(ctx, at.stream, at.statesOf(c.id)); err != nil {
			return nil, err
		} else if m == nil {
			return &heldLease{candidate: c, history: history{at: at}, token: q.token()}, nil
		}
	}
	if !c.again && c.waited > 0 {
		if ended, err := q.hasEnded(ctx, c); ended || err != nil {
			return nil, err
		}
	}
	task, err := q.task(ctx, c.id)
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
		return nil, q.dropPurged(ctx, c)
	}
	c.event, task = me.stored, present(task)
	switch {
	case c.again && !c.isOf(me) && me.at == c.at && me.last < c.seq:
		// The replica does not have the record yet that this message is.
		return nil, errConflict
	case !c.isOf(me):
		// Another message stands for the event, or it has ended.
		if c.again && (me.at != c.at || me.last != c.seq) {
			q.forgetRecords(ctx, c.at, []uint64{c.seq})
		}
		return nil, q.finishMessage(ctx, c, me)
	case me.kind == none && me.origin != nil:
		if err := q.recordOrigin(ctx, me); err != nil {
			return nil, err
		}
		return nil, c.msg.Ack()
	case me.kind == leased && me.history.lease.Early && q.leaser.isClaimed(me.last, q.current.Load().lease):
		q.park(c, c.lookDelay())
		return nil, nil
	}
	outdated, gone, waits := arrange(task, c.id)
	if gone {
		if err := q.supersede(ctx, me); err != nil {
			return nil, err
		}
		q.leaser.wakeTask(c.id)
		return nil, c.msg.Ack()
	}
	for _, m := range outdated {
		if err := q.supersede(ctx, m); err != nil {
			return nil, err
		}
	}
	if left := time.Until(inbox.FromMicros(me.rec.Due)); me.kind == pending && left > 0 {
		return nil, q.postpone(ctx, c, me, left)
	}
	if waits {
		return nil, q.parkWaiting(ctx, c, me)
	}
	h, err := q.markLeased(ctx, c, me)
	if err != nil {
		return nil, err
	}
	free, err := q.unchanged(ctx, task, c.id, h.last)
	if err == nil && !free {
		free, err = q.stillFree(ctx, task, c.id)
	}
	if !free || err != nil {
		// Another Caddy may have done the same: both retry, and one will be
		// faster.
		me.kind, me.last, me.others = leased, h.last, h.others
		return nil, q.parkWaiting(ctx, c, me)
	}
	return h, nil
}

// unchanged reports whether the mark is the only record of the task that was
// written since its events were read. Two queries suffice for any number of
// events: one for the next record, one for the last.
func (q *queue) unchanged(ctx context.Context, task []*member, id string, mark uint64) (bool, error) {
	if len(task) == 1 {
		return true, nil
	}
	known := uint64(0)
	for _, m := range task {
		if m.at != task[0].at {
			return false, nil // their numbers cannot be compared: each is looked at
		}
		known = max(known, m.last)
	}
	at := task[0].at
	of := at.taskStates(id)
	for _, request := range []map[string]any{{"seq": known + 1, "next_by_subj": of}, {"last_by_subj": of}} {
		if m, err := q.leaderGet(ctx, at.stream, request); err != nil || m == nil || m.seq != mark {
			return false, err
		}
	}
	return true, nil
}

// hasEnded reports whether a parked event was superseded meanwhile. If so, its
// message is acknowledged.
func (q *queue) hasEnded(ctx context.Context, c *candidate) (bool, error) {
	members, err := q.membersOf(ctx, []*stored{c.event})
	if err != nil {
		return false, err
	}
	m := members[0]
	if m.newer || m.absent || !m.kind.ended() {
		return false, nil
	}
	q.leaser.wakeTask(c.id)
	return true, q.finishMessage(ctx, c, m)
}

// stillFree reports whether no other event of the task goes before one that was
// just marked as leased. Another Caddy may have replayed and leased one since
// the task was read. As each marks first and looks then, at least one sees the
// other.
func (q *queue) stillFree(ctx context.Context, task []*member, id string) (bool, error) {
	before := true
	for _, m := range task {
		if m.ID == id {
			before = false
			continue
		}
		last, err := q.last(ctx, m.at.stream, m.at.statesOf(m.ID))
		if err != nil {
			return false, err
		}
		k := none
		if last != nil {
			k = m.at.kindIn(last.subject)
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
	case m.absent, m.kind.ended():
		return false
	case c.again:
		return m.base == c.seq && m.at == c.at
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
func (q *queue) dropPurged(ctx context.Context, c *candidate) error {
	m, err := q.last(ctx, q.subjects.stream, q.subjects.event(c.id))
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
		q.park(c, c.lookDelay())
		return nil
	}
	if c.again {
		q.forgetRecords(ctx, c.at, []uint64{c.seq})
	}
	return c.msg.Ack()
}

// finishMessage acknowledges a message that does not stand for the event any more. If
// the delivery has ended, and a Caddy died before it wrote down what that means for the
// event, or before it removed the records that were replaced, that is done first.
func (q *queue) finishMessage(ctx context.Context, c *candidate, m *member) error {
	if m.absent || m.kind.ended() {
		if err := q.concludeMember(ctx, m); err != nil {
			return err
		}
	}
	if m.kind.ended() && len(m.others) > 1 {
		q.forgetRecords(ctx, m.at, m.others[:len(m.others)-1])
	}
	return c.msg.Ack()
}

func checkMax(n int) error {
	if n < 1 {
		return fmt.Errorf("lease of %d events; it must be at least 1", n)
	}
	return nil
}
