package nats

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// leaser has the events that the server has handed out to this inbox.
type leaser struct {
	fresh, again source
	spread       source      // as again, of events with several destinations; of the default destination only
	recheckNew   atomic.Bool // events handed out for the first time may have been settled
	wake         chan struct{}

	mu        sync.Mutex
	busy      bool      // a Lease is waiting
	idleSince time.Time // since when none is
	turn      bool      // toggles which queue comes first
	halved    bool      // toggles whether parked events leave half of the places to others
	parked    []*candidate
	looking   map[handed]*candidate // what take has returned, until it is decided about
	leases    map[int64]*heldLease
	byID      map[string]*heldLease
	claims    map[uint64]time.Time // records of leases out of turn that others have, and when they were seen first
}

// heldLease is a leased event.
type heldLease struct {
	*candidate
	history
	lease  *inbox.Lease
	token  string
	marked bool          // there is a record of kind leased
	mu     sync.Mutex    // held by who writes the record
	ended  inbox.Verdict // set by a Settle that failed for other leases

	// blind says that whoever settles it may not see that another delivery of the event
	// ends from now on. It is set before that one looks, or stores that this one goes on.
	blind atomic.Bool
}

// lastRef numbers the leases of all inboxes of the process, so that none is
// mistaken for one of a closed inbox.
var lastRef atomic.Int64

func (l *leaser) init() {
	l.again.again, l.spread.again = true, true
	l.wake = make(chan struct{}, 1)
	l.leases, l.byID = map[int64]*heldLease{}, map[string]*heldLease{}
	l.claims = map[uint64]time.Time{}
	l.looking = map[handed]*candidate{}
}

// all returns the sources in the order of destination.consumed.
func (l *leaser) all() []*source { return []*source{&l.fresh, &l.again, &l.spread} }

func (l *leaser) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take returns up to n events that may be leased: first parked ones whose time
// has come, then those of both queues in turn; with onlyNew, none that was handed
// out again. So that many parked ones do not keep those in the queues waiting, they get
// half of the places every other time, which is none of one. It also returns when the
// next parked event is to be looked at.
func (l *leaser) take(n int, onlyNew bool, now time.Time) (batch []*candidate, next time.Time) {
	if n == 0 {
		return nil, next
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	places := n
	if l.halved = !l.halved; l.halved && l.hasQueued(onlyNew) {
		places = n / 2
	}
	batch, next = l.takeParked(nil, places, onlyNew, now)
	for len(batch) < n {
		src, again := &l.fresh, &l.again
		if len(again.queue) == 0 {
			again = &l.spread
		}
		hasAgain := !onlyNew && len(again.queue) > 0
		if l.turn = !l.turn; hasAgain && (!l.turn || len(src.queue) == 0) {
			src = again
		}
		if len(src.queue) == 0 {
			break
		}
		batch = append(batch, src.queue[0])
		src.queue = src.queue[1:]
	}
	if places < n && len(batch) < n {
		batch, next = l.takeParked(batch, n, onlyNew, now)
	}
	for _, c := range batch {
		l.looking[c.handed()] = c
	}
	return batch, next
}

// takeParked adds parked events whose time has come to a batch, until it has n.
func (l *leaser) takeParked(batch []*candidate, n int, onlyNew bool, now time.Time) (_ []*candidate, next time.Time) {
	kept := l.parked[:0]
	for _, c := range l.parked {
		switch {
		case c.again && onlyNew:
			kept = append(kept, c)
		case len(batch) < n && !now.Before(c.lookAt):
			batch = append(batch, c)
		default:
			if next.IsZero() || c.lookAt.Before(next) {
				next = c.lookAt
			}
			kept = append(kept, c)
		}
	}
	clear(l.parked[len(kept):])
	l.parked = kept
	return batch, next
}

// hasQueued reports whether something waits in a queue. The leaser is locked.
func (l *leaser) hasQueued(onlyNew bool) bool {
	return len(l.fresh.queue) > 0 || !onlyNew && (len(l.again.queue) > 0 || len(l.spread.queue) > 0)
}

// done ends the look at events that take has returned. It must be called before one is
// given back to the server, which may hand it out again at once.
func (l *leaser) done(events ...*candidate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range events {
		delete(l.looking, c.handed())
	}
}

// park ends the look at an event and keeps it here until another one of its task has
// ended. It reports false if too many are parked.
func (l *leaser) park(c *candidate, wait time.Duration, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.looking, c.handed())
	if len(l.parked) >= limit {
		return false
	}
	c.waited++
	c.lookAt = time.Now().Add(wait)
	l.parked = append(l.parked, c)
	return true
}

