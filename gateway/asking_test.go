package gateway

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// trackingDepot is a depot that tracks tasks and has a quarantine.
type trackingDepot struct {
	*depot

	tasksMu  sync.Mutex
	tasks    map[string]time.Time // when each is due; far in the future while it is leased
	suspects []*inbox.Suspect
	purged   []string
}

func (d *trackingDepot) Track(_ context.Context, tasks ...inbox.Task) (int, error) {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	for _, t := range tasks {
		d.tasks[t.ID] = t.Due
	}
	return len(tasks), nil
}

func (d *trackingDepot) Untrack(_ context.Context, ids ...string) (int, error) {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	for _, id := range ids {
		delete(d.tasks, id)
	}
	return len(ids), nil
}

func (d *trackingDepot) LeaseTasks(context.Context, inbox.TaskWant) ([]inbox.Task, error) {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(d.tasks)) {
		if !d.tasks[id].After(time.Now()) {
			d.tasks[id] = time.Now().Add(365 * 24 * time.Hour)
			return []inbox.Task{{ID: id, Since: time.Now().Add(-24 * time.Hour), Asked: 10}}, nil
		}
	}
	return nil, nil
}

func (d *trackingDepot) SettleTasks(_ context.Context, tasks ...inbox.Task) error {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	for _, t := range tasks {
		if _, ok := d.tasks[t.ID]; ok {
			d.tasks[t.ID] = t.Due
		}
	}
	return nil
}

func (d *trackingDepot) Task(context.Context, string) (inbox.Task, error) {
	return inbox.Task{}, errors.ErrUnsupported
}

func (d *trackingDepot) Tasks(context.Context, inbox.Page) ([]inbox.Task, string, error) {
	return nil, "", errors.ErrUnsupported
}

func (d *trackingDepot) TaskStats(context.Context) (inbox.TaskStats, error) {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	var s inbox.TaskStats
	for _, due := range d.tasks {
		s.Waiting++
		if !due.After(time.Now()) {
			s.Due++
		}
	}
	return s, nil
}

func (d *trackingDepot) Quarantine(_ context.Context, s *inbox.Suspect) error {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	s.ID, s.Count = int64(len(d.suspects)+1), 1
	d.suspects = append(d.suspects, s)
	return nil
}

func (d *trackingDepot) Suspect(context.Context, int64) (*inbox.Suspect, error) {
	return d.suspects[0], nil
}

func (d *trackingDepot) waiting() []string {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	return slices.Sorted(maps.Keys(d.tasks))
}

// Open and Apply implement Storage.
func (d *trackingDepot) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return d, nil
}

func (*trackingDepot) Apply(inbox.Inbox, inbox.Policy) {}

// fotor answers for each task what it is told to.
type fotor struct {
	mu      sync.Mutex
	answers map[string]string // the members beside taskId and type; none: not known
	err     error
	asked   []string
	results []reconcile.Result
	lost    int
}

func (f *fotor) Turn(context.Context) (reconcile.Turn, error) { return f, nil }

func (f *fotor) Ask(_ context.Context, id string) ([]byte, error) {
	time.Sleep(time.Nanosecond) // of synctest: no answer comes before the test itself waits
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, id)
	if f.err != nil {
		return nil, f.err
	}
	if f.answers[id] == "" {
		return nil, reconcile.ErrNotKnown
	}
	return []byte(`{"taskId":"` + id + `","type":"avatar",` + f.answers[id] + `}`), nil
}

func (*fotor) Unused()         {}
func (*fotor) Rate() float64   { return 1 }
func (*fotor) Limit(float64)   {}
func (*fotor) Account() string { return "account" }
func (*fotor) Target() string  { return "https://api.example.com" }

func (f *fotor) Asked(r reconcile.Result, _ time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results = append(f.results, r)
}

func (f *fotor) TaskLost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost++
}

func (f *fotor) questions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// judges is a Handler that judges answers as a config does.
type judges struct{ reconsiders }

func (judges) Reconsider(body []byte, at time.Time, source netip.Addr) (*inbox.Event, error) {
	parsed, err := callback.Parse(body, nil)
	if err != nil {
		return nil, &control.InvalidError{Status: 422, Problems: []control.Problem{{Pointer: "/status", Detail: "is unheard of"}}}
	}
	a := callback.Arrival{At: at, Source: source, Compared: true}
	if !source.IsValid() {
		a.Origin = inbox.FromAPI
	}
	return parsed.Event(a), nil
}

func (judges) Lost(t inbox.Task, taskType string, at time.Time) *inbox.Event {
	return callback.Lost(t.ID, taskType, at)
}

// asking is a crossing whose configs ask.
type asking struct {
	*crossing
	tasks *trackingDepot
}

func newAsking(t *testing.T, tasks ...string) *asking {
	t.Helper()
	c := newCrossing(t)
	a := &asking{c, &trackingDepot{depot: c.depot, tasks: make(map[string]time.Time)}}
	for _, id := range tasks {
		a.tasks.tasks[id] = time.Time{}
	}
	return a
}

func (a *asking) asks(name string, f *fotor) *Config {
	c := a.config(name, to("app"))
	c.Storage, c.Handler, c.Policy.Quarantine = a.tasks, judges{}, 10
	c.Asking = &Asking{
		Fotor: f, Metrics: f, Rate: 2,
		Schedule: reconcile.Schedule{After: time.Minute, Every: time.Minute, GiveUp: 25 * time.Hour},
	}
	return c
}

