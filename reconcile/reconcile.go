// Package reconcile asks Fotor for the tasks whose final callbacks have not come.
//
// Config (this file) is what it works with. Run leases the tracked tasks that are due, one
// for each turn that the rate allows. ask.go puts one question and does with the answer what
// it means, question.go lets others ask within the same rate, schedule.go says when a task is
// asked for again, and pause.go what happens while Fotor cannot be asked at all. share.go has
// gateways of a shared inbox share the rate.
//
// It depends on neither HTTP nor Caddy.
package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// Errors of an Asker, wrapped with what happened. Any other error says that Fotor could not
// be asked, which may be different a moment later.
var (
	// ErrNotKnown says that Fotor has answered, and that the answer says nothing of the task.
	ErrNotKnown = errors.New("not known yet")

	// ErrUnusable says that Fotor has answered this question, but that the answer cannot be
	// used: it is no JSON, or too long, or about another task.
	ErrUnusable = errors.New("unusable answer")

	// ErrUnaskable says that the question was not put, because the task's id cannot be asked
	// for.
	ErrUnaskable = errors.New("cannot be asked for")

	// ErrKeyRefused says that Fotor does not accept the API key.
	ErrKeyRefused = errors.New("the API key was refused")

	// ErrTooOften says that Fotor was asked more often than it allows.
	ErrTooOften = errors.New("asked too often")
)

// Asker puts questions to Fotor.
type Asker interface {
	// Turn waits until the next question may be put. It returns ctx's error if that ends
	// first. Either Ask or Unused must be called on what it returns, once.
	Turn(ctx context.Context) (Turn, error)
}

// Turn is the right to put one question, at once.
type Turn interface {
	// Ask asks for a task, and returns what Fotor says of it: an object like that of a
	// callback.
	Ask(ctx context.Context, taskID string) ([]byte, error)

	// Unused gives the turn up.
	Unused()
}

// Meaning is what an answer says.
type Meaning uint8

// The meanings.
const (
	// Final says that the task has ended. Its event is stored.
	Final Meaning = iota + 1

	// InProgress says that the task has not ended.
	InProgress

	// Invalid says that the answer is not one that a callback could have. It is kept in
	// quarantine.
	Invalid
)

// Events makes events of what was found out, and stores them.
type Events interface {
	// Take stores the event of an answer, if it is final, and returns once that is on stable
	// storage. The text says in short what was answered.
	Take(ctx context.Context, t inbox.Task, answer []byte) (m Meaning, text string, err error)

	// Lose stores an event that says that the task was lost, and returns once that is on
	// stable storage.
	Lose(ctx context.Context, t inbox.Task) error
}

// Config is what a Reconciler works with. Every field is required.
type Config struct {
	Tasks    inbox.Tracker
	Fotor    Asker
	Events   Events
	Schedule Schedule
	Observer Observer
}

// Result is what a question came to.
type Result string

// The results.
const (
	ResultFinal      Result = "final"       // the event was stored
	ResultInProgress Result = "in_progress" // asked for again later
	ResultInvalid    Result = "invalid"     // in quarantine; asked for again later
	ResultNotKnown   Result = "not_known"   // asked for again later
	ResultTooOften   Result = "too_often"   // HTTP 429
	ResultKeyRefused Result = "key_refused" // no more questions
	ResultUnusable   Result = "unusable"    // answered, but in no usable way; or it cannot be asked for
	ResultFailed     Result = "failed"      // no answer
	ResultNotStored  Result = "not_stored"  // answered, but the inbox failed
)

// Results lists every result, for those that count them.
var Results = [...]Result{
	ResultFinal, ResultInProgress, ResultInvalid, ResultNotKnown,
	ResultTooOften, ResultKeyRefused, ResultUnusable, ResultFailed, ResultNotStored,
}

// Observer is told what happens. Its methods must not block.
type Observer interface {
	// Asked is called after each question, with how long it took, and with an error unless
	// Fotor has answered and the answer was taken.
	Asked(t inbox.Task, r Result, took time.Duration, err error)

	// Lost is called when a task was given up and the event that says so is stored.
	Lost(t inbox.Task)

	// Changed is called when Fotor can no longer be asked, or can again.
	Changed(s State)

	// Failed is called if the inbox fails.
	Failed(err error)
}

