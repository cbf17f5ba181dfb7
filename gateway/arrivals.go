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
	mu          sync.Mutex
	unpublished map[arrival]learnt
}

// arrival is the event of one request.
type arrival struct {
	id string
	at int64 // in µs
}

func arrivalOf(e *inbox.Event) arrival { return arrival{e.ID, e.ReceivedAt.UnixMicro()} }

// learnt is how an event was learnt, which the event that is leased need not say.
type learnt struct {
	origin inbox.Origin
	source netip.Addr // who called; zero if nobody did
}

// begin records that the event of a request is about to be stored.
func (a *arrivals) begin(e *inbox.Event, source netip.Addr) {
	key := arrivalOf(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unpublished == nil {
		a.unpublished = make(map[arrival]learnt)
	}
	a.unpublished[key] = learnt{e.Origin, source}
}

// end removes an event, and returns the notice that it was accepted if that was not
// published yet.
func (a *arrivals) end(e *inbox.Event) (n control.Notice, ok bool) {
	key := arrivalOf(e)
	a.mu.Lock()
	l, ok := a.unpublished[key]
	delete(a.unpublished, key)
	a.mu.Unlock()
	if !ok {
		return n, false
	}
	n = noticeOf(control.Accepted, e)
	if l.source.IsValid() {
		n.SourceIP = l.source.String()
	}
	if l.origin != inbox.FromCallback {
		n.Origin = l.origin.String()
	}
	return n, true
}

func noticeOf(kind string, e *inbox.Event) control.Notice {
	return control.Notice{Kind: kind, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status.String()}
}
