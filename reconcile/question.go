package reconcile

import (
	"context"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Question is the right to put one question, at once, for somebody who waits for the answer.
type Question struct {
	reconciler *Reconciler
	turn       Turn
}

// Next waits until a question may be put beside those for tracked tasks, which it takes turns
// with. It returns nil when ctx has ended: until then it waits while Fotor cannot be asked.
// Either Ask or Unused must be called on what it returns, once.
func (r *Reconciler) Next(ctx context.Context) *Question {
	turn := r.turn(ctx)
	if turn == nil {
		return nil
	}
	return &Question{r, turn}
}

// Probe reports whether Fotor could not be asked lately: then one question at a time is
// enough.
func (q *Question) Probe() bool { return !q.reconciler.health.current().OK() }

// Unused gives the question up.
func (q *Question) Unused() { q.turn.Unused() }

// Ask asks for a task, and returns what Fotor says of it, or one of the errors of an Asker. The
// Observer is told of an error only: what an answer comes to, the caller finds out. asked is
// how often Fotor was asked for the task before.
func (q *Question) Ask(ctx context.Context, taskID string, asked int) (answer []byte, err error) {
	began := q.reconciler.health.begin()
	defer q.reconciler.health.end()
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err = q.turn.Ask(bounded, taskID)
	if err == nil {
		q.reconciler.health.answered()
		return answer, nil
	}
	if ctx.Err() != nil {
		return nil, err // which says nothing of Fotor
	}
	q.reconciler.config.Observer.Asked(inbox.Task{ID: taskID, Asked: asked}, q.reconciler.failed(taskID, began, err), time.Since(began), err)
	return nil, err
}