const (
	// atOnce is the largest number of questions under way. Fotor usually answers within a
	// second, so that more are needed only beyond 8 a second, or if it is slow.
	atOnce = 8

	// askTimeout bounds a question.
	askTimeout = 30 * time.Second

	// storeTimeout bounds one use of the inbox.
	storeTimeout = 10 * time.Second

	// leaseFor is longer than a question with what is stored after it.
	leaseFor = askTimeout + 3*storeTimeout

	// pollEvery is the pause between looks for tasks that are due.
	pollEvery = time.Second

	// oldestEvery is the share of the questions that are for the task that has been due for
	// longest: one in so many. The others are for those that became known last, because
	// their answers are still of use.
	oldestEvery = 4
)

// Reconciler asks Fotor for tasks.
type Reconciler struct {
	config    Config
	slots     chan struct{}
	turns     int // questions so far; only Run
	questions sync.WaitGroup
	health    health
}

// New returns a Reconciler, which does nothing before Run.
func New(c Config) *Reconciler {
	return &Reconciler{
		config: c,
		slots:  make(chan struct{}, atOnce),
		health: health{observer: c.Observer, state: State{Since: time.Now()}},
	}
}

// State returns whether Fotor can be asked.
func (r *Reconciler) State() State { return r.health.current() }

// Run asks until ctx ends. It returns when nothing of it uses the inbox any more: what was
// asked for then is due again.
func (r *Reconciler) Run(ctx context.Context) {
	defer r.questions.Wait()
	for {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		t, turn := r.next(ctx)
		if turn == nil {
			return
		}
		question := func() {
			r.ask(ctx, t, turn)
			<-r.slots
		}
		if r.health.current().OK() {
			r.questions.Go(question)
		} else {
			question() // one at a time
		}
	}
}

// next waits until a task is due and may be asked for, and leases it. It returns no turn
// when ctx has ended. If nothing else is asked while Fotor cannot be asked, the last question
// is put again: else it would not be noticed that it can.
func (r *Reconciler) next(ctx context.Context) (inbox.Task, Turn) {
	for ctx.Err() == nil {
		probe := ""
		if r.health.await(ctx) && !r.anyDue(ctx) {
			if probe = r.health.probe(); probe == "" {
				sleep.For(ctx, pollEvery)
				continue
			}
		}
		turn := r.turn(ctx)
		if turn == nil {
			break
		}
		if t, ok := r.lease(ctx); ok {
			return t, turn
		}
		if probe == "" || r.health.probe() == "" { // it may be over
			turn.Unused()
			continue
		}
		_, _ = (&Question{r, turn}).Ask(ctx, probe, 0) // only health and the Observer want to know
	}
	return inbox.Task{}, nil
}

// turn waits until a question may be put. It returns nil when ctx has ended.
func (r *Reconciler) turn(ctx context.Context) Turn {
	for r.health.await(ctx) {
		turn, err := r.config.Fotor.Turn(ctx)
		if err != nil {
			r.reportUnlessEnded(ctx, err)
			sleep.For(ctx, pollEvery)
			continue
		}
		if r.health.ready() { // else a question has failed meanwhile
			return turn
		}
		turn.Unused()
	}
	return nil
}

func (r *Reconciler) anyDue(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stats, err := r.config.Tasks.TaskStats(bounded)
	if err != nil {
		r.reportUnlessEnded(ctx, err)
	}
	return err == nil && stats.Due > 0
}

// lease leases one task. That is done when there is a turn, not before: what is due changes
// while one is waited for.
func (r *Reconciler) lease(ctx context.Context) (t inbox.Task, ok bool) {
	want := inbox.TaskWant{Max: 1, Newest: 1, Until: time.Now().Add(leaseFor)}
	if r.turns%oldestEvery == 0 {
		want.Newest = 0
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	leased, err := r.config.Tasks.LeaseTasks(bounded, want)
	if err != nil {
		r.reportUnlessEnded(ctx, err)
		sleep.For(ctx, pollEvery)
		return t, false
	}
	if len(leased) == 0 {
		return t, false
	}
	r.turns++
	return leased[0], true
}

// reportUnlessEnded reports an error, unless it is only the end of ctx.
func (r *Reconciler) reportUnlessEnded(ctx context.Context, err error) {
	if ctx.Err() == nil {
		r.config.Observer.Failed(err)
	}
}