// awhile lets the time go on.
func awhile(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWhatIsAskedForIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fotor{answers: map[string]string{"done": `"status":1`, "failed": `"status":2`, "running": `"status":0`}}
		a := newAsking(t, "done", "failed", "running", "unknown")
		require.NoError(t, a.attach(a.asks("one", f)))
		awhile(10 * time.Second)
		_, delivered := a.deliveries("app")
		assert.EqualValues(t, 2, delivered)
		assert.Equal(t, []string{"running", "unknown"}, a.tasks.waiting())
		assert.ElementsMatch(t, []reconcile.Result{
			reconcile.ResultFinal, reconcile.ResultFinal, reconcile.ResultInProgress, reconcile.ResultNotKnown,
		}, f.results)
		state := a.atts[0].gateway.Asking()
		assert.Equal(t, control.AskingWorks, state.State)
		assert.Equal(t, "https://api.example.com", state.URL)
		a.detach(0)
	})
}

func TestAnAnswerThatIsNoCallbackIsQuarantinedAndCanBeReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fotor{answers: map[string]string{"odd": `"status":7`}}
		a := newAsking(t, "odd")
		require.NoError(t, a.attach(a.asks("one", f)))
		awhile(10 * time.Second)
		require.Len(t, a.tasks.suspects, 1)
		s := a.tasks.suspects[0]
		assert.Empty(t, s.SourceIP, "nobody called")
		assert.JSONEq(t, `{"taskId":"odd","type":"avatar","status":7}`, string(s.Body))
		assert.JSONEq(t, `[{"pointer":"/status","detail":"is unheard of"}]`, string(s.Problems))
		assert.Equal(t, []reconcile.Result{reconcile.ResultInvalid}, f.results)
		assert.Equal(t, []string{"odd"}, a.tasks.waiting())

		s.Body = []byte(`{"taskId":"odd","type":"avatar","status":1}`) // as if the rules had changed
		released, err := a.operator().Release(t.Context(), 1)
		require.NoError(t, err)
		assert.False(t, released.Duplicate)
		a.detach(0)
	})
}

func TestALostTaskIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fotor)
		a := newAsking(t, "gone")
		config := a.asks("one", f)
		config.Asking.Schedule.GiveUp = 23 * time.Hour
		a.depot.change(func() { a.depot.records = []*inbox.Record{} })
		since := time.Now().Add(-24 * time.Hour).UTC() // of what is leased at once
		require.NoError(t, a.attach(config))
		follower, err := a.atts[0].journal.feed.Follow("")
		require.NoError(t, err)
		defer follower.Close()
		awhile(10 * time.Second)
		lost := notices(t, follower, control.Lost)
		require.Len(t, lost, 1)
		assert.Subset(t, eventData(&lost[0]), map[string]any{
			"handler": t.Name(), "id": lost[0].ID, "task_id": "gone", "type": "unknown", "status": "lost", "origin": "api",
			"asked": 11, "since": since.Format(time.RFC3339Nano), "reason": reconcile.ErrNotKnown.Error(),
		})
		_, delivered := a.deliveries("app")
		assert.EqualValues(t, 1, delivered)
		assert.Equal(t, 1, f.lost)
		assert.Len(t, a.logs.FilterMessageSnippet("task lost").All(), 1)
		a.detach(0)
	})
}

// notices returns those of a kind that were published since the follower began.
func notices(t *testing.T, follower *control.Follower, kind string) (found []control.Notice) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for {
		entries, err := follower.Next(ctx, nil, 100)
		if err != nil {
			return found
		}
		for _, e := range entries {
			if e.Kind == kind {
				found = append(found, e.Notice)
			}
		}
	}
}

// The first time may have been cut short after the event was stored.
func TestATaskThatIsLostAgainIsNotToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t)
		config := a.asks("one", new(fotor))
		require.NoError(t, a.attach(config))
		stored := make(map[string]bool)
		a.depot.compare = func(e *inbox.Event) (duplicateOf string, err error) {
			if stored[e.TaskID] {
				duplicateOf = "its id"
			}
			stored[e.TaskID] = true
			return duplicateOf, nil
		}
		follower, err := a.atts[0].journal.feed.Follow("")
		require.NoError(t, err)
		defer follower.Close()
		loses := &asker{gateway: a.atts[0].gateway, att: a.atts[0], config: config}
		for _, id := range []string{"a", "b", "a"} {
			require.NoError(t, loses.Lose(t.Context(), inbox.Task{ID: id, Since: time.Now(), Asked: 3}))
		}
		assert.Len(t, notices(t, follower, control.Lost), 2)
		a.detach(0)
	})
}

func TestTheNewestConfigAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused, works := &fotor{err: reconcile.ErrKeyRefused}, new(fotor)
		a := newAsking(t, "a")
		require.NoError(t, a.attach(a.asks("one", refused)))
		awhile(5 * time.Second)
		assert.Equal(t, 1, refused.questions())
		g := a.atts[0].gateway
		assert.Equal(t, control.AskingKeyRefused, g.Asking().State)
		assert.Zero(t, g.Asking().Rate)
		assert.Len(t, a.logs.FilterMessageSnippet("refuses the key").All(), 1)

		require.NoError(t, a.attach(a.asks("two", works)))
		assert.Equal(t, control.AskingWorks, g.Asking().State)
		a.detach(1) // the load of the second one failed
		awhile(time.Hour)
		assert.Equal(t, control.AskingKeyRefused, g.Asking().State, "the first one asks again, in vain")

		require.NoError(t, a.attach(a.config("three", to("app"))))
		a.detach(0)
		assert.Nil(t, g.Asking(), "nobody asks any more")
		a.detach(0)
	})
}

func TestAnInboxThatCannotTrackIsRefused(t *testing.T) {
	a := newAsking(t)
	config := a.asks("one", new(fotor))
	config.Storage = a.crossing
	err := a.attach(config)
	require.Error(t, err)
	assert.True(t, strings.HasSuffix(err.Error(), "cannot track tasks: expected one that can, such as sqlite"), err.Error())
}
