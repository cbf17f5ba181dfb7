package fotorapi

import (
	"context"
	"math"
	"sync"
	"time"
)

// Budget decides when a question may be asked. Implementations are safe for concurrent use.
type Budget interface {
	// Wait returns when a question may be asked, or the context's error if that ends first.
	// After the question, done must be called with its error, or nil: the budget learns
	// from it. Calls after the first do nothing.
	Wait(ctx context.Context) (done func(error), err error)

	// Rate returns the questions a second that it allows now, 0 during a Retry-After.
	Rate() float64
}

// Limits of a rate, in questions a second. The least is far below what a config may say,
// because many may share that.
const (
	MinRate = 1e-6
	MaxRate = 1000.0

	// FloorRate is what answers "too often" slow a budget down to, unless it has a lower
	// rate anyway: one question a minute, so that the end of it is noticed.
	FloorRate = 1.0 / 60
)

// timeUp is the time in which answers bring a budget from nothing to its full rate, unless
// questions are rarer than one a second: from half of 2/s one minute, from the floor five.
const timeUp = 2 * time.Minute

// Adaptive is a budget that learns, as TCP does (AIMD, RFC 5681), what Fotor bears, as no
// number is published. Questions are evenly spaced, one at a time. HTTP 429 halves the rate,
// down to FloorRate, and answers raise it by a 120th of the full rate a second, up to that. A
// Retry-After holds all questions. Questions that were asked before the rate was halved say
// nothing about the rate since, so many answers 429 at once halve it once.
//
// It is not a token bucket of golang.org/x/time/rate, because there a time that was promised
// to a caller stays: after a 429 all who wait would still ask at the old rate.
type Adaptive struct {
	turn chan struct{} // held by the one whose question is the next

	mu      sync.Mutex
	full    float64 // the rate without trouble
	rate    float64
	last    time.Time     // when the last question was allowed, or the rate was halved
	until   time.Time     // no question before
	halved  time.Time     // when the rate was halved last
	changed chan struct{} // closed when the rate has grown
}

// NewAdaptive returns a budget of so many questions a second, from MinRate to MaxRate: what is
// less or more counts as that.
func NewAdaptive(rate float64) *Adaptive {
	rate = withinLimits(rate)
	return &Adaptive{turn: make(chan struct{}, 1), full: rate, rate: rate, changed: make(chan struct{})}
}

func withinLimits(rate float64) float64 {
	if math.IsNaN(rate) {
		return MinRate
	}
	return max(MinRate, min(rate, MaxRate))
}

// Rate implements Budget.
func (b *Adaptive) Rate() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.until) {
		return 0
	}
	return b.rate
}

// SetRate changes the rate without trouble; see NewAdaptive. What was learnt from answers
// "too often" stays: a budget that is slowed down does not become faster at once.
func (b *Adaptive) SetRate(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rate = withinLimits(rate)
	if b.rate == b.full || b.rate > rate {
		b.rate = rate
	}
	b.full = rate
	b.wake()
}

// wake has whoever waits look at the rate again.
func (b *Adaptive) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Wait implements Budget.
func (b *Adaptive) Wait(ctx context.Context) (done func(error), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		wait, changed := b.allow()
		if wait <= 0 {
			asked := time.Now()
			var once sync.Once
			return func(err error) { once.Do(func() { b.learn(asked, err) }) }, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// allow allows a question if it is time, or else returns how long that takes, unless the
// channel is closed before.
func (b *Adaptive) allow() (wait time.Duration, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, due := time.Now(), b.until
	if !b.last.IsZero() {
		if next := b.last.Add(time.Duration(float64(time.Second) / b.rate)); next.After(due) {
			due = next
		}
	}
	if wait = due.Sub(now); wait > 0 {
		return wait, b.changed
	}
	b.last = now
	return 0, nil
}

// learn takes what a question brought that was asked then.
func (b *Adaptive) learn(asked time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, kind := time.Now(), KindOf(err)
	if pause := now.Add(min(RetryAfterOf(err), MaxRetryAfter)); pause.After(now) && pause.After(b.until) {
		b.until = pause
	}
	switch {
	case asked.Before(b.halved):
	case kind == TooOften:
		b.rate = max(b.rate/2, min(b.full, FloorRate))
		b.last, b.halved = now, now
	case err == nil, kind == NotKnown, kind == OtherTask, kind == Unusable: // Fotor has answered
		if b.rate < b.full {
			each := min(1, 1/b.rate) // seconds from one answer to the next
			b.rate = min(b.full, b.rate+b.full*each/timeUp.Seconds())
			b.wake()
		}
	}
}
