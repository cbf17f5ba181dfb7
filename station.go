package fotorwebhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// stations holds every open station by its inbox's key. It lives as long as
// the process, so that a reload goes on with the inbox, the deliveries and
// the leases that the old config had.
var stations = stationPool{open: make(map[string]*station)}

// attached holds the attachments of each handler name.
var attached = registry{byName: make(map[string][]*attachment)}

const openTimeout = time.Minute

// station is an open inbox and the dispatcher that empties it: one value, so
// that an event has one owner however many configs overlap.
type station struct {
	key   string
	inbox inbox.Inbox

	// holders counts the attachments and the requests under way. The last one
	// closes the inbox. At zero the station is gone for good.
	holders atomic.Int64
	logger  *zap.Logger

	// byHand is held while an operator's hold is being changed, and known is
	// what it was changed to last. It is taken before mu.
	byHand sync.Mutex
	known  inbox.Hold

	mu          sync.Mutex
	attachments []*attachment // oldest first; the last one's settings are in use
	dispatcher  *dispatch.Dispatcher
	sharing     *sharing // of the dispatcher; nil if no other gateway can use the inbox
}

// attachment is one config's use of a station.
type attachment struct {
	station  *station
	handler  *Handler
	detached bool // guarded by station.mu
	released bool // only the app's own goroutine
}

// attach brings a handler to its station, opening it if need be. From then on
// deliveries go the handler's way.
func attach(h *Handler) (*attachment, error) {
	if err := stations.renew(h); err != nil {
		return nil, err
	}
	st, err := stations.get(h)
	if err != nil {
		return nil, err
	}
	att := &attachment{station: st, handler: h}
	if err := st.join(att); err != nil {
		return nil, errors.Join(err, st.drop())
	}
	attached.add(att)
	h.link.set(st)
	for _, c := range h.copies {
		c.link.set(st)
	}
	return att, nil
}

// join puts an attachment's settings in force, and lets deliveries begin if no
// other had.
func (st *station) join(att *attachment) error {
	st.byHand.Lock() // a hold that is being changed is read here, or the dispatcher is there
	defer st.byHand.Unlock()
	held, err := st.inbox.Hold(att.handler.ctx)
	unknown := err != nil && st.mayBeAway(att.handler)
	if err != nil && !unknown {
		return fmt.Errorf("reading whether deliveries are held by hand: %w", err)
	}
	att.handler.findTracers()
	att.handler.desk.begin(att.handler)

	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.attachments) == 0 { // it is new, or only requests have kept it open
		st.begin(att.handler, held, unknown)
	}
	st.attachments = append(st.attachments, att)
	st.use(att)
	return nil
}

func openStation(h *Handler) (*station, error) {
	ctx, cancel := context.WithTimeout(h.ctx, openTimeout)
	defer cancel()
	in, err := h.module.Open(ctx, h.Name, h.policy(), h.logger)
	if err != nil {
		return nil, fmt.Errorf("opening the inbox %s: %w", h.key, err)
	}
	st := &station{key: h.key, inbox: in, logger: h.logger}
	st.holders.Store(1)
	return st, nil
}

// use puts an attachment's settings in force. The caller holds st.mu.
func (st *station) use(att *attachment) {
	att.handler.module.Apply(st.inbox, att.handler.policy())
	st.dispatcher.Use(st.settings(att.handler))
}

// detach takes the attachment's settings out of force. Deliveries go on with
// the newest attachment that is left; if there is none, they stop: attempts
// under way may end within the grace period, what they cannot finish is handed
// back unspent. It reports whether they did.
func (att *attachment) detach() (stopped bool) {
	st := att.station
	st.mu.Lock()
	if att.detached {
		st.mu.Unlock()
		return false
	}
	att.detached = true
	wasNewest := st.attachments[len(st.attachments)-1] == att
	st.attachments = slices.DeleteFunc(st.attachments, func(other *attachment) bool { return other == att })
	last := len(st.attachments) == 0
	dispatcher, sharing := st.dispatcher, st.sharing
	if !last && wasNewest {
		st.use(st.attachments[len(st.attachments)-1])
	}
	st.mu.Unlock()
	defer att.handler.desk.end(attached.remove(att))

	if !last {
		return false
	}
	sharing.end()
	ctx, cancel := context.WithTimeout(context.Background(), att.handler.grace)
	defer cancel()
	if err := dispatcher.Stop(ctx); err != nil {
		st.logger.Error("stopping deliveries; what could not be settled will be delivered again", zap.Error(err))
		stations.forget(st) // its leases last until it is closed: it cannot be used again
	}
	return true
}

