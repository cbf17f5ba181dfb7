package gateway

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// renew opens a broken inbox anew and moves all its users to the new gateway: the running
// configs, in case the one that is being loaded fails after all, and the requests to
// come. It does nothing if the config's inbox is not open, or not broken.
//
// The broken inbox is closed first: its locks would be in the way, and what it has in
// memory must not get into the new file. So if the new one cannot be opened, the inbox
// stays broken, and the next reload tries again.
func (p *pool) renew(ctx context.Context, c *Config) error {
	old := p.of(c.Key)
	if old == nil {
		return nil
	}
	breakable, ok := old.inbox.(inbox.Breakable)
	if !ok || breakable.Broken() == nil || !old.hold() {
		return nil
	}
	defer old.dropAfter(c)
	cause := breakable.Broken()
	old.stop(c) //nolint:contextcheck // it has a time of its own
	if err := old.inbox.Close(); err != nil {
		c.Logger.Error("closing the broken inbox", zap.String("inbox", c.Key), zap.Error(err))
	}
	if !old.inUse() { // only requests kept it open: get opens the next one
		p.forget(old)
		return nil
	}
	g, err := open(ctx, c)
	if err != nil {
		return errors.Join(err, cause)
	}
	defer g.dropAfter(c)
	if err := g.takeOver(ctx, c, old); err != nil {
		return err
	}
	p.set(g)
	c.Logger.Warn("the broken inbox was opened anew: callbacks are taken again", zap.String("inbox", c.Key), zap.NamedError("broken", cause))
	return nil
}

// inUse reports whether a config uses the gateway.
func (g *Gateway) inUse() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.attachments) > 0
}

// dropAfter ends renew's use of a gateway.
func (g *Gateway) dropAfter(c *Config) {
	if err := g.Drop(); err != nil {
		c.Logger.Error("after the inbox was opened anew", zap.Error(err))
	}
}

// stop ends the deliveries of a broken inbox, and the questions. It cannot record outcomes
// any more: the events of attempts under way are delivered again.
func (g *Gateway) stop(c *Config) {
	g.mu.Lock()
	asker := g.asker
	g.asker = nil
	g.mu.Unlock()
	if asker != nil {
		asker.cancel()
		defer asker.await(c.Grace)
	}
	if err := stopLanes(g.running(), c.Grace); err != nil {
		c.Logger.Error("deliveries of the broken inbox that were under way", zap.Error(err))
	}
}

// takeOver moves the attachments of the broken gateway to this one, and starts
// deliveries with the settings that were in force.
func (g *Gateway) takeOver(ctx context.Context, c *Config, broken *Gateway) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	var fresh []*lane
	for _, old := range broken.running() {
		l, err := g.newLane(ctx, c, old.name, len(fresh) > 0 && fresh[len(fresh)-1].unknown)
		if err != nil {
			return errors.Join(err, g.inbox.Close())
		}
		fresh = append(fresh, l)
	}
	broken.mu.Lock()
	defer broken.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attachments = broken.attachments
	broken.attachments, broken.lanes = nil, nil
	g.start(fresh) //nolint:contextcheck // deliveries last until Detach
	g.use()
	g.holders.Add(int64(len(g.attachments)))
	g.askAsNewest()                                //nolint:contextcheck // as above
	broken.holders.Add(-int64(len(g.attachments))) // one is renew's
	attached.move(g.attachments, g)
	return nil
}
