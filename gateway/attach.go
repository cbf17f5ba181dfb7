package gateway

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Attachment is one config's use of a gateway.
type Attachment struct {
	gateway  *Gateway
	config   *Config
	journal  *Journal
	refs     []*Ref
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
	att := &Attachment{gateway: g, config: c, journal: refs[0].journal, refs: refs}
	if err := g.join(ctx, att); err != nil {
		return nil, errors.Join(err, g.Drop())
	}
	attached.add(att)
	for _, ref := range refs {
		ref.set(g)
	}
	unattended.forget()
	return att, nil
}

// join puts an attachment's settings in force, and starts deliveries if the
// attachment is the first.
func (g *Gateway) join(ctx context.Context, att *Attachment) error {
	// Locked until the dispatcher is there: else a hold that is set meanwhile would
	// neither be read here nor reach the dispatcher.
	g.byHand.Lock()
	defer g.byHand.Unlock()
	held, unknown, err := g.readHold(ctx, att.config)
	if err != nil && (!errors.Is(err, inbox.ErrBroken) || !g.delivers()) { // a load may repair a broken inbox
		return err
	}
	att.journal.begin(att.config) //nolint:contextcheck // it lasts until Detach

	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.attachments) == 0 { // it is new, or only requests have kept it open
		g.begin(att, held, unknown) //nolint:contextcheck // deliveries last until Detach
	}
	g.attachments = append(g.attachments, att)
	g.use(att)
	return nil
}

func (g *Gateway) delivers() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.attachments) > 0
}

// Detach takes the attachment's settings out of force. Deliveries go on with the newest
// attachment that is left. Without one they stop: attempts under way may end within the
// grace period, and events that are not settled by then become due again without a
// spent attempt. It reports whether deliveries stopped.
func (att *Attachment) Detach() (stopped bool) {
	g := att.gateway
	g.mu.Lock()
	if att.detached {
		g.mu.Unlock()
		return false
	}
	att.detached = true
	wasNewest := g.attachments[len(g.attachments)-1] == att
	g.attachments = slices.DeleteFunc(g.attachments, func(other *Attachment) bool { return other == att })
	last := len(g.attachments) == 0
	dispatcher, peers := g.dispatcher, g.peers
	if !last && wasNewest {
		g.use(g.attachments[len(g.attachments)-1])
	}
	g.mu.Unlock()
	defer att.journal.end(attached.remove(att))

	if !last {
		return false
	}
	peers.end()
	ctx, cancel := context.WithTimeout(context.Background(), att.config.Grace)
	defer cancel()
	if err := dispatcher.Stop(ctx); err != nil {
		g.logger.Error("stopping deliveries; what could not be settled will be delivered again", zap.Error(err))
		opened.forget(g) // it still has leases, so it cannot be used again
	}
	return true
}

// Release ends the attachment's use of the gateway.
func (att *Attachment) Release() error {
	if att.released {
		return nil
	}
	att.released = true
	return att.gateway.Drop()
}
