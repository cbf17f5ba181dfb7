package reconcile

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// tracked is a Tracker in memory.
type tracked struct {
	mu     sync.Mutex
	tasks  map[string]inbox.Task
	leased map[string]time.Time
	err    error
}

func (f *tracked) add(tasks ...inbox.Task) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range tasks {
		f.tasks[t.ID] = t
	}
}

func (f *tracked) get(id string) (inbox.Task, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tasks[id]
	return t, ok
}

func (f *tracked) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *tracked) due(now time.Time) (due []inbox.Task) {
	for _, t := range f.tasks {
		if !t.Due.After(now) && !f.leased[t.ID].After(now) {
			due = append(due, t)
		}
	}
	return due
}

func (f *tracked) TaskStats(context.Context) (inbox.TaskStats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return inbox.TaskStats{Waiting: int64(len(f.tasks)), Due: int64(len(f.due(time.Now())))}, f.err
}

func (f *tracked) LeaseTasks(_ context.Context, w inbox.TaskWant) ([]inbox.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	due := f.due(time.Now())
	if len(due) == 0 || f.err != nil {
		return nil, f.err
	}
	slices.SortFunc(due, func(a, b inbox.Task) int {
		if w.Newest > 0 {
			return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.ID, b.ID))
		}
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID))
	})
	f.leased[due[0].ID] = w.Until
	return due[:1], nil
}

func (f *tracked) SettleTasks(_ context.Context, tasks ...inbox.Task) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range tasks {
		if _, ok := f.tasks[t.ID]; ok && f.err == nil {
			f.tasks[t.ID] = t
			delete(f.leased, t.ID)
		}
	}
	return f.err
}

func (f *tracked) Untrack(_ context.Context, ids ...string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	for _, id := range ids {
		delete(f.tasks, id)
	}
	return len(ids), nil
}

func (f *tracked) Track(context.Context, ...inbox.Task) (int, error) {
	return 0, errors.ErrUnsupported
}

func (f *tracked) Task(context.Context, string) (inbox.Task, error) {
	return inbox.Task{}, errors.ErrUnsupported
}

func (f *tracked) Tasks(context.Context, inbox.Page) ([]inbox.Task, string, error) {
	return nil, "", errors.ErrUnsupported
}

// question is one that was put to the fake Fotor.
type question struct {
	task string
	at   time.Duration // since the beginning
}

// rig is a Reconciler with all that it works with. It is its own Fotor, which answers
// after a tenth of a second what answer says, one turn a second.
type rig struct {
	*Reconciler
	tasks *tracked
	stop  func()

	answer  func(task string) ([]byte, error)
	meaning func(data string) (Meaning, error)

	mu        sync.Mutex
	began     time.Time
	nextTurn  time.Time
	underWay  int
	mostAsked int // at once
	questions []question
	observed  observed
}

// observed is what the Observer was told.
type observed struct {
	results  []Result
	lost     []string
	states   []State
	failures []error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	f := &rig{
		tasks: &tracked{tasks: make(map[string]inbox.Task), leased: make(map[string]time.Time)},
		began: time.Now(), nextTurn: time.Now(),
		answer:  func(string) ([]byte, error) { return []byte("completed"), nil },
		meaning: func(string) (Meaning, error) { return Final, nil },
	}
	f.Reconciler = New(Config{
		Tasks: f.tasks, Fotor: f, Events: f, Observer: f,
		Schedule: Schedule{After: DefaultAfter, Every: DefaultEvery, GiveUp: DefaultGiveUp},
	})
	return f
}

// start runs the Reconciler until the test or stop ends it.
func (f *rig) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	f.stop = func() {
		cancel()
		<-done
	}
}

// after lets the time go on.
func (f *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *rig) asked() []question {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.questions)
}

func (f *rig) told() observed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.observed
}

func (f *rig) Unused() {}

func (f *rig) Turn(ctx context.Context) (Turn, error) {
	f.mu.Lock()
	wait := time.Until(f.nextTurn)
	f.nextTurn = f.nextTurn.Add(time.Second)
	if wait < 0 {
		wait, f.nextTurn = 0, time.Now().Add(time.Second)
	}
	f.mu.Unlock()
	if !sleep.For(ctx, wait) {
		return nil, ctx.Err()
	}
	return f, nil
}

func (f *rig) Ask(ctx context.Context, task string) ([]byte, error) {
	f.mu.Lock()
	f.questions = append(f.questions, question{task, time.Since(f.began)})
	f.underWay++
	f.mostAsked = max(f.mostAsked, f.underWay)
	answer := f.answer
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.underWay--
		f.mu.Unlock()
	}()
	if !sleep.For(ctx, time.Second/10) {
		return nil, ctx.Err()
	}
	return answer(task)
}

func (f *rig) Take(_ context.Context, t inbox.Task, data []byte) (Meaning, string, error) {
	m, err := f.meaning(string(data))
	return m, string(data), err
}

func (f *rig) Lose(ctx context.Context, t inbox.Task) error {
	_, err := f.tasks.Untrack(ctx, t.ID)
	return err
}

func (f *rig) Asked(_ inbox.Task, r Result, _ time.Duration, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed.results = append(f.observed.results, r)
}

func (f *rig) Lost(t inbox.Task) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed.lost = append(f.observed.lost, t.ID)
}

func (f *rig) Changed(s State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed.states = append(f.observed.states, s)
}

func (f *rig) Failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed.failures = append(f.observed.failures, err)
}
