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
	unpublished map[arrival]control.Notice
}

// arrival is the event of one request.
type arrival struct {
	id string
	at int64 // in µs
}

func arrivalOf(e *inbox.Event) arrival { return arrival{e.ID, e.ReceivedAt.UnixMicro()} }

// begin records that the event of a request is about to be stored.
func (a *arrivals) begin(e *inbox.Event, source netip.Addr) {
	n := noticeOf(control.Accepted, e)
	if source.IsValid() {
		n.SourceIP = source.String()
	}
	if e.Origin != inbox.FromCallback {
		n.Origin = e.Origin.String()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unpublished == nil {
		a.unpublished = make(map[arrival]control.Notice)
	}
	a.unpublished[arrivalOf(e)] = n
}

// end removes an event, and returns its notice if that was not published yet.
func (a *arrivals) end(e *inbox.Event) (n control.Notice, ok bool) {
	key := arrivalOf(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok = a.unpublished[key]
	delete(a.unpublished, key)
	return n, ok
}

func noticeOf(kind string, e *inbox.Event) control.Notice {
	return control.Notice{Kind: kind, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status.String()}
}
