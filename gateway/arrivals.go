package gateway

import (
	"net/netip"
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// arrivals are the callbacks that are being stored. A delivery may end before the
// request of its callback goes on: the first of the two publishes that the callback was
// accepted, so that this notice always precedes the others.
type arrivals struct {
	mu    sync.Mutex
	byKey map[arrival]learnt
}

// arrival is the event of one request, or of several if the same callback came several
// times in a microsecond. One of these is stored, and the others are repeats.
type arrival struct {
	id string
	at int64 // in µs
}

func arrivalOf(e *inbox.Event) arrival { return arrival{e.ID, e.ReceivedAt.UnixMicro()} }

// learnt is how an event was learnt, which the event that is leased need not say.
type learnt struct {
	origin    inbox.Origin
	source    netip.Addr // who called; zero if nobody did
	requests  int        // that have begun and not ended
	published bool
}

// begin records that the event of a request is about to be stored. It returns what must
// be passed to end.
func (a *arrivals) begin(e *inbox.Event, source netip.Addr) arrival {
	key := arrivalOf(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byKey == nil {
		a.byKey = make(map[arrival]learnt)
	}
	l, ok := a.byKey[key]
	if !ok {
		l = learnt{origin: e.Origin, source: source}
	}
	l.requests++
	a.byKey[key] = l
	return key
}

// end records what became of the event of a request: stored is the event, or nil if it was
// not stored. That it was accepted is published, unless that was done.
func (a *arrivals) end(key arrival, stored *inbox.Event, publish func(control.Notice)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.byKey[key]
	if stored != nil {
		l.accept(stored, publish)
	}
	if l.requests--; l.requests == 0 {
		delete(a.byKey, key)
		return
	}
	a.byKey[key] = l
}

// accepted publishes that an event was accepted if its request goes on, and if that was
// not done. While another goroutine does it, accepted waits: what the caller publishes
// next comes after it. So the lock is held meanwhile; a feed never waits.
func (a *arrivals) accepted(e *inbox.Event, publish func(control.Notice)) {
	key := arrivalOf(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.byKey[key]; ok {
		l.accept(e, publish)
		a.byKey[key] = l
	}
}

func (l *learnt) accept(e *inbox.Event, publish func(control.Notice)) {
	if l.published {
		return
	}
	l.published = true
	n := noticeOf(control.Accepted, e)
	if l.source.IsValid() {
		n.SourceIP = l.source.String()
	}
	if l.origin != inbox.FromCallback {
		n.Origin = l.origin.String()
	}
	publish(n)
}

func noticeOf(kind string, e *inbox.Event) control.Notice {
	return control.Notice{Kind: kind, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status.String()}
}