// firstOfTasks returns, for each task of a batch, the sequence of its first
// event that is here. Events that come again are ignored, because their
// sequences are of records.
func (l *leaser) firstOfTasks(batch []*candidate) map[string]uint64 {
	first := make(map[string]uint64, len(batch))
	for _, c := range batch {
		first[c.id[:keyLength]] = math.MaxUint64
	}
	note := func(id string, seq uint64) {
		if now, ok := first[id[:keyLength]]; ok && seq < now {
			first[id[:keyLength]] = seq
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range [][]*candidate{batch, l.fresh.queue, l.parked} {
		for _, c := range list {
			if !c.again {
				note(c.id, c.seq)
			}
		}
	}
	for _, h := range l.leases {
		note(h.id, h.event.seq)
	}
	return first
}

// wakeTask makes parked events of a task be looked at again.
func (l *leaser) wakeTask(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.parked {
		if c.id[:keyLength] == id[:keyLength] {
			c.lookAt = time.Time{}
		}
	}
	l.signal()
}

// drop removes a purged event from the queues.
func (l *leaser) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.lists() {
		*list = slices.DeleteFunc(*list, func(c *candidate) bool {
			if c.id == id {
				_ = c.msg.Ack()
			}
			return c.id == id
		})
	}
}

// keepLeases extends the leases, and returns events that nobody leases.
func (q *queue) keepLeases() {
	l := &q.leaser
	var extended time.Time
	for {
		lease := q.current.Load().lease
		timer := time.NewTimer(min(lease/6, q.options.limits.unclaimed))
		select {
		case <-q.life.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		l.mu.Lock()
		if !l.busy && time.Since(l.idleSince) > q.options.limits.unclaimed {
			l.releaseUnleased()
		}
		if time.Since(extended) >= lease/3-lease/12 {
			extended = time.Now()
			l.each(func(c *candidate) { _ = c.msg.InProgress() })
			q.renewEarly()
		}
		l.mu.Unlock()
	}
}

// each calls f with everything handed out to this inbox.
func (l *leaser) each(f func(*candidate)) {
	for _, c := range l.looking {
		f(c)
	}
	for _, list := range l.lists() {
		for _, c := range *list {
			f(c)
		}
	}
	for _, h := range l.leases {
		f(h.candidate)
	}
}

// lists returns what is here and not leased.
func (l *leaser) lists() []*[]*candidate {
	return []*[]*candidate{&l.fresh.queue, &l.again.queue, &l.spread.queue, &l.parked}
}

// releaseUnleased returns the events that are not leased.
func (l *leaser) releaseUnleased() {
	for _, list := range l.lists() {
		for _, c := range *list {
			_ = c.msg.Nak()
		}
		*list = nil
	}
}

// releaseAll returns all events when the inbox is closed. First it stops
// receiving, then it returns what was received.
func (l *leaser) releaseAll(conn *nats.Conn) {
	for _, src := range l.all() {
		if src.sub != nil {
			_ = src.sub.Drain()
		}
	}
	end := time.Now().Add(closeWait)
	_ = conn.FlushTimeout(closeWait)
	for _, src := range l.all() {
		for src.sub != nil && src.sub.IsValid() && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseUnleased()
	for ref, h := range l.leases {
		_ = h.msg.Nak()
		delete(l.leases, ref)
		delete(l.byID, h.id)
	}
}

// add adds a lease. It reports false if the event is leased already.
func (l *leaser) add(h *heldLease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[h.id] != nil {
		return false
	}
	l.leases[h.lease.Ref], l.byID[h.id] = h, h
	return true
}

// remove removes a lease.
func (l *leaser) remove(h *heldLease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.leases, h.lease.Ref)
	if l.byID[h.id] == h {
		delete(l.byID, h.id)
	}
}

// messageOf returns the message to be acknowledged for a lease. It changes if
// the event is handed out again meanwhile.
func (l *leaser) messageOf(h *heldLease) *nats.Msg {
	l.mu.Lock()
	defer l.mu.Unlock()
	return h.msg
}

func (l *leaser) get(ref int64) *heldLease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leases[ref]
}

func (l *leaser) holds(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id] != nil
}

// willLook reports whether an event is leased by this inbox, and whoever settles that lease
// will see what has ended of the event before this call.
func (l *leaser) willLook(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.byID[id]
	return h != nil && !h.blind.Load()
}

func (l *leaser) setBusy(busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy, l.idleSince = busy, time.Now()
}
