package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// newestWindow is how many of the last events are looked at for the newest, and
	// newestBacklog how many new ones may wait before any is leased out of turn:
	// with fewer, those that come next are the newest.
	newestWindow  = 1000
	newestBacklog = 10

	// newestPause is the time between two looks if the first has found too few, and
	// countAgain that between two looks at the consumer.
	newestPause = 50 * time.Millisecond
	countAgain  = time.Second
)

// Pick waits for events that are due and wanted. The newest come out of turn once there
// has been a backlog for some seconds, see newest.
func (q *queue) Pick(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	if w.Max < 1 || w.Newest < 0 || w.Newest > w.Max {
		return nil, fmt.Errorf("lease of %d events, of them %d of the newest: expected 1 or more, and no more of the newest", w.Max, w.Newest)
	}
	if err := q.awaitReady(ctx); err != nil {
		return nil, err
	}
	if !q.used.Swap(true) && q.several.Load() {
		q.wakeMaintenance() // to say that it is used
	}
	onlyNewest := w.Newest == w.Max
	// What is here and not wanted is handed back as if nobody waited.
	q.leaser.setBusy(!w.Untried && !onlyNewest)
	defer q.leaser.setBusy(false)
	for {
		link := q.link.next()
		q.learnNewest(ctx)
		backlog := w.Newest > 0 && q.hasBacklog(ctx, onlyNewest)
		inTurn, onlyNew := w.Max-w.Newest, w.Untried || onlyNewest
		if onlyNewest && !backlog {
			inTurn = w.Max
		}
		if err := q.requestSome(inTurn, onlyNew); err != nil {
			return nil, err
		}
		batch, next := q.leaser.take(inTurn, onlyNew, time.Now())
		leases := q.leaseBatch(batch) //nolint:contextcheck // what it leases is not lost if ctx ends
		for _, l := range leases {
			l.Newest = onlyNewest
		}
		if backlog {
			leases = append(leases, q.leaseNewest(w.Newest)...) //nolint:contextcheck // as above
		}
		switch {
		case q.closed():
			return nil, errClosed()
		case len(leases) > 0:
			return leases, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case len(batch) > 0:
			continue
		}
		wait := q.options.limits.expires
		if !next.IsZero() {
			wait = min(wait, time.Until(next))
		}
		if backlog {
			wait = min(wait, newestPause)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.life.Done():
		case <-q.leaser.wake:
		case <-link:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// requestSome asks for new events and for those that come again, unless some
// are here, so that neither kind waits for the other. While the connection is
// cut there is nobody to ask.
func (q *queue) requestSome(n int, onlyNew bool) error {
	for _, src := range []*source{&q.leaser.again, &q.leaser.spread, &q.leaser.fresh} {
		if n == 0 || src.again && onlyNew {
			continue
		}
		if err := q.request(src, n); err != nil && q.link.isUp() && !q.closed() {
			return err
		}
	}
	return nil
}

// hasBacklog reports whether many new events wait to be handed out. Each that comes
// says how many do. The consumer is looked at only while there may be a backlog, and
// if none is asked for.
func (q *queue) hasBacklog(ctx context.Context, onlyNewest bool) bool {
	pending, at, asked := q.leaser.pendingNew()
	n := &q.pick
	n.mu.Lock()
	if at.After(n.counted) {
		n.pending, n.counted = pending, at
	}
	old := time.Since(n.counted) >= countAgain
	if old && asked { // it has none
		n.pending, n.counted, old = 0, time.Now(), false
	}
	count := old && (onlyNewest || n.pending > newestBacklog) && q.link.isUp()
	n.mu.Unlock()
	if count {
		bounded, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		if _, err := q.countNew(bounded); err != nil {
			return false
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.pending <= newestBacklog:
		n.crowded = time.Time{}
	case n.crowded.IsZero():
		n.crowded = time.Now()
	}
	return !n.crowded.IsZero()
}

// countNew asks how many new events have yet to be handed out, and returns the number
// of the last one that was.
func (q *queue) countNew(ctx context.Context) (delivered uint64, err error) {
	at := time.Now()
	there, err := q.js.Consumer(ctx, q.subjects.stream, q.consumer())
	if err != nil {
		return 0, err
	}
	info, n := there.CachedInfo(), &q.pick
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending, n.counted = info.NumPending, at
	return info.Delivered.Stream, nil
}

// leaseNewest leases up to n of the newest events that were never leased. As those in
// turn wait for it, it takes no more than a quarter of the time.
func (q *queue) leaseNewest(n int) []*inbox.Lease {
	began := time.Now()
	if !q.pick.lookNow(began, q.options.limits.crowded) {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.life, min(q.publishTimeout(), lookTimeout))
	defer cancel()
	leases, err := q.tryNewest(ctx, n)
	if err != nil && !q.closed() && q.link.isUp() {
		q.log.Warn("the newest events cannot be leased, it is tried again", zap.Error(err))
	}
	pause := 3 * time.Since(began)
	if len(leases) < n {
		pause = max(pause, newestPause)
	}
	q.pick.pause(pause)
	return leases
}

func (q *queue) tryNewest(ctx context.Context, most int) ([]*inbox.Lease, error) {
	var state *jetstream.StreamState
	var delivered uint64
	var jobs errgroup.Group
	jobs.Go(func() (err error) {
		state, err = q.eventState(ctx)
		return err
	})
	jobs.Go(func() (err error) {
		delivered, err = q.countNew(ctx)
		return err
	})
	if err := jobs.Wait(); err != nil {
		return nil, err
	}
	if err := q.openNewest(ctx, state.LastSeq); err != nil {
		return nil, err
	}
	open, n := q.pick.open(), &q.pick
	n.wakeAll()
	from := max(open.From, delivered+1, saturatingSub(state.LastSeq+1, newestWindow))
	var held []*heldLease
	size := uint64(2*most + newestBacklog)
	for to := min(open.To, state.LastSeq); len(held) < most; size = min(2*size, maxBatch) {
		part := n.toLook(span{from, to}, size)
		if part.To < part.From {
			break
		}
		free, last, err := q.neverLeased(ctx, part)
		if err != nil {
			q.withdraw(ctx, held)
			return nil, err
		}
		looked := span{part.From, last}
		for len(free) > 0 && len(held) < most {
			some := free[:min(most-len(held), len(free))]
			free = free[len(some):]
			held = append(held, q.claimAll(ctx, some)...)
			if len(free) > 0 {
				looked.From = some[len(some)-1].seq
			} else {
				looked.From = part.From
			}
		}
		n.noteLooked(looked)
		to = part.From - 1
	}
	return q.keepUndelivered(ctx, held)
}

// neverLeased returns the events in a range of which there is no record, the newest
// first, and the number of the last one that was found there.
func (q *queue) neverLeased(ctx context.Context, r span) (events []*stored, last uint64, err error) {
	for messages, err := range q.batches(ctx, q.subjects.stream, q.subjects.allEvents(), r.From, int(r.To-r.From+1)) {
		if err != nil {
			return nil, 0, err
		}
		for _, m := range messages {
			if m.seq > r.To {
				break
			}
			last = m.seq
			if e, err := decodeEvent(m); err == nil && e.origin == nil && e.goesTo(q.name) { // else it comes in turn
				events = append(events, e)
			}
		}
		if messages[len(messages)-1].seq >= r.To {
			break
		}
	}
	if len(events) == 0 {
		return nil, last, nil
	}
	members, err := q.membersOf(ctx, events)
	if err != nil {
		return nil, 0, err
	}
	events = events[:0]
	for _, m := range slices.Backward(members) {
		if !m.absent && m.last == 0 {
			events = append(events, m.stored)
		}
	}
	return events, last, nil
}

// claimAll writes down that events are leased out of turn, and returns the leases of
// those for which that was right.
func (q *queue) claimAll(ctx context.Context, events []*stored) []*heldLease {
	got := make([]*heldLease, len(events))
	var wg sync.WaitGroup
	for i, e := range events {
		wg.Go(func() {
			var err error
			if got[i], err = q.claimEarly(ctx, e); err != nil && !errors.Is(err, errConflict) && ctx.Err() == nil {
				q.log.Warn("an event cannot be leased out of turn, it comes in turn", zap.String("event", e.ID), zap.Error(err))
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(got, func(h *heldLease) bool { return h == nil })
}

// claimEarly leases one event out of turn. If it has to wait for others of its task it
// is nil.
func (q *queue) claimEarly(ctx context.Context, e *stored) (*heldLease, error) {
	c := &candidate{msg: &nats.Msg{}, early: true, id: e.ID, seq: e.seq, event: e}
	task := []*member{{stored: e, history: history{at: q.placeOf(e)}}}
	if e.prev || !e.Status.Final() {
		var err error
		if task, err = q.task(ctx, e.ID); err != nil {
			return nil, err
		}
		task = present(task)
	}
	at := slices.IndexFunc(task, func(m *member) bool { return m.ID == e.ID })
	if at < 0 || task[at].seq != e.seq || task[at].kind != none {
		return nil, nil //nolint:nilnil // it is not free
	}
	outdated, gone, waits := arrange(task, e.ID)
	switch {
	case gone: // it ends as superseded in turn
		return nil, nil //nolint:nilnil // as above
	case waits:
		q.pick.block(e.ID, e.seq)
		return nil, nil //nolint:nilnil // as above
	}
	for _, m := range outdated {
		if err := q.supersede(ctx, m); err != nil {
			return nil, err
		}
	}
	h, err := q.markLeased(ctx, c, task[at])
	if err != nil {
		return nil, err
	}
	free, err := q.unchanged(ctx, task, c.id, h.last)
	if err == nil && !free {
		free, err = q.stillFree(ctx, task, c.id)
	}
	if err != nil || !free {
		q.withdraw(ctx, []*heldLease{h})
		return nil, err
	}
	return h, nil
}

// keepUndelivered makes leases of those that the consumer has not handed out, and
// withdraws the others: some Caddy may have leased them without a look.
func (q *queue) keepUndelivered(ctx context.Context, held []*heldLease) (leases []*inbox.Lease, err error) {
	if len(held) == 0 {
		return nil, nil
	}
	delivered, err := q.countNew(ctx)
	if err != nil {
		q.withdraw(ctx, held)
		return nil, err
	}
	slices.SortFunc(held, func(a, b *heldLease) int { return cmp.Compare(b.event.seq, a.event.seq) })
	for _, h := range held {
		if h.event.seq <= delivered || q.leaser.holds(h.id) {
			q.withdraw(ctx, []*heldLease{h})
			continue
		}
		if l := q.leaseOf(ctx, h, h.token); l != nil {
			l.Newest = true
			leases = append(leases, l)
		}
	}
	return leases, nil
}
