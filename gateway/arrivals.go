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

// end records that a request has been told what became of its event.
func (a *arrivals) end(key arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.byKey[key]
	if l.requests--; l.requests == 0 {
		delete(a.byKey, key)
		return
	}
	a.byKey[key] = l
}

// publish publishes that an event was accepted if its request has not ended, and if that
// was not done yet. While another goroutine does it, publish waits: what the caller
// publishes next comes after it. So the lock is held meanwhile; a feed never waits.
func (a *arrivals) publish(e *inbox.Event, to func(control.Notice)) {
	key := arrivalOf(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.byKey[key]
	if !ok || l.published {
		return
	}
	l.published = true
	a.byKey[key] = l
	n := noticeOf(control.Accepted, e)
	if l.source.IsValid() {
		n.SourceIP = l.source.String()
	}
	if l.origin != inbox.FromCallback {
		n.Origin = l.origin.String()
	}
	to(n)
}

func noticeOf(kind string, e *inbox.Event) control.Notice {
	return control.Notice{Kind: kind, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status.String()}
}
