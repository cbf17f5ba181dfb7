// Package gateway runs open inboxes and the deliveries that empty them. It
// carries both over reloads of the config, so that an event has one owner however
// many configs overlap. It needs neither HTTP nor Caddy.
//
// To read it in order: Config (config.go) is what a handler gives; Attach
// (attach.go) opens an inbox for it or joins the one that is open (pool.go), and
// renew.go opens a broken one anew. A Ref (ref.go) is how a handler finds the
// gateway for a callback. peers.go keeps gateways of one shared inbox in step.
// A Journal (journal.go, observer.go, recent.go, refusals.go) and pressure.go say what happens,
// and emit.go makes Caddy events of that. operator.go is what package control may ask.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const openTimeout = time.Minute

// Gateway is an open inbox and the dispatcher that empties it.
type Gateway struct {
	key   string
	inbox inbox.Inbox
	queue inbox.Queue // of the default destination

	// holders counts the attachments and the requests under way. The last one
	// closes the inbox. At zero the gateway cannot be used any more.
	holders atomic.Int64
	logger  *zap.Logger

	// byHand is locked while an operator's hold is being changed. It guards known,
	// the last such hold, and is locked before mu.
	byHand sync.Mutex
	known  inbox.Hold

	mu          sync.Mutex
	attachments []*Attachment // oldest first; the last one's settings are in use
	dispatcher  *dispatch.Dispatcher
	watcher     *watcher
	peers       *peers // nil if no other gateway can use the inbox
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
	queue, err := in.Queue(ctx, inbox.DefaultDestination)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the inbox %s: %w", c.Key, err), in.Close())
	}
	g := &Gateway{key: c.Key, inbox: in, queue: queue, logger: c.Logger}
	g.holders.Store(1)
	return g, nil
}

// Inbox returns the gateway's inbox.
func (g *Gateway) Inbox() inbox.Inbox { return g.inbox }

// Held reports whether deliveries are held, for whatever reason.
func (g *Gateway) Held() bool { return len(g.running().Holds()) > 0 }

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

// running returns the dispatcher that delivers, or delivered last.
func (g *Gateway) running() *dispatch.Dispatcher {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dispatcher
}

// begin starts a dispatcher, and the exchange with the gateways that share the inbox.
// While it is unknown whether an operator holds deliveries, they are held. The caller
// has locked g.byHand and g.mu.
func (g *Gateway) begin(att *Attachment, held inbox.Hold, unknown bool) {
	if unknown {
		held = inbox.Hold{Since: time.Now(), Reason: "the inbox was not reached yet, so it is not known whether deliveries are held by hand"}
	}
	g.known = held
	g.watcher = &watcher{gateway: g}
	g.peers = nil
	if shared, ok := g.queue.(inbox.Shared); ok {
		g.peers = newPeers(g, shared)
		if unknown {
			g.peers.unknown = &held
		}
	}
	g.dispatcher = dispatch.New(g.queue, g.settings(att))
	g.watcher.dispatcher = g.dispatcher
	g.dispatcher.Pause(held)
	g.dispatcher.Start()
	if g.peers != nil {
		g.peers.begin(g.dispatcher)
	}
}

// use puts an attachment's settings in force. The caller has locked g.mu.
func (g *Gateway) use(att *Attachment) {
	att.config.Storage.Apply(g.inbox, att.config.Policy)
	g.dispatcher.Use(g.settings(att))
}

// settings are those of an attachment's config, with the observer. The caller has
// locked g.mu.
func (g *Gateway) settings(att *Attachment) dispatch.Settings {
	s := att.config.Dispatch
	s.Observer = pressureWatch{observer{att.config.Logger, att.config.Metrics, att.journal}, g.watcher}
	if g.peers != nil {
		s.Observer = reporter{s.Observer, g.peers}
	}
	return s
}

// mayBeAway reports whether a config may be loaded though the inbox cannot be
// read yet.
func (g *Gateway) mayBeAway(c *Config) bool {
	lenient, ok := c.Storage.(LenientStorage)
	_, shared := g.queue.(inbox.Shared)
	return ok && shared && lenient.StartsWithoutStorage()
}

// readHold reads the hold by hand from the inbox. If the inbox cannot be read yet, and
// the config may be loaded without that, the hold is unknown.
func (g *Gateway) readHold(ctx context.Context, c *Config) (held inbox.Hold, unknown bool, err error) {
	held, err = g.queue.Hold(ctx)
	if err == nil {
		return held, false, nil
	}
	if g.mayBeAway(c) {
		return held, true, nil
	}
	return held, false, fmt.Errorf("reading whether deliveries are held by hand: %w", err)
}
