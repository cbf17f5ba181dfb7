package gateway

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"
)

// opened has every open gateway by its inbox's key. It outlives configs, so that a
// reload goes on with the inbox, the deliveries and the leases of the old config.
var opened = pool{byKey: make(map[string]*Gateway)}

// attached has the attachments of each handler name.
var attached = registry{byName: make(map[string][]*Attachment)}

// pool keeps the open gateways by their keys. It is no caddy.UsagePool, because requests
// keep a gateway open too: the next config with its inbox must get the same one, as a
// file cannot be opened a second time.
type pool struct {
	mu    sync.Mutex
	byKey map[string]*Gateway
}

// get returns the config's gateway; the caller must drop it. Caddy starts one config at
// a time, so no two open the same.
func (p *pool) get(ctx context.Context, c *Config) (*Gateway, error) {
	if g := p.of(c.Key); g != nil && g.hold() {
		return g, nil
	}
	g, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	p.set(g)
	return g, nil
}

// of returns the gateway of a key, nil if none is open.
func (p *pool) of(key string) *Gateway {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byKey[key]
}

func (p *pool) set(g *Gateway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byKey[g.key] = g
}

// forget removes a gateway that is closed.
func (p *pool) forget(g *Gateway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey[g.key] == g {
		delete(p.byKey, g.key)
	}
}

// registry keeps attachments by their handlers' names, the oldest first.
type registry struct {
	mu     sync.RWMutex
	byName map[string][]*Attachment
}

func (r *registry) add(att *Attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := att.config.Name
	r.byName[name] = append(r.byName[name], att)
}

// remove removes an attachment, and returns the newest that is left of its name, nil if
// there is none.
func (r *registry) remove(att *Attachment) *Attachment {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := att.config.Name
	left := slices.DeleteFunc(r.byName[name], func(other *Attachment) bool { return other == att })
	if len(left) == 0 {
		delete(r.byName, name)
		return nil
	}
	r.byName[name] = left
	return left[len(left)-1]
}

// move moves attachments to another gateway.
func (r *registry) move(atts []*Attachment, to *Gateway) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, att := range atts {
		att.gateway = to
		for _, ref := range att.refs {
			ref.gateway.Store(to)
		}
	}
}

// current returns the gateway in which callbacks for that name are stored, nil if there
// is none. It is the oldest attachment's: until that is detached, a newer config may
// still fail to load, and what was stored in its inbox would not be delivered.
func (r *registry) current(name string) *Gateway {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if atts := r.byName[name]; len(atts) > 0 {
		return atts[0].gateway
	}
	return nil
}

// newest returns the newest attachment of that name and its gateway, nil if there is
// none.
func (r *registry) newest(name string) (*Attachment, *Gateway) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if atts := r.byName[name]; len(atts) > 0 {
		att := atts[len(atts)-1]
		return att, att.gateway
	}
	return nil, nil
}

// haveDestination reports whether an attachment of that name has the destination.
func (r *registry) haveDestination(name, destination string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.ContainsFunc(r.byName[name], func(att *Attachment) bool { return att.config.destination(destination) != nil })
}

// all returns the newest attachment of every name, and its gateway.
func (r *registry) all() map[*Attachment]*Gateway {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make(map[*Attachment]*Gateway, len(r.byName))
	for _, atts := range r.byName {
		newest := atts[len(atts)-1]
		all[newest] = newest.gateway
	}
	return all
}

// Each calls f with the newest running config of every name, and its gateway, which
// stays open meanwhile.
func Each(f func(c *Config, g *Gateway)) {
	for att, g := range attached.all() {
		if !g.hold() {
			continue
		}
		f(att.config, g)
		if err := g.Drop(); err != nil {
			g.logger.Error("closing the inbox after a scrape of its metrics", zap.Error(err))
		}
	}
}

// names lists the names of the running handlers in alphabetical order.
func (r *registry) names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 0, len(r.byName))
	for name := range r.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
