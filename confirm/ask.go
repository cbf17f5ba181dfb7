package confirm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

const (
	// atOnce is the largest number of questions under way.
	atOnce = 8

	// askAgain is the pause after Fotor could not be asked.
	askAgain = 2 * time.Second
)

// ask asks for the callbacks in the window until ctx ends.
func (c *Confirmer) ask(ctx context.Context) {
	slots := make(chan struct{}, atOnce)
	var questions sync.WaitGroup
	defer questions.Wait()
	for c.awaitWaiting(ctx) {
		slots <- struct{}{}
		work, alone := c.next(ctx)
		if work == nil {
			<-slots
			continue
		}
		if alone {
			work()
			<-slots
			continue
		}
		questions.Go(func() {
			work()
			<-slots
		})
	}
}

// next returns what is to be done next, nil if that is nothing, and whether nothing else
// should be done meanwhile.
func (c *Confirmer) next(ctx context.Context) (work func(), alone bool) {
	if w, answer := c.answered(); w != nil {
		return func() { _ = c.take(context.WithoutCancel(ctx), w, answer, inbox.Attempt{At: time.Now()}) }, false
	}
	q := c.config.Fotor.Next(ctx)
	if q == nil {
		return nil, false
	}
	w := c.choose()
	if w == nil { // it was too late for it
		q.Unused()
		return nil, false
	}
	return func() { c.question(ctx, q, w) }, q.Probe()
}

// answered returns a callback whose task has ended by what Fotor has answered just before,
// which is busy then, and the answer.
func (c *Confirmer) answered() (*waiting, []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, w := range c.window.waiting {
		if w.busy || w.notBefore.After(now) {
			continue
		}
		if answer := c.answers.get(w.lease.Event.TaskID, now); answer != nil {
			w.busy = true
			return w, answer
		}
	}
	return nil, nil
}

// awaitWaiting waits until there is something to ask for. It reports false when ctx has
// ended.
func (c *Confirmer) awaitWaiting(ctx context.Context) bool {
	for ctx.Err() == nil {
		c.mu.Lock()
		w, at := c.window.next(time.Now())
		changed := c.changed
		c.mu.Unlock()
		if w != nil {
			return true
		}
		c.await(ctx, changed, at)
	}
	return false
}

// choose returns the callback that is asked for next, which is busy then.
func (c *Confirmer) choose() *waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, _ := c.window.next(time.Now())
	if w != nil {
		c.window.turns++
		w.busy = true
	}
	return w
}

// question asks for a callback, and does with the answer what it means.
func (c *Confirmer) question(ctx context.Context, q *reconcile.Question, w *waiting) {
	began, e := time.Now(), w.lease.Event
	answer, err := q.Ask(ctx, e.TaskID, w.lease.Attempt-1)
	if err != nil && ctx.Err() != nil {
		c.free(w, time.Time{})
		return
	}
	ctx = context.WithoutCancel(ctx) // an answer is stored even if the gateway stops
	a := inbox.Attempt{At: began, Duration: time.Since(began)}
	switch {
	case err == nil:
		result := c.take(ctx, w, answer, a)
		c.config.Asked(e.TaskID, w.lease.Attempt-1, result, time.Since(began))
	case errors.Is(err, reconcile.ErrNotKnown), errors.Is(err, reconcile.ErrUnaskable):
		c.notYet(ctx, w, false, err.Error(), a)
	default: // Fotor could not be asked
		c.free(w, time.Now().Add(askAgain))
	}
}

// take does with an answer what it means, and returns what it came to.
func (c *Confirmer) take(ctx context.Context, w *waiting, answer []byte, a inbox.Attempt) reconcile.Result {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	meaning, text, err := c.config.Events.Take(bounded, w.lease.Event, answer)
	switch {
	case err != nil:
		c.config.Failed(fmt.Errorf("event %s: what Fotor answered could not be stored: %w", w.lease.Event.ID, err))
		c.free(w, time.Now().Add(askAgain))
		return reconcile.ResultNotStored
	case meaning == reconcile.Final:
		c.mu.Lock()
		c.answers.add(w.lease.Event.TaskID, answer, time.Now())
		c.mu.Unlock()
		c.done(ctx, w, a)
		return reconcile.ResultFinal
	}
	c.notYet(ctx, w, true, "Fotor's API says: "+text, a)
	if meaning == reconcile.Invalid {
		return reconcile.ResultInvalid
	}
	return reconcile.ResultInProgress
}

// notYet rejects a callback that Fotor does not confirm, or has it asked for again.
func (c *Confirmer) notYet(ctx context.Context, w *waiting, known bool, why string, a inbox.Attempt) {
	a.Reason = why
	asked := w.lease.Try()
	age := time.Since(w.lease.Since())
	if asked >= leastAsked && age >= c.config.Patience || asked >= mostAsked && age < 0 {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		inQuarantine, err := c.config.Events.Reject(bounded, w.lease.Event, known, why)
		switch {
		case err != nil:
			c.config.Failed(fmt.Errorf("event %s: the callback, which Fotor does not confirm, could not be put in quarantine: %w", w.lease.Event.ID, err))
			c.free(w, time.Now().Add(askAgain))
		case inQuarantine:
			c.done(ctx, w, a)
		default:
			c.settle(ctx, w, inbox.Outcome{Verdict: inbox.GiveUp, Attempt: a})
		}
		return
	}
	c.settle(ctx, w, inbox.Outcome{Verdict: inbox.Retry, Due: time.Now().Add(c.pause(asked)), Attempt: a})
}

// pause returns how long to wait after so many questions, 1 or more.
func (c *Confirmer) pause(asked int) time.Duration {
	d := firstPause << min(asked-1, 10)
	d = min(d, max(firstPause, c.config.Patience/4), MostPause)
	return d*3/4 + rand.N(d/4+1)
}
