// Package gateway runs open inboxes and the deliveries that empty them. It
// carries both over reloads of the config, so that an event has one owner however
// many configs overlap. It needs neither HTTP nor Caddy.
//
// To read it in order: Config (config.go) is what a handler gives; Attach
// (attach.go) opens an inbox for it or joins the one that is open (pool.go), and
// renew.go opens a broken one anew. A lane (lane.go) delivers to one destination, and
// left.go is about those that the config does not name any more. A Ref (ref.go) is how a
// handler finds the gateway for a callback, which waits as long as wait.go says, and
// route.go decides to which destinations its event goes. keep.go stores one that is to be
// confirmed first, if fullness.go finds room. peers.go keeps gateways of one
// shared inbox in step, and asking.go asks Fotor, at a rate that share.go has them share.
// A Journal (journal.go, observer.go, recent.go, refusals.go, and with remember.go
// history.go) and pressure.go say what happens,
// and emit.go makes Caddy events of that. operator.go, byhand.go and tasks.go are what
// package control may ask.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const openTimeout = time.Minute

// Gateway is an open inbox and the lanes that empty it.
type Gateway struct {
	key   string
	inbox inbox.Inbox

	// holders counts the attachments and the requests under way. The last one
	// closes the inbox. At zero the gateway cannot be used any more.
	holders atomic.Int64
	logger  *zap.Logger

	// routes are those of the oldest attachment: until it is detached, a newer config
	// may still fail to load, and nobody would deliver to destinations that only that
	// has. After the last one they stay, for the requests that are left.
	routes atomic.Pointer[routes]

	// changing is locked while a config joins and while an operator holds or resumes
	// deliveries, so that no lane is left out. It is locked before mu.
	changing sync.Mutex

	mu          sync.Mutex
	attachments []*Attachment    // oldest first
	lanes       map[string]*lane // one for each destination that an attachment has
	asker       *asker           // as the newest attachment says
	shares      []*share         // of the accounts that are asked

	since time.Time // when it was opened
	left  leftBehind

	// detached is signalled when an attachment has left: it may have left callbacks that
	// wait to be confirmed.
	detached chan struct{}

	fullness fullness
}

// errClosed is the error of a callback that has no gateway.
var errClosed = errors.New("the gateway is not running")

func open(ctx context.Context, c *Config) (*Gateway, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	in, err := c.Storage.Open(ctx, c.Name, c.Policy, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("opening the inbox %s: %w", c.Key, err)
	}
	g := &Gateway{key: c.Key, inbox: in, logger: c.Logger, lanes: make(map[string]*lane), since: time.Now(), detached: make(chan struct{}, 1)}
	g.holders.Store(1)
	return g, nil
}

// Inbox returns the gateway's inbox.
func (g *Gateway) Inbox() inbox.Inbox { return g.inbox }

// hold keeps the inbox open until Drop. It reports false if the inbox was closed.
func (g *Gateway) hold() bool {
	for {
		n := g.holders.Load()
		if n == 0 {
			return false
		}
		if g.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Drop ends one use of the gateway. The last one closes the inbox.
func (g *Gateway) Drop() error {
	if g.holders.Add(-1) > 0 {
		return nil
	}
	defer opened.forget(g)
	if err := g.inbox.Close(); err != nil {
		return fmt.Errorf("closing the inbox %s: %w", g.key, err)
	}
	return nil
}

// newLanes prepares the lanes of the config's destinations that have none yet. Nothing
// is delivered before they start. Of the others it checks that their queues can be read:
// if not, the config had better not be loaded.
func (g *Gateway) newLanes(ctx context.Context, c *Config) ([]*lane, error) {
	var fresh []*lane
	away := false // then one question that was in vain is enough
	for _, name := range c.destinationNames() {
		l := g.lane(name)
		if l == nil {
			var err error
			if l, err = g.newLane(ctx, c, name, away); err != nil {
				return nil, err
			}
			away = l.unknown
			fresh = append(fresh, l)
			continue
		}
		if away {
			continue
		}
		_, unknown, err := l.readHold(ctx, c)
		if err != nil && !errors.Is(err, inbox.ErrBroken) { // a load may repair a broken inbox
			return nil, err
		}
		away = unknown
	}
	return fresh, nil
}

// lane returns the lane to a destination, nil if nothing is delivered there.
func (g *Gateway) lane(name string) *lane {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lanes[name]
}

// running returns the lanes in the order of their names.
func (g *Gateway) running() []*lane {
	g.mu.Lock()
	defer g.mu.Unlock()
	lanes := make([]*lane, 0, len(g.lanes))
	for _, name := range slices.Sorted(maps.Keys(g.lanes)) {
		lanes = append(lanes, g.lanes[name])
	}
	return lanes
}

// newestWith returns the newest attachment that has a destination, nil if none has. The
// caller has locked g.mu.
func (g *Gateway) newestWith(destination string) *Attachment {
	for _, att := range slices.Backward(g.attachments) {
		if att.config.destination(destination) != nil {
			return att
		}
	}
	return nil
}

// start starts lanes. The caller has locked g.mu.
func (g *Gateway) start(fresh []*lane) {
	for _, l := range fresh {
		g.lanes[l.name] = l
		l.start(g.newestWith(l.name))
	}
}

// use puts the newest attachment's settings in force. The caller has locked g.mu.
func (g *Gateway) use() {
	newest := g.attachments[len(g.attachments)-1]
	newest.config.Storage.Apply(g.inbox, newest.config.Policy)
	g.routes.Store(g.attachments[0].routes)
}

// end returns the lanes that nobody needs any more after an attachment has left, and
// gives the others new settings where its own were in force. The caller has locked g.mu.
func (g *Gateway) end(att *Attachment) (ended []*lane) {
	for name, l := range g.lanes {
		switch newest := g.newestWith(name); {
		case newest == nil:
			delete(g.lanes, name)
			l.att = nil
			ended = append(ended, l)
		case l.att == att:
			l.use(newest)
		}
	}
	return ended
}

// stopLanes stops deliveries, to all destinations at the same time. What was under way
// may end within the grace period.
func stopLanes(lanes []*lane, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	return eachLane(lanes, func(l *lane) error { return l.stop(ctx) })
}

// eachLane calls f for all lanes at the same time, and joins the errors in the order of
// the lanes.
func eachLane(lanes []*lane, f func(*lane) error) error {
	errs := make([]error, len(lanes))
	var calls sync.WaitGroup
	for i, l := range lanes {
		calls.Go(func() {
			if err := f(l); err != nil {
				errs[i] = fmt.Errorf("destination %q: %w", l.name, err)
			}
		})
	}
	calls.Wait()
	return errors.Join(errs...)
}
