package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// ask puts a question about a leased task, and settles it.
func (r *Reconciler) ask(ctx context.Context, t inbox.Task, turn Turn) {
	began := r.health.begin()
	defer r.health.end()
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	data, err := turn.Ask(asked, t.ID)

	stopped := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx) // an answer is stored even if the gateway stops
	if err != nil && stopped {
		r.settle(ctx, t) // as it was
		return
	}
	result, text, err := r.judge(ctx, t, began, data, err)
	t.AskedAt, t.Answer = began.UTC().Truncate(time.Microsecond), text
	r.config.Observer.Asked(t, result, time.Since(began), err)
	r.conclude(ctx, t, result)
}

// judge returns what the answer to a question, or its failure, comes to, and for the task's
// record a text. Unless the answer was taken, it returns an error.
func (r *Reconciler) judge(ctx context.Context, t inbox.Task, began time.Time, data []byte, failure error) (result Result, text string, err error) {
	if failure != nil {
		return r.failed(t.ID, began, failure), failure.Error(), failure
	}
	r.health.answered()
	return r.take(ctx, t, data)
}

// failed returns what the failure of a question about a task comes to, and learns from it
// whether Fotor can be asked.
func (r *Reconciler) failed(task string, began time.Time, failure error) Result {
	switch {
	case errors.Is(failure, ErrNotKnown):
		r.health.answered()
		return ResultNotKnown
	case errors.Is(failure, ErrTooOften):
		r.health.askedTooOften(task, failure)
		return ResultTooOften
	case errors.Is(failure, ErrUnusable):
		r.health.answered()
		return ResultUnusable
	case errors.Is(failure, ErrUnaskable):
		return ResultUnusable
	case errors.Is(failure, ErrKeyRefused):
		r.health.refused(failure)
		return ResultKeyRefused
	default:
		r.health.failed(task, began, failure)
		return ResultFailed
	}
}

func (r *Reconciler) take(ctx context.Context, t inbox.Task, data []byte) (result Result, text string, err error) {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	meaning, text, err := r.config.Events.Take(bounded, t, data)
	switch {
	case err != nil:
		return ResultNotStored, "answered, but that could not be stored", fmt.Errorf("the answer could not be stored: %w", err)
	case meaning == Final:
		return ResultFinal, text, nil
	case meaning == InProgress:
		return ResultInProgress, text, nil
	default:
		return ResultInvalid, text, errors.New(text)
	}
}

// conclude says when the task is asked for again, or that it is lost.
func (r *Reconciler) conclude(ctx context.Context, t inbox.Task, result Result) {
	answered := false
	switch result {
	case ResultFinal:
		r.untrack(ctx, t)
		return
	case ResultKeyRefused: // nothing is asked before another config
		r.settle(ctx, t)
		return
	case ResultTooOften, ResultNotStored: // says nothing of the task
		t.Due = time.Now().Add(r.config.Schedule.pause(1, rand.Float64())).UTC()
		r.settle(ctx, t)
		return
	case ResultInProgress, ResultInvalid, ResultNotKnown:
		answered = true
	case ResultUnusable, ResultFailed:
	}
	t.Asked++
	now := time.Now().UTC()
	t.Due = now.Add(r.config.Schedule.pause(t.Asked, rand.Float64()))
	if r.config.Schedule.lost(&t, answered, now) && r.lose(ctx, t) {
		return
	}
	r.settle(ctx, t)
}

// lose reports whether the event is stored that says that the task is lost.
func (r *Reconciler) lose(ctx context.Context, t inbox.Task) bool {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := r.config.Events.Lose(bounded, t); err != nil {
		r.config.Observer.Failed(fmt.Errorf("task %q is lost, but the event that says so could not be stored: %w", t.ID, err))
		return false
	}
	r.config.Observer.Lost(t)
	return true
}

// untrack forgets a task whose final event is stored. Putting that has done so already,
// unless it was stored before the task was tracked.
func (r *Reconciler) untrack(ctx context.Context, t inbox.Task) {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if _, err := r.config.Tasks.Untrack(bounded, t.ID); err != nil {
		r.config.Observer.Failed(fmt.Errorf("task %q has ended, but is still tracked: %w", t.ID, err))
	}
}

func (r *Reconciler) settle(ctx context.Context, t inbox.Task) {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := r.config.Tasks.SettleTasks(bounded, t); err != nil {
		r.config.Observer.Failed(fmt.Errorf("task %q will be asked for again when its lease has ended: %w", t.ID, err))
	}
}