// release gives back the attachment's use of the station.
func (att *attachment) release() error {
	if att.released {
		return nil
	}
	att.released = true
	return att.station.drop()
}

// hold keeps the inbox open until drop. It fails once the inbox was closed.
func (st *station) hold() bool {
	for {
		n := st.holders.Load()
		if n == 0 {
			return false
		}
		if st.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// drop gives back what hold took. The last holder closes the inbox.
func (st *station) drop() error {
	if st.holders.Add(-1) > 0 {
		return nil
	}
	defer stations.forget(st)
	if err := st.inbox.Close(); err != nil {
		return fmt.Errorf("closing the inbox %s: %w", st.key, err)
	}
	return nil
}

// running returns the dispatcher that delivers, or did last.
func (st *station) running() *dispatch.Dispatcher {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.dispatcher
}

// stationPool keeps the open stations by their keys. It is no caddy.UsagePool
// because requests keep a station open too, in which case the next config that
// wants it gets it back: its file could not be opened a second time.
type stationPool struct {
	mu   sync.Mutex
	open map[string]*station
}

// get returns the handler's station, held for the caller. Caddy starts one
// config at a time, so no two open the same.
func (p *stationPool) get(h *Handler) (*station, error) {
	p.mu.Lock()
	st := p.open[h.key]
	p.mu.Unlock()
	if st != nil && st.hold() {
		return st, nil
	}
	st, err := openStation(h)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.open[h.key] = st
	p.mu.Unlock()
	return st, nil
}

// forget removes a station that is closed.
func (p *stationPool) forget(st *station) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[st.key] == st {
		delete(p.open, st.key)
	}
}

var errNotRunning = errors.New("the gateway is not running")

// stationLink is a handler's way to its station. The HTTP server may serve
// before the app has started, so that a request may have to wait for it.
type stationLink struct {
	station atomic.Pointer[station]
	ready   chan struct{}
	gone    chan struct{}
	close   func()
}

func newStationLink() *stationLink {
	gone := make(chan struct{})
	return &stationLink{
		ready: make(chan struct{}),
		gone:  gone,
		close: sync.OnceFunc(func() { close(gone) }),
	}
}

func (l *stationLink) set(st *station) {
	l.station.Store(st)
	close(l.ready)
}

// hold returns the station that a callback for this handler is to be stored in,
// held for the caller, who must drop it.
func (h *Handler) hold(ctx context.Context) (*station, error) {
	if st := attached.current(h.Name); st != nil && st.hold() {
		return st, nil
	}
	st := h.link.station.Load()
	if st == nil {
		var err error
		if st, err = h.link.await(ctx); err != nil {
			return nil, err
		}
	}
	if st != nil && st.hold() {
		return st, nil
	}
	return nil, errNotRunning
}

// await waits for the handler's station. It returns nil if there will be none,
// because the config failed to load.
func (l *stationLink) await(ctx context.Context) (*station, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	select {
	case <-l.ready:
		return l.station.Load(), nil
	case <-l.gone:
		return nil, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the gateway to start: %w", ctx.Err())
	}
}

// successor returns the station that has followed on st while a request was
// under way, held for the caller; nil if none has. A callback is to be stored
// where it will be delivered.
func (h *Handler) successor(st *station) *station {
	if current := attached.current(h.Name); current != nil && current != st && current.hold() {
		return current
	}
	return nil
}

// registry keeps attachments by their handlers' names, the oldest first.
type registry struct {
	mu     sync.RWMutex
	byName map[string][]*attachment
}

func (r *registry) add(att *attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := att.handler.Name
	r.byName[name] = append(r.byName[name], att)
}

// remove takes an attachment out, and returns the newest that is left of its
// name, nil if none is.
func (r *registry) remove(att *attachment) *attachment {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := att.handler.Name
	left := slices.DeleteFunc(r.byName[name], func(other *attachment) bool { return other == att })
	if len(left) == 0 {
		delete(r.byName, name)
		return nil
	}
	r.byName[name] = left
	return left[len(left)-1]
}

// current returns the station that callbacks for that name are stored in, nil
// if there is none. It is the oldest attachment's: until that makes way, the
// config of a newer one may still fail to load, and then nobody would deliver
// from another file what it has taken.
func (r *registry) current(name string) *station {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if atts := r.byName[name]; len(atts) > 0 {
		return atts[0].station
	}
	return nil
}

// all returns the newest station of every name.
func (r *registry) all() map[string]*station {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make(map[string]*station, len(r.byName))
	for name, atts := range r.byName {
		all[name] = atts[len(atts)-1].station
	}
	return all
}
