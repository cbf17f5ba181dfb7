package confirm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// errFault is the error of an inbox or of Fotor that does not work.
var errFault = errors.New("fault")

// entry is a callback in the queue.
type entry struct {
	event    *inbox.Event
	due      time.Time
	attempts int
	leased   bool
	verdict  inbox.Verdict // the last one
	removed  bool
}

// world is a queue with callbacks, Fotor, and what became of the callbacks.
type world struct {
	t *testing.T

	mu       sync.Mutex
	queue    []*entry
	arrived  chan struct{}
	says     func(task string) (string, error) // Fotor
	asked    []string
	took     []string
	results  []reconcile.Result
	became   map[string]string // by the tasks
	why      map[string]string
	failures []error
	unstored int  // so many uses of Events fail
	off      bool // no quarantine
	pause    time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, arrived: make(chan struct{}), became: map[string]string{}, why: map[string]string{}}
}

// arrive adds a callback of a task.
func (w *world) arrive(task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, &entry{event: &inbox.Event{
		ID: fmt.Sprint(task, " ", len(w.queue)), TaskID: task, Status: inbox.Unconfirmed, ReceivedAt: time.Now(),
	}})
	close(w.arrived)
	w.arrived = make(chan struct{})
}

// Lease implements inbox.Leaser.
func (w *world) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	return w.Pick(ctx, inbox.Want{Max: max})
}

// Pick implements inbox.Picker.
func (w *world) Pick(ctx context.Context, want inbox.Want) (leases []*inbox.Lease, err error) {
	for {
		w.mu.Lock()
		lease := func(e *entry, newest bool) {
			if len(leases) < want.Max && !e.leased && e.verdict != inbox.Deliver && e.verdict != inbox.GiveUp && !e.due.After(time.Now()) {
				e.leased = true
				leases = append(leases, &inbox.Lease{Event: e.event, Attempt: e.attempts + 1, Newest: newest})
			}
		}
		for _, e := range w.queue {
			if len(leases) < want.Max-want.Newest {
				lease(e, false)
			}
		}
		for _, e := range slices.Backward(w.queue) {
			lease(e, true)
		}
		arrived := w.arrived
		w.mu.Unlock()
		if len(leases) > 0 {
			return leases, nil
		}
		select {
		case <-arrived:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Settle implements inbox.Leaser.
func (w *world) Settle(_ context.Context, outcomes ...inbox.Outcome) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range outcomes {
		e := w.of(o.Lease.Event)
		require.True(w.t, e.leased)
		e.leased, e.verdict, e.due = false, o.Verdict, o.Due
		if o.Verdict != inbox.Release {
			e.attempts++
		}
	}
	return nil
}

func (w *world) of(e *inbox.Event) *entry {
	at := slices.IndexFunc(w.queue, func(q *entry) bool { return q.event == e })
	return w.queue[at]
}

// Turn implements reconcile.Asker.
func (w *world) Turn(ctx context.Context) (reconcile.Turn, error) {
	timer := time.NewTimer(w.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return w, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Ask implements reconcile.Turn.
func (w *world) Ask(_ context.Context, task string) ([]byte, error) {
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, task)
	text, err := w.says(task)
	return []byte(text), err
}

// Unused implements reconcile.Turn.
func (w *world) Unused() {}

// Asked, Lost, Changed and Failed implement reconcile.Observer.
func (w *world) Asked(_ inbox.Task, r reconcile.Result, _ time.Duration, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results = append(w.results, r)
}
func (w *world) Lost(inbox.Task)         {}
func (w *world) Changed(reconcile.State) {}
func (w *world) Failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, err)
}

// become notes what became of a callback, unless the inbox is to fail.
func (w *world) become(e *inbox.Event, what string) error {
	if w.unstored > 0 {
		w.unstored--
		return errFault
	}
	w.became[e.TaskID] = what
	return nil
}

// Take implements Events.
func (w *world) Take(_ context.Context, kept *inbox.Event, answer []byte) (reconcile.Meaning, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, kept.TaskID)
	switch text := string(answer); text {
	case "in progress":
		return reconcile.InProgress, text, nil
	case "invalid":
		return reconcile.Invalid, text, nil
	default:
		return reconcile.Final, text, w.become(kept, text)
	}
}

// Unconfirmed implements Events.
func (w *world) Unconfirmed(_ context.Context, kept *inbox.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.become(kept, "unconfirmed")
}

// Reject implements Events.
func (w *world) Reject(_ context.Context, kept *inbox.Event, known bool, why string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why[kept.TaskID] = fmt.Sprintf("known %t: %s", known, why)
	return !w.off, w.become(kept, "rejected")
}

// Remove implements Events.
func (w *world) Remove(_ context.Context, kept *inbox.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.of(kept)
	require.Equal(w.t, inbox.Deliver, e.verdict, "it is settled first")
	e.removed = true
	return nil
}

// left returns how many callbacks were not removed.
func (w *world) left() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.queue {
		if !e.removed {
			n++
		}
	}
	return n
}

// tell changes what Fotor says.
func (w *world) tell(says func(string) (string, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.says = says
}

func (w *world) outcomes() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.became)
}

func (w *world) questions() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

func (w *world) faults() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.failures)
}

// leases returns how many callbacks are leased.
func (w *world) leases() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.queue {
		if e.leased {
			n++
		}
	}
	return n
}

func (w *world) verdict(n int) inbox.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue[n].verdict
}

func (w *world) reason(task string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why[task]
}

// config returns one with a patience of 10 minutes.
func (w *world) config() Config {
	return Config{
		Queue: w, Events: w, Patience: 10 * time.Minute, Since: time.Now(), Failed: w.Failed,
		Fotor: reconcile.New(reconcile.Config{Fotor: w, Observer: w}),
		Asked: func(_ string, _ int, r reconcile.Result, _ time.Duration) { w.Asked(inbox.Task{}, r, 0, nil) },
	}
}

// play runs a Confirmer while f does something.
func (w *world) play(c Config, f func()) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		New(c).Run(ctx)
	}()
	synctest.Wait()
	f()
	stop()
	<-ended
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.queue {
		require.False(w.t, e.leased, "the lease of %s is left", e.event.ID)
	}
}

func within(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
