package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// modelDestinations are the destinations of the model.
var modelDestinations = []string{inbox.DefaultDestination, "a", "b"}

// modelEvent is an event as the interface describes it.
type modelEvent struct {
	event *inbox.Event
	at    map[string]*modelDelivery
}

// modelDelivery is its delivery to one destination.
type modelDelivery struct {
	state    inbox.State
	attempts int
	replays  []int  // after how many attempts each came
	from     string // where the last replay came from
	later    bool   // its retry is due in an hour
	new      bool   // it is leased in order of arrival
	limbo    bool   // it was leased when its inbox ended; it is superseded when it becomes due, or before
	lease    *inbox.Lease
}

// lastReplay is the number of attempts before the last replay.
func (d *modelDelivery) lastReplay() int {
	if len(d.replays) == 0 {
		return 0
	}
	return d.replays[len(d.replays)-1]
}

// state is the event's own.
func (e *modelEvent) state() inbox.State {
	var deliveries []inbox.Delivery
	for _, d := range e.at {
		deliveries = append(deliveries, inbox.Delivery{Progress: inbox.Progress{State: d.state}})
	}
	return inbox.Summarize(deliveries).State
}

// model is the interface of an inbox implemented in memory, as simply as
// possible. Its events are in order of arrival.
type model struct {
	events []*modelEvent
	inbox  *store
	queues map[string]inbox.Queue
	path   string
	dir    string
	copies int
	lost   []*inbox.Lease // leases of inboxes that have ended
}

// tidy supersedes events as the interface demands.
func (m *model) tidy() {
	for _, e := range m.events {
		for name, d := range e.at {
			d.limbo = d.limbo && m.finalAccepted(name, e.event.TaskID)
			if d.state == inbox.Pending && d.lease == nil && !d.limbo && !e.event.Status.Final() && m.finalAccepted(name, e.event.TaskID) {
				d.state = inbox.Superseded
			}
		}
	}
}

func (m *model) finalAccepted(destination, task string) bool {
	return slices.ContainsFunc(m.events, func(e *modelEvent) bool {
		return e.at[destination] != nil && e.event.TaskID == task && e.event.Status.Final()
	})
}

// due returns the events that may be leased.
func (m *model) due(destination string) (due []*modelEvent) {
	taken := make(map[string]bool)
	for _, e := range m.events {
		if d := e.at[destination]; d != nil && d.lease != nil {
			taken[e.event.TaskID] = true
		}
	}
	for _, e := range m.events {
		d := e.at[destination]
		if d == nil || d.state != inbox.Pending || taken[e.event.TaskID] || d.limbo {
			continue
		}
		taken[e.event.TaskID] = true
		if !d.later {
			due = append(due, e)
		}
	}
	return due
}

func (m *model) find(id string) *modelEvent {
	for _, e := range m.events {
		if e.event.ID == id {
			return e
		}
	}
	return nil
}

// draw picks one of the events that fit, or nil.
func (m *model) draw(t *rapid.T, fits func(*modelEvent) bool) *modelEvent {
	var fitting []*modelEvent
	for _, e := range m.events {
		if fits(e) {
			fitting = append(fitting, e)
		}
	}
	if len(fitting) == 0 {
		return nil
	}
	return fitting[rapid.IntRange(0, len(fitting)-1).Draw(t, "event")]
}

func anyEvent(*modelEvent) bool { return true }

func drawDestination(t *rapid.T) string {
	return rapid.SampledFrom(modelDestinations).Draw(t, "destination")
}

func (m *model) put(t *rapid.T) {
	task := fmt.Sprint("task ", rapid.IntRange(0, 2).Draw(t, "task"))
	content := rapid.IntRange(0, 5).Draw(t, "content")
	e := &inbox.Event{
		ID: inbox.NewID(task, fmt.Append(nil, content)), TaskID: task, Type: "avatar",
		Status: inbox.Status(min(1, content/3)), ReceivedAt: time.Unix(1_800_000_000, 0).UTC(), Body: []byte("{}"),
		TraceParent: rapid.SampledFrom([]string{"", "00-1", "00-2"}).Draw(t, "trace"),
	}
	sent := *e
	sent.Destinations = rapid.SampledFrom([][]string{nil, nil, {}, {"a"}, {"b", "a"}, {"default", "b"}, modelDestinations}).Draw(t, "destinations")
	duplicateOf, err := m.inbox.Put(context.Background(), &sent)
	require.NoError(t, err)
	require.Equal(t, m.find(e.ID) != nil, duplicateOf != "")
	if duplicateOf == "" {
		added := &modelEvent{event: e, at: make(map[string]*modelDelivery)}
		for _, name := range sent.GoesTo() {
			added.at[name] = &modelDelivery{new: true}
		}
		m.events = append(m.events, added)
	}
	m.tidy()
}

