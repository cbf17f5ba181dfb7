package confirm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// expire delivers the callbacks for which Fotor could not be asked for too long, until ctx
// ends.
func (c *Confirmer) expire(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		expired, at := c.window.expired(time.Now())
		changed := c.changed
		c.mu.Unlock()
		if len(expired) == 0 {
			c.await(ctx, changed, at)
			continue
		}
		var jobs sync.WaitGroup
		for _, w := range expired {
			jobs.Go(func() { c.giveUpAsking(ctx, w) })
		}
		jobs.Wait()
	}
}

func (c *Confirmer) giveUpAsking(ctx context.Context, w *waiting) {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := c.config.Events.Unconfirmed(bounded, w.lease.Event); err != nil {
		if ctx.Err() == nil {
			c.config.Failed(fmt.Errorf("event %s: the callback, which could not be confirmed, could not be stored for its destinations: %w", w.lease.Event.ID, err))
			sleep.For(ctx, faultPause)
		}
		c.free(w, time.Time{})
		return
	}
	c.done(context.WithoutCancel(ctx), w, inbox.Attempt{At: began, Duration: time.Since(began)})
}

// done removes a callback whose event is stored, or which is in quarantine.
func (c *Confirmer) done(ctx context.Context, w *waiting, a inbox.Attempt) {
	a.Reason = ""
	if !c.settle(ctx, w, inbox.Outcome{Verdict: inbox.Deliver, Attempt: a}) {
		return // it is decided again, with the same result
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := c.config.Events.Remove(bounded, w.lease.Event); err != nil && !errors.Is(err, inbox.ErrNotFound) {
		c.config.Failed(fmt.Errorf("event %s is done and stays for a while: %w", w.lease.Event.ID, err))
	}
}

// settle ends the lease of a callback, and takes it out of the window. It reports false if
// that failed: then the callback is leased again, once the inbox lets it.
func (c *Confirmer) settle(ctx context.Context, w *waiting, o inbox.Outcome) bool {
	o.Lease = w.lease
	var err error
	for wait := time.Second; ; wait *= 2 {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		err = c.config.Queue.Settle(bounded, o)
		cancel()
		if err == nil || errors.Is(err, inbox.ErrState) || errors.Is(err, inbox.ErrClosed) || wait > 4*time.Second {
			break
		}
		sleep.For(ctx, wait)
	}
	if err != nil {
		c.config.Failed(fmt.Errorf("event %s will be looked at again: %w", w.lease.Event.ID, err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && !errors.Is(err, inbox.ErrState) && !errors.Is(err, inbox.ErrClosed) {
		w.busy = false // the lease goes on
	} else {
		c.window.remove(w)
	}
	c.change()
	return err == nil
}

// free has a callback asked for again, not before a time.
func (c *Confirmer) free(w *waiting, notBefore time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.busy, w.notBefore = false, notBefore
	c.change()
}

// giveBack ends leases unspent until no more than left remain, but for those that are busy.
func (c *Confirmer) giveBack(ctx context.Context, left int) {
	c.mu.Lock()
	var outcomes []inbox.Outcome
	for i := len(c.window.waiting) - 1; i >= left; i-- {
		if w := c.window.waiting[i]; !w.busy {
			outcomes = append(outcomes, inbox.Outcome{Lease: w.lease, Verdict: inbox.Release})
			c.window.remove(w)
		}
	}
	c.mu.Unlock()
	if len(outcomes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := c.config.Queue.Settle(ctx, outcomes...); err != nil {
		c.config.Failed(fmt.Errorf("%d callbacks that wait to be confirmed will be leased again later: %w", len(outcomes), err))
	}
}
