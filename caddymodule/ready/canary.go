package ready

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// every is how long the result of a probe is good for.
	every = time.Second

	// maxWait is how long after a probe began a question waits for it. Questions
	// that come later are answered at once, so they do not pile up.
	maxWait = 2 * time.Second

	// maxAge is how long after a probe that succeeded a slow one does not matter yet.
	maxAge = 5 * time.Second

	// probeTimeout is how long a probe may take: as long as a callback.
	probeTimeout = 10 * time.Second
)

// errSlow says that the inbox has not answered yet.
var errSlow = errors.New("the inbox did not answer in time")

// canary finds out whether one handler stores. All questions share its probes, of
// which there is one at a time. It outlives reloads of the config.
type canary struct {
	name string

	mu   sync.Mutex
	told reason // what was logged last
	last *probe // under way, or the last one
	good *probe // the last one that succeeded
}

// probe is one attempt to prove that an inbox stores.
type probe struct {
	inbox inbox.Inbox
	began time.Time
	done  chan struct{}

	// valid once done is closed
	ended time.Time
	err   error
}

// ask begins to find out whether the handler stores, unless that is known. The
// function that it returns waits for the answer: nil, or why it does not store.
func (c *canary) ask(ctx context.Context) func() error {
	p, err := c.probe(ctx)
	if err != nil {
		return func() error { return err }
	}
	return func() error { return c.await(ctx, p) }
}

// probe returns the probe whose result is to be used.
func (c *canary) probe(ctx context.Context) (*probe, error) {
	gateway, err := control.Open(c.name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := gateway.Inbox()
	if c.last != nil && c.last.inbox == in && c.last.usable() {
		return c.last, gateway.Close()
	}
	p := &probe{inbox: in, began: time.Now(), done: make(chan struct{})}
	c.last = p
	go c.run(context.WithoutCancel(ctx), p, gateway)
	return p, nil
}

// usable reports whether the probe is under way, or its result still good.
func (p *probe) usable() bool {
	select {
	case <-p.done:
		return time.Since(p.ended) < every
	default:
		return true
	}
}

// run makes the probe, and closes the gateway, which stays open meanwhile.
func (c *canary) run(ctx context.Context, p *probe, gateway control.Gateway) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p.err = prove(ctx, p.inbox)
	p.ended = time.Now()
	if p.err == nil {
		c.mu.Lock()
		c.good = p
		c.mu.Unlock()
	}
	p.err = errors.Join(p.err, gateway.Close())
	close(p.done)
}

// await waits for the result of a probe, but not for long. A slow inbox is no
// failure while it is not long ago that it stored.
func (c *canary) await(ctx context.Context, p *probe) error {
	timer := time.NewTimer(time.Until(p.began.Add(maxWait)))
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	default:
	}
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good != nil && c.good.inbox == p.inbox && time.Since(c.good.began) <= maxAge {
		return nil
	}
	return errSlow
}

// prove returns nil if the inbox stores.
func prove(ctx context.Context, in inbox.Inbox) error {
	if prober, ok := in.(inbox.Prober); ok {
		return prober.Probe(ctx)
	}
	stats, err := in.Stats(ctx)
	if err == nil && stats.MaxBytes > 0 && stats.Bytes >= stats.MaxBytes {
		err = fmt.Errorf("%w: it has %d of at most %d bytes", inbox.ErrFull, stats.Bytes, stats.MaxBytes)
	}
	return err
}

// turn records what is logged of the handler, and returns what was before.
func (c *canary) turn(now reason) (before reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.told = c.told, now
	return before
}

// canaries has those of the handlers that configs name, as often as they do.
var canaries = caddy.NewUsagePool()

// acquire returns the canary of a handler. It must be released.
func acquire(name string) *canary {
	c, _ := canaries.LoadOrStore(name, &canary{name: name})
	return c.(*canary)
}

// release ends the use of a canary. A probe that is under way ends by itself.
func (c *canary) release() error {
	_, err := canaries.Delete(c.name)
	return err
}