func (m *model) leaseSome(t *rapid.T) {
	destination := drawDestination(t)
	limit := rapid.IntRange(1, 4).Draw(t, "max")
	due := m.due(destination)
	ctx := context.Background()
	if len(due) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Microsecond)
		defer cancel()
	}
	leases, err := m.queues[destination].Lease(ctx, limit)
	if len(due) == 0 {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return
	}
	require.NoError(t, err)
	require.Len(t, leases, min(limit, len(due)))
	var fresh []*modelEvent
	for _, e := range due {
		if e.at[destination].new {
			fresh = append(fresh, e)
		}
	}
	for _, l := range leases {
		i := slices.IndexFunc(due, func(e *modelEvent) bool { return e.event.ID == l.Event.ID })
		require.GreaterOrEqual(t, i, 0, "%s may not be leased", l.Event.ID)
		e := due[i]
		d := e.at[destination]
		require.Nil(t, d.lease, "leased twice")
		require.Equal(t, e.event, l.Event)
		require.Equal(t, d.attempts+1, l.Attempt)
		require.Equal(t, d.lastReplay(), l.Replay.After)
		require.Equal(t, len(d.replays) == 0, l.Replay.At.IsZero())
		require.Equal(t, d.from, l.Replay.From)
		if d.new {
			require.Same(t, fresh[0], e, "not in order of arrival")
			fresh = fresh[1:]
		}
		d.lease = l
	}
}

func (m *model) settle(t *rapid.T) {
	destination := drawDestination(t)
	e := m.draw(t, func(e *modelEvent) bool { return e.at[destination] != nil && e.at[destination].lease != nil })
	if e == nil {
		return
	}
	d := e.at[destination]
	o := inbox.Outcome{Lease: d.lease, Verdict: rapid.SampledFrom([]inbox.Verdict{inbox.Deliver, inbox.Retry, inbox.GiveUp, inbox.Release}).Draw(t, "verdict")}
	later := rapid.Bool().Draw(t, "later")
	if later {
		o.Due = time.Now().Add(time.Hour)
	}
	outcomes := []inbox.Outcome{o}
	if len(m.lost) > 0 && rapid.Bool().Draw(t, "with a lost lease") {
		outcomes = append(outcomes, inbox.Outcome{Lease: m.lost[len(m.lost)-1], Verdict: inbox.GiveUp})
	}
	require.Equal(t, len(outcomes) == 1, m.queues[destination].Settle(context.Background(), outcomes...) == nil)
	m.lost = append(m.lost, d.lease)
	d.lease, d.new = nil, false
	switch o.Verdict {
	case inbox.Deliver:
		d.state = inbox.Delivered
	case inbox.GiveUp:
		d.state = inbox.Dead
	default:
		d.later = later
	}
	if o.Verdict != inbox.Release {
		d.attempts++
	}
	m.tidy()
}

// restart closes the inbox, or leaves it as after a crash, and opens it again.
func (m *model) restart(t *rapid.T) {
	if m.inbox != nil {
		if rapid.Bool().Draw(t, "crash") {
			m.copies++
			to := filepath.Join(m.dir, fmt.Sprintf("%d.db", m.copies))
			for _, suffix := range []string{"", "-wal"} {
				b, err := os.ReadFile(m.path + suffix)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(to+suffix, b, 0o600))
			}
			require.NoError(t, m.inbox.Close())
			m.path = to
		} else {
			require.NoError(t, m.inbox.Close())
		}
	}
	l := smallLimits
	l.logFrames = 1 << 40 // so that a copy of the file and its log is what a crash leaves
	s, err := open(context.Background(), testOptions(m.path, l))
	require.NoError(t, err)
	m.inbox, m.queues = s, make(map[string]inbox.Queue)
	for i, q := range queuesOf(t, s, modelDestinations...) {
		m.queues[modelDestinations[i]] = q
	}
	for _, e := range m.events {
		for name, d := range e.at {
			if d.lease != nil {
				m.outOfOrder(name, e.event.TaskID)
				m.lost = append(m.lost, d.lease)
				d.lease = nil
				d.limbo = !e.event.Status.Final() && m.finalAccepted(name, e.event.TaskID)
			}
		}
	}
	m.tidy()
}

