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
	clock      inbox.Clock
	sweep      sweep
	leftBehind leftBehind
	bloom      bloomBuild

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
	case c.sweepDue(w) || w.quarantineOver() || w.tasksOver() || !c.bloom.ready:
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
	at, ok := c.retirement.due(w)
	tidy, any := c.leftBehind.due(w)
	switch {
	case w.quarantineOver():
		c.done(w, now, trimQuarantine(w), maintenancePause)
	case w.tasksOver():
		c.done(w, now, trimTracked(w), maintenancePause)
	case ok && !at.After(now):
		c.done(w, now, c.retirement.step(w), maintenancePause)
	case !c.bloom.ready:
		c.done(w, now, c.bloom.step(w), maintenancePause)
	case c.sweepDue(w):
		c.done(w, now, c.sweep.step(w), maintenancePause)
	case any && !tidy.After(now):
		c.done(w, now, c.leftBehind.step(w, now), maintenancePause)
	}
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

func (w *writer) quarantineOver() bool {
	return w.meta.quarantined > int64(w.policy.Load().Quarantine)
}

// trimQuarantine removes suspects beyond a limit that was lowered.
func trimQuarantine(w *writer) error {
	return w.transact(func(t *tx) error { return t.trimQuarantine(trimStep) })
}
