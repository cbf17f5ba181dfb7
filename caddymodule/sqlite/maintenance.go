package sqlite

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// idleAfter is the time without an op after which work is done that would
	// rather wait for the next op.
	idleAfter = 5 * time.Millisecond

	// maintenancePause is how long maintenance rests after a step, as a
	// multiple of the time that it took.
	maintenancePause = 4.0

	// maintenanceRetry and maintenanceRetryMax bound the time between a failure
	// and the next attempt.
	maintenanceRetry    = time.Second
	maintenanceRetryMax = time.Minute

	// maxGathered is the number of generations whose entries may wait in memory
	// while the index cannot be written.
	maxGathered = 4

	// never is a long time for a timer.
	never = time.Hour
)

// errIndexFull says why no more events are taken while the index cannot be
// written.
var errIndexFull = errors.New("too many events wait for it")

// maintenance is the writer's work between ops. Each step is a transaction of
// its own, short enough to go unnoticed, and its failure affects nothing else.
type maintenance struct {
	added      int // events since the index was last written
	restUntil  time.Time
	retirement retirement
	retired    bool // the last step was one of the retirement, so that the others have their turn
	clock      inbox.Clock
	sweep      sweep
	leftBehind leftBehind

	err     error // of the last step
	backoff time.Duration
}

// wait returns how long the writer may sleep.
func (c *maintenance) wait(w *writer) time.Duration {
	if now := w.now(); c.err != nil && now.Before(c.restUntil) {
		return c.restUntil.Sub(now)
	}
	if frozen, _ := w.index.pending(); frozen {
		return idleAfter
	}
	at, ok := c.retirement.due(w)
	if tidy, any := c.leftBehind.due(w); any && (!ok || tidy.Before(at)) {
		at, ok = tidy, true
	}
	switch {
	case c.sweepDue(w) || w.quarantineOver() || w.tasksOver() || w.partsDue() != nil:
		at = c.restUntil
	case !ok:
		return never
	case at.Before(c.restUntil):
		at = c.restUntil
	}
	return min(never, max(0, at.Sub(w.now())))
}

// run takes one step of the work that is due.
func (c *maintenance) run(w *writer, idle bool) {
	now := w.now()
	resting := now.Before(c.restUntil)
	if c.err != nil && resting {
		return
	}
	for half := w.limits.flushStep / 2; idle || c.added >= half; idle = false {
		if frozen, _ := w.index.pending(); !frozen {
			c.added = 0
			break
		}
		if c.done(w, now, flushIndex(w), 0); c.err != nil {
			return
		}
		c.added = max(0, c.added-half)
	}
	if resting {
		return
	}
	if step, pause := c.next(w, now); step != nil {
		c.done(w, now, step(w), pause())
	}
}

// next returns the step that is due, nil if there is none, and how long to rest after it,
// see maintenancePause.
func (c *maintenance) next(w *writer, now time.Time) (step func(*writer) error, pause func() float64) {
	pause = func() float64 { return maintenancePause }
	at, retire := c.retirement.due(w)
	if retire = retire && !at.After(now); retire {
		pause = c.retirement.pause // also after the turns of others, which must not hold it up
	}
	other := c.other(w, now)
	switch {
	case w.tasksOver():
		return trimTracked, pause
	case retire && (other == nil || !c.retired):
		c.retired = true
		return c.retirement.step, pause
	}
	c.retired = false
	return other, pause
}

// other returns the step that is due beside those of the retirement, nil if there is none.
func (c *maintenance) other(w *writer, now time.Time) func(*writer) error {
	parts := w.partsDue()
	tidy, any := c.leftBehind.due(w)
	switch {
	case w.quarantineOver():
		return trimQuarantine
	case parts != nil:
		return parts
	case c.sweepDue(w):
		return c.sweep.step
	case any && !tidy.After(now):
		return func(w *writer) error { return c.leftBehind.step(w, now) }
	}
	return nil
}

// done records the result of a step and schedules the next one.
func (c *maintenance) done(w *writer, began time.Time, err error, pause float64) {
	now := w.now()
	if err == nil {
		c.err, c.backoff = nil, 0
		if pause > 0 {
			c.restUntil = now.Add(time.Duration(pause * float64(now.Sub(began))))
		}
		return
	}
	w.noteDamage(err)
	c.err = err
	w.size.logStuck = w.size.logStuck || isStorage(err)
	c.backoff = min(maintenanceRetryMax, max(maintenanceRetry, 2*c.backoff))
	c.restUntil = now.Add(c.backoff)
	w.log.Error("tidying up failed", zap.String("path", w.path), zap.Duration("again_in", c.backoff), zap.Error(err))
}
