package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Attachment is one config's use of a gateway.
type Attachment struct {
	gateway  *Gateway
	config   *Config
	routes   *routes
	journal  *Journal
	refs     []*Ref
	since    time.Time
	detached bool // guarded by gateway.mu
	released bool // only the app's own goroutine
}

// Attach opens the inbox of a config, or joins the gateway that has it open. From then
// on events are delivered as the config says. The refs, at least one, are those of the
// handlers that have this config. ctx bounds the opening only.
func Attach(ctx context.Context, c *Config, refs ...*Ref) (*Attachment, error) {
	if err := opened.renew(ctx, c); err != nil {
		return nil, err
	}
	g, err := opened.get(ctx, c)
	if err != nil {
		return nil, err
	}
	att := &Attachment{gateway: g, config: c, journal: refs[0].journal, refs: refs, since: time.Now()}
	if err := g.join(ctx, att); err != nil {
		return nil, errors.Join(err, g.Drop())
	}
	attached.add(att)
	att.journal.attached() //nolint:contextcheck // it lasts until Detach
	for _, ref := range refs {
		ref.set(g)
	}
	unattended.forget()
	return att, nil
}

// join puts an attachment's settings in force, and starts deliveries to the
// destinations that no other attachment has. After an error nothing has changed.
func (g *Gateway) join(ctx context.Context, att *Attachment) error {
	// Locked until the lanes are there: else a hold that is set meanwhile would
	// neither be read here nor reach them.
	g.changing.Lock()
	defer g.changing.Unlock()
	if err := g.canAsk(att.config); err != nil {
		return err
	}
	fresh, err := g.newLanes(ctx, att.config)
	if err != nil {
		return err
	}
	att.journal.begin(att.config) //nolint:contextcheck // it lasts until Detach
	att.routes = routesOf(att.config)

	g.mu.Lock()
	defer g.mu.Unlock()
	g.attachments = append(g.attachments, att)
	for _, d := range att.config.Destinations {
		if l := g.lanes[d.Name]; l != nil {
			l.use(att)
		}
	}
	g.start(fresh) //nolint:contextcheck // deliveries last until Detach
	g.use()
	g.askAsNewest() //nolint:contextcheck // it lasts until Detach
	return nil
}

// Detach takes the attachment's settings out of force. Deliveries to a destination go on
// with the newest attachment that is left and has it. Without one they stop: attempts
// under way may end within the grace period, and events that are not settled by then
// become due again without a spent attempt. It reports whether no attachment is left.
func (att *Attachment) Detach() (stopped bool) {
	g := att.gateway
	g.mu.Lock()
	if att.detached {
		g.mu.Unlock()
		return false
	}
	att.detached = true
	g.attachments = slices.DeleteFunc(g.attachments, func(other *Attachment) bool { return other == att })
	ended := g.end(att)
	var newest *Config
	if n := len(g.attachments); n > 0 {
		newest = g.attachments[n-1].config
		g.use()
	}
	asker := g.askAsNewest()
	g.mu.Unlock()
	defer func() {
		select {
		case g.detached <- struct{}{}:
		default:
		}
	}()
	next := attached.remove(att)
	defer att.journal.end(next)

	err := stopLanes(ended, att.config.Grace)
	asker.await(att.config.Grace)
	if err != nil {
		g.logger.Error("stopping deliveries; what could not be settled will be delivered again", zap.Error(err))
	}
	att.forget(next)
	if newest != nil {
		g.warnLeftBehind(context.Background(), newest, true)
		return false
	}
	if err != nil {
		opened.forget(g) // it still has leases, so it cannot be used again
	}
	return true
}

// forget removes the metrics of the destinations that no attachment of the handler's name
// has any more. next is the newest of them; without one the handler is gone, and its
// metrics stay as they are.
func (att *Attachment) forget(next *Attachment) {
	if next == nil {
		return
	}
	for _, name := range att.config.destinationNames() {
		if !attached.haveDestination(att.config.Name, name) {
			att.config.Metrics.Forget(name)
		}
	}
}

// Release ends the attachment's use of the gateway.
func (att *Attachment) Release() error {
	if att.released {
		return nil
	}
	att.released = true
	return att.gateway.Drop()
}
