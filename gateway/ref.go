package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// StoreTimeout is how long a callback waits for the inbox: long enough for a busy disk
// and for a start. That callers wait as long is a guess.
const StoreTimeout = 10 * time.Second

// Ref is how a handler finds its gateway and its journal. The HTTP server may serve
// before the gateway is open, so a request may have to wait for it.
type Ref struct {
	name    string
	journal *Journal
	gateway atomic.Pointer[Gateway]
	ready   chan struct{}
	gone    chan struct{}
	close   func()
	waits   waits
}

// NewRef returns the Ref of a handler of that name. It must be closed.
func NewRef(name string) *Ref {
	r := &Ref{name: name, journal: journals.get(name), ready: make(chan struct{}), gone: make(chan struct{})}
	r.close = sync.OnceFunc(func() {
		close(r.gone)
		journals.put(r.journal)
	})
	return r
}

// Close must be called when the handler's config is not in use any more. Requests of the
// handler may go on after it.
func (r *Ref) Close() { r.close() }

// Journal is what operators see of the handler beside its inbox.
func (r *Ref) Journal() *Journal { return r.journal }

func (r *Ref) set(g *Gateway) {
	r.gateway.Store(g)
	close(r.ready)
}

// Hold returns the gateway in which to store a callback for this handler. It stays open
// until the caller drops it.
func (r *Ref) Hold(ctx context.Context) (*Gateway, error) {
	if g := attached.current(r.name); g != nil && g.hold() {
		return g, nil
	}
	g := r.gateway.Load()
	if g == nil {
		var err error
		if g, err = r.await(ctx); err != nil {
			return nil, err
		}
	}
	if g != nil && g.hold() {
		return g, nil
	}
	return nil, errClosed
}

// await waits for the handler's gateway. It returns nil if there will be none,
// because the config failed to load.
func (r *Ref) await(ctx context.Context) (*Gateway, error) {
	ctx, cancel := context.WithTimeout(ctx, StoreTimeout)
	defer cancel()
	select {
	case <-r.ready:
		return r.gateway.Load(), nil
	case <-r.gone:
		return nil, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the gateway to start: %w", ctx.Err())
	}
}

// Successor returns the gateway that has replaced g while a request was being read, nil
// if none has. The callback must be stored there to be delivered. The caller must drop
// the gateway.
func (r *Ref) Successor(g *Gateway) *Gateway {
	if current := attached.current(r.name); current != nil && current != g && current.hold() {
		return current
	}
	return nil
}

// StoreContext returns the context in which to store a callback: it goes on if the caller
// hangs up, and ends after StoreTimeout, or up to a tenth of a second later.
func (r *Ref) StoreContext() context.Context { return r.waits.context() }

// Put stores an event in the inbox of g, for the destinations that it goes to by the
// config in force, and publishes that it was accepted. If the event was stored before, it
// gets the id that it has there, which an earlier release may have given it, or which is
// that of an event that tells the same outcome, see inbox.Store.Put. If others of its task
// tell different outcomes, it gets its revision.
//
// A final event that is to be confirmed first is not stored itself, but its callback is.
//
// source is who called, and body the callback.
func (r *Ref) Put(ctx context.Context, g *Gateway, e *inbox.Event, source netip.Addr, body []byte) (duplicate bool, err error) {
	if r.journal.config.Load().confirms() != nil && e.Status.Final() {
		return r.journal.keep(ctx, g, e, source, body)
	}
	return r.journal.put(ctx, g, e, source)
}
