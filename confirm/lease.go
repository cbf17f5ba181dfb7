package confirm

import (
	"context"
	"errors"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

const (
	// leaseFor bounds one look for callbacks, because there may be room for other ones
	// after it.
	leaseFor = time.Second

	// faultPause is the pause after the inbox has failed.
	faultPause = time.Second

	// storeTimeout bounds one use of the inbox.
	storeTimeout = 10 * time.Second
)

// lease fills the window until ctx ends, or the inbox is closed.
func (c *Confirmer) lease(ctx context.Context) {
	for ctx.Err() == nil {
		idle := c.idle()
		if idle {
			c.giveBack(ctx, 1)
		}
		c.mu.Lock()
		max, outOfTurn := c.window.room()
		if idle {
			max, outOfTurn = 1-len(c.window.waiting), 0
		}
		changed := c.changed
		c.mu.Unlock()
		if max <= 0 {
			c.await(ctx, changed, time.Now().Add(leaseFor))
			continue
		}
		leases, err := c.pick(ctx, max, outOfTurn)
		c.add(leases)
		switch {
		case len(leases) > 0 || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		case errors.Is(err, inbox.ErrClosed):
			return
		case err != nil:
			c.config.Failed(err)
			sleep.For(ctx, faultPause)
		}
	}
}

// idle reports whether callbacks can only wait. Then one is leased, to find out whether
// Fotor can be asked again; the others may be purged meanwhile.
func (c *Confirmer) idle() bool {
	return c.config.Hold && c.config.Fotor != nil && !c.config.Fotor.State().OK()
}

func (c *Confirmer) pick(ctx context.Context, max, outOfTurn int) ([]*inbox.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseFor)
	defer cancel()
	if c.picker == nil {
		if max -= outOfTurn; max == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return c.config.Queue.Lease(ctx, max)
	}
	return c.picker.Pick(ctx, inbox.Want{Max: max, Newest: outOfTurn})
}

func (c *Confirmer) add(leases []*inbox.Lease) {
	if len(leases) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, l := range leases {
		c.window.add(&waiting{lease: l, deadline: c.deadline(l, now)})
	}
	c.change()
}

// never is a deadline that does not come.
var never = time.Unix(1<<40, 0)

// deadline returns until when a callback waits if Fotor cannot be asked for it. What Fotor
// was asked for before waits from now on.
func (c *Confirmer) deadline(l *inbox.Lease, now time.Time) time.Time {
	switch since := l.Since(); {
	case c.config.Fotor == nil:
		return now
	case c.config.Hold:
		return never
	case l.Try() == 1 && since.Before(now):
		if since.Before(c.config.Since) {
			since = c.config.Since
		}
		return since.Add(c.config.Patience)
	default:
		return now.Add(c.config.Patience)
	}
}

// change tells those that wait that the window has changed. The caller has locked c.mu.
func (c *Confirmer) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits for a change, a time unless that is zero, or the end of ctx.
func (c *Confirmer) await(ctx context.Context, changed <-chan struct{}, until time.Time) {
	var timer <-chan time.Time
	if !until.IsZero() && until != never {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-timer:
	case <-ctx.Done():
	}
}