// outOfOrder notes that events which waited for one that was leased when its
// inbox ended are leased when that one ends.
func (m *model) outOfOrder(destination, task string) {
	for _, e := range m.events {
		if d := e.at[destination]; d != nil && e.event.TaskID == task && d.lease == nil {
			d.new = false
		}
	}
}

// check compares everything that can be looked up.
func (m *model) check(t *rapid.T) {
	stats, err := m.inbox.Stats(context.Background())
	require.NoError(t, err)
	var want [len(inbox.States)]int64
	there := make(map[string][len(inbox.States)]int64)
	listed := make(map[string][]string)
	for _, e := range m.events {
		m.checkEvent(t, e)
		want[e.state()]++
		listed[""] = append(listed[""], e.event.ID)
		for name, d := range e.at {
			listed[name] = append(listed[name], e.event.ID)
			n := there[name]
			n[d.state]++
			there[name] = n
		}
	}
	require.Equal(t, want, stats.Events)
	require.Equal(t, want[inbox.Pending] == 0, stats.OldestPending.IsZero())
	require.Len(t, stats.Destinations, len(modelDestinations))
	for _, d := range stats.Destinations {
		require.Equal(t, there[d.Name], d.Deliveries, d.Name)
		require.Equal(t, d.Deliveries[inbox.Pending] == 0, d.OldestPending.IsZero(), d.Name)
	}
	requireEndsKnown(t, m.inbox)
	for _, name := range append([]string{""}, modelDestinations...) {
		require.Equal(t, listed[name], m.list(t, name, true))
		slices.Reverse(listed[name])
		require.Equal(t, listed[name], m.list(t, name, false))
	}
}

func (m *model) checkEvent(t *rapid.T, e *modelEvent) {
	r, err := m.inbox.Get(context.Background(), e.event.ID)
	require.NoError(t, err)
	require.Equal(t, e.event, r.Event)
	require.Len(t, r.Deliveries, len(e.at))
	attempts := 0
	for _, got := range r.Deliveries {
		d := e.at[got.Destination]
		require.NotNil(t, d, got.Destination)
		if d.limbo && got.State == inbox.Superseded {
			d.state, d.limbo = inbox.Superseded, false
		}
		require.Equal(t, d.state.String(), got.State.String(), e.event.ID)
		require.Equal(t, d.attempts, got.Attempts)
		require.Len(t, got.Log, d.attempts, "those before a replay, too")
		var replays []int
		for _, r := range got.Replays {
			replays = append(replays, r.After)
		}
		require.Equal(t, d.replays, replays)
		require.Equal(t, d.state == inbox.Pending, got.SettledAt.IsZero())
		attempts += d.attempts
	}
	require.Equal(t, e.state().String(), r.State.String(), e.event.ID)
	require.Equal(t, attempts, r.Attempts)
}

// list goes through all pages of a list.
func (m *model) list(t *rapid.T, destination string, oldestFirst bool) (got []string) {
	page := inbox.Page{Limit: 3, OldestFirst: oldestFirst}
	for {
		records, next, err := m.inbox.List(context.Background(), inbox.Filter{Destination: destination}, page)
		require.NoError(t, err)
		for _, r := range records {
			got = append(got, r.Event.ID)
		}
		if page.Cursor = next; next == "" {
			return got
		}
	}
}

// Whatever is done in whatever order, the inbox behaves as the interface says.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "model")
		require.NoError(t, err)
		m := &model{dir: dir, path: filepath.Join(dir, "0.db")}
		defer func() {
			require.NoError(t, errors.Join(m.inbox.Close(), os.RemoveAll(dir)))
		}()
		m.restart(t)
		t.Repeat(map[string]func(*rapid.T){
			"put":     m.put,
			"again":   m.put,
			"lease":   m.leaseSome,
			"settle":  m.settle,
			"replay":  m.replay,
			"move":    m.move,
			"purge":   m.purge,
			"restart": m.restart,
			"":        m.check,
		})
	})
}
