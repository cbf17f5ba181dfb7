package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// lane is the deliveries to one destination: its queue and the dispatcher that empties
// it. It lasts as long as a running config names the destination.
type lane struct {
	gateway *Gateway
	name    string
	queue   inbox.Queue

	// att is the attachment whose settings are in force, nil once the lane has ended.
	// It is guarded by gateway.mu.
	att *Attachment

	dispatcher *dispatch.Dispatcher // these three do not change after start
	watcher    *watcher
	peers      *peers // nil if no other gateway can use the inbox

	// byHand is locked while an operator's hold is being changed. It guards known, the
	// last such hold. It is locked after gateway.changing and before gateway.mu.
	byHand  sync.Mutex
	known   inbox.Hold
	unknown bool // known is a hold in place of the one that could not be read
}

// newLane opens the queue of a destination and reads whether it is held by hand. While
// that is unknown, because the inbox cannot be reached, it is held.
func (g *Gateway) newLane(ctx context.Context, c *Config, name string, away bool) (*lane, error) {
	queue, err := g.inbox.Queue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("opening the queue of destination %q: %w", name, err)
	}
	l := &lane{gateway: g, name: name, queue: queue, unknown: away}
	if !away {
		if l.known, l.unknown, err = l.readHold(ctx, c); err != nil {
			return nil, err
		}
	}
	if l.unknown {
		l.known = inbox.Hold{Since: time.Now(), Reason: "the inbox was not reached yet, so it is not known whether deliveries are held by hand"}
	}
	return l, nil
}

// mayBeAway reports whether a config may be loaded though the inbox cannot be
// read yet.
func (l *lane) mayBeAway(c *Config) bool {
	lenient, ok := c.Storage.(LenientStorage)
	_, shared := l.queue.(inbox.Shared)
	return ok && shared && lenient.StartsWithoutStorage()
}

// readHold reads the hold by hand from the inbox. If the inbox cannot be read yet, and
// the config may be loaded without that, the hold is unknown.
func (l *lane) readHold(ctx context.Context, c *Config) (held inbox.Hold, unknown bool, err error) {
	held, err = l.queue.Hold(ctx)
	if err == nil {
		return held, false, nil
	}
	if l.mayBeAway(c) {
		return held, true, nil
	}
	return held, false, fmt.Errorf("destination %q: reading whether deliveries are held by hand: %w", l.name, err)
}

// start starts a dispatcher, and the exchange with the gateways that share the inbox.
// The caller has locked gateway.mu.
func (l *lane) start(att *Attachment) {
	l.att = att
	l.watcher = &watcher{lane: l}
	if shared, ok := l.queue.(inbox.Shared); ok {
		l.peers = newPeers(l, shared)
	}
	l.dispatcher = dispatch.New(l.queue, l.settings())
	l.dispatcher.Pause(l.known)
	l.dispatcher.Start()
	if l.peers != nil {
		l.peers.begin()
	}
}

// use puts an attachment's settings in force. The caller has locked gateway.mu.
func (l *lane) use(att *Attachment) {
	l.att = att
	l.dispatcher.Use(l.settings())
}

// settings are those of the attachment's config, with the observer.
func (l *lane) settings() dispatch.Settings {
	c := l.att.config
	s := c.destination(l.name).Dispatch
	s.Observer = pressureWatch{observer{l.loggerOf(c), l.name, c.Metrics.Destination(l.name), l.att.journal}, l.watcher}
	if l.peers != nil {
		s.Observer = reporter{s.Observer, l.peers}
	}
	return s
}

func (l *lane) loggerOf(c *Config) *zap.Logger {
	return c.Logger.With(zap.String("destination", l.name))
}

// logger returns the logger of the settings in force, nil once the lane has ended.
func (l *lane) logger() *zap.Logger {
	l.gateway.mu.Lock()
	defer l.gateway.mu.Unlock()
	if l.att == nil {
		return nil
	}
	return l.loggerOf(l.att.config)
}

// stop ends the deliveries. It returns when nothing of the lane uses the inbox any more.
// The caller has locked neither byHand nor gateway.mu.
func (l *lane) stop(ctx context.Context) error {
	l.peers.end()
	return l.dispatcher.Stop(ctx)
}

// holds returns why deliveries are held. The end of a pause is told as long as it is to
// come.
func (l *lane) holds(now time.Time) []control.Hold {
	holds := []control.Hold{}
	for _, h := range l.dispatcher.Holds() {
		hold := control.Hold{Destination: l.name, By: holder(h), Since: h.Since.UTC(), Reason: h.Reason}
		if h.Until.After(now) {
			until := h.Until.UTC()
			hold.Until = &until
		}
		holds = append(holds, hold)
	}
	return holds
}
