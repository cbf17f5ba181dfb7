package sqlite

import (
	"cmp"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// ahead are the next fresh events of a queue, in order, so that they are leased from memory:
// they were kept when they were stored or, if there are more than may be kept, read together,
// since a query for many costs little more than one for a few. Of the fresh events before end,
// those that are not leased are all in it.
type ahead struct {
	events []*heldLease
	bytes  int // of their bodies
	end    int64
}

// low returns a number below which all fresh events are leased.
func (a *ahead) low() int64 {
	if len(a.events) > 0 {
		return a.events[0].seq()
	}
	return a.end
}

// find returns where the event is, or would be.
func (a *ahead) find(seq int64) (at int, found bool) {
	return slices.BinarySearchFunc(a.events, seq, func(h *heldLease, seq int64) int { return cmp.Compare(h.seq(), seq) })
}

// insert adds an event unless it is there.
func (a *ahead) insert(h *heldLease) {
	if at, found := a.find(h.seq()); !found {
		a.events = slices.Insert(a.events, at, h)
		a.bytes += len(h.lease.Event.Body)
	}
}

// remove removes an event if it is there.
func (a *ahead) remove(seq int64) {
	if at, found := a.find(seq); found {
		a.bytes -= len(a.events[at].lease.Event.Body)
		a.events = slices.Delete(a.events, at, at+1)
	}
}

// isFull reports whether no more events are to be kept.
func (a *ahead) isFull(l *limits) bool { return len(a.events) >= l.ahead || a.bytes >= l.aheadBytes }

// storedEvent is an event that a transaction has stored.
type storedEvent struct {
	seq   int64
	id    inbox.RawID
	event *inbox.Event
}

// newHeldLease returns what would be read from the file for the event.
func (s *storedEvent) newHeldLease() *heldLease {
	e := *s.event
	e.FormerID, e.MakeFormerID, e.Destinations, e.Track = "", nil, nil, time.Time{}
	e.ReceivedAt = time.UnixMicro(e.ReceivedAt.UnixMicro()).UTC()
	e.Body = nonNil(e.Body)
	return &heldLease{
		lease: &inbox.Lease{Event: &e, Attempt: 1, Untried: true, Ref: s.seq},
		key:   keyOf(s.id), fresh: true, whole: true,
	}
}

// follow notes what a transaction has changed before its end is made known: the events that
// it stored, as far as they follow those that are known, and those that are fresh no more.
// Before it, no event of the queue was stored from the number next on.
func (l *leases) follow(c *change, before, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := &l.ahead; a.end >= before {
		a.end = next
		for i := range c.stored {
			if a.isFull(&c.queue.limits) {
				a.end = c.stored[i].seq
				break
			}
			a.insert(c.stored[i].newHeldLease())
		}
	}
	for _, seq := range c.left {
		l.ahead.remove(seq)
		if l.scanning {
			l.left[seq] = struct{}{}
		}
	}
}

// known returns the fresh events that are known and not leased, and where others may begin.
func (l *leases) known() (events []*heldLease, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ahead.events), l.ahead.end
}

// keep keeps fresh events that the scan has read and does not lease.
func (l *leases) keep(events []*heldLease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range events {
		l.keepOne(h)
	}
}

func (l *leases) keepOne(h *heldLease) {
	_, left := l.left[h.seq()]
	if _, held := l.held[h.seq()]; !left && !held {
		l.ahead.insert(h)
	}
}
