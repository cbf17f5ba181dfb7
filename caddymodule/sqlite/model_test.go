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

// modelEvent is an event as the interface describes it.
type modelEvent struct {
	event    *inbox.Event
	state    inbox.State
	attempts int
	later    bool // its retry is due in an hour
	new      bool // it is leased in order of arrival
	limbo    bool // it was leased when its inbox ended; it is superseded when it becomes due, or before
	lease    *inbox.Lease
}

// model is the interface of an inbox implemented in memory, as simply as
// possible. Its events are in order of arrival.
type model struct {
	events []*modelEvent
	inbox  *store
	path   string
	dir    string
	copies int
	lost   []*inbox.Lease // leases of inboxes that have ended
}

// tidy supersedes events as the interface demands.
func (m *model) tidy() {
	for _, e := range m.events {
		e.limbo = e.limbo && m.finalAccepted(e.event.TaskID)
		if e.state == inbox.Pending && e.lease == nil && !e.limbo && !e.event.Status.Final() && m.finalAccepted(e.event.TaskID) {
			e.state = inbox.Superseded
		}
	}
}

func (m *model) finalAccepted(task string) bool {
	return slices.ContainsFunc(m.events, func(e *modelEvent) bool {
		return e.event.TaskID == task && e.event.Status.Final()
	})
}

// due returns the events that may be leased.
func (m *model) due() (due []*modelEvent) {
	taken := make(map[string]bool)
	for _, e := range m.events {
		if e.lease != nil {
			taken[e.event.TaskID] = true
		}
	}
	for _, e := range m.events {
		if e.state != inbox.Pending || taken[e.event.TaskID] || e.limbo {
			continue
		}
		taken[e.event.TaskID] = true
		if !e.later {
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

func (m *model) put(t *rapid.T) {
	task := fmt.Sprint("task ", rapid.IntRange(0, 2).Draw(t, "task"))
	content := rapid.IntRange(0, 5).Draw(t, "content")
	e := &inbox.Event{
		ID: inbox.NewID(task, fmt.Append(nil, content)), TaskID: task, Type: "avatar",
		Status: inbox.Status(min(1, content/3)), ReceivedAt: time.Unix(1_800_000_000, 0).UTC(), Body: []byte("{}"),
		TraceParent: rapid.SampledFrom([]string{"", "00-1", "00-2"}).Draw(t, "trace"),
	}
	duplicateOf, err := m.inbox.Put(context.Background(), e)
	require.NoError(t, err)
	require.Equal(t, m.find(e.ID) != nil, duplicateOf != "")
	if duplicateOf == "" {
		m.events = append(m.events, &modelEvent{event: e, new: true})
	}
	m.tidy()
}

func (m *model) leaseSome(t *rapid.T) {
	limit := rapid.IntRange(1, 4).Draw(t, "max")
	due := m.due()
	ctx := context.Background()
	if len(due) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Microsecond)
		defer cancel()
	}
	leases, err := m.inbox.Lease(ctx, limit)
	if len(due) == 0 {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return
	}
	require.NoError(t, err)
	require.Len(t, leases, min(limit, len(due)))
	var fresh []*modelEvent
	for _, e := range due {
		if e.new {
			fresh = append(fresh, e)
		}
	}
	for _, l := range leases {
		i := slices.IndexFunc(due, func(e *modelEvent) bool { return e.event.ID == l.Event.ID })
		require.GreaterOrEqual(t, i, 0, "%s may not be leased", l.Event.ID)
		e := due[i]
		require.Nil(t, e.lease, "leased twice")
		require.Equal(t, e.event, l.Event)
		require.Equal(t, e.attempts+1, l.Attempt)
		if e.new {
			require.Same(t, fresh[0], e, "not in order of arrival")
			fresh = fresh[1:]
		}
		e.lease = l
	}
}

func (m *model) settle(t *rapid.T) {
	e := m.draw(t, func(e *modelEvent) bool { return e.lease != nil })
	if e == nil {
		return
	}
	o := inbox.Outcome{Lease: e.lease, Verdict: rapid.SampledFrom([]inbox.Verdict{inbox.Deliver, inbox.Retry, inbox.GiveUp, inbox.Release}).Draw(t, "verdict")}
	later := rapid.Bool().Draw(t, "later")
	if later {
		o.Due = time.Now().Add(time.Hour)
	}
	outcomes := []inbox.Outcome{o}
	if len(m.lost) > 0 && rapid.Bool().Draw(t, "with a lost lease") {
		outcomes = append(outcomes, inbox.Outcome{Lease: m.lost[len(m.lost)-1], Verdict: inbox.GiveUp})
	}
	require.Equal(t, len(outcomes) == 1, m.inbox.Settle(context.Background(), outcomes...) == nil)
	m.lost = append(m.lost, e.lease)
	e.lease, e.new = nil, false
	switch o.Verdict {
	case inbox.Deliver:
		e.state = inbox.Delivered
	case inbox.GiveUp:
		e.state = inbox.Dead
	default:
		e.later = later
	}
	if o.Verdict != inbox.Release {
		e.attempts++
	}
	m.tidy()
}

func (m *model) replay(t *rapid.T) {
	e := m.draw(t, anyEvent)
	if e == nil {
		return
	}
	err := m.inbox.Replay(context.Background(), e.event.ID, "")
	require.NoError(t, err)
	if e.state == inbox.Pending {
		if e.lease == nil {
			e.later = false
		}
		return
	}
	e.state, e.attempts, e.later, e.new = inbox.Pending, 0, false, false
	m.tidy()
}

func (m *model) purge(t *rapid.T) {
	e := m.draw(t, anyEvent)
	if e == nil {
		return
	}
	err := m.inbox.Purge(context.Background(), e.event.ID, "")
	if e.lease != nil {
		require.ErrorIs(t, err, inbox.ErrState)
		return
	}
	require.NoError(t, err)
	m.events = slices.DeleteFunc(m.events, func(x *modelEvent) bool { return x == e })
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
	m.inbox = s
	for _, e := range m.events {
		if e.lease != nil {
			m.outOfOrder(e.event.TaskID)
			m.lost = append(m.lost, e.lease)
			e.lease = nil
			e.limbo = !e.event.Status.Final() && m.finalAccepted(e.event.TaskID)
		}
	}
	m.tidy()
}

// outOfOrder notes that events which waited for one that was leased when its
// inbox ended are leased when that one ends.
func (m *model) outOfOrder(task string) {
	for _, e := range m.events {
		if e.event.TaskID == task && e.lease == nil {
			e.new = false
		}
	}
}

// check compares everything that can be looked up.
func (m *model) check(t *rapid.T) {
	stats, err := m.inbox.Stats(context.Background())
	require.NoError(t, err)
	var want [len(inbox.States)]int64
	var listed []string
	for _, e := range m.events {
		r, err := m.inbox.Get(context.Background(), e.event.ID)
		require.NoError(t, err)
		if e.limbo && r.State == inbox.Superseded {
			e.state, e.limbo = inbox.Superseded, false
		}
		want[e.state]++
		listed = append(listed, e.event.ID)
		require.Equal(t, e.state.String(), r.State.String(), e.event.ID)
		require.Equal(t, e.event, r.Event)
		require.Equal(t, e.attempts, r.Attempts)
		require.Equal(t, e.state == inbox.Pending, r.SettledAt.IsZero())
	}
	require.Equal(t, want, stats.Events)
	require.Equal(t, want[inbox.Pending] == 0, stats.OldestPending.IsZero())
	require.Equal(t, listed, m.list(t, true))
	slices.Reverse(listed)
	require.Equal(t, listed, m.list(t, false))
}

// list goes through all pages of a list.
func (m *model) list(t *rapid.T, oldestFirst bool) (got []string) {
	page := inbox.Page{Limit: 3, OldestFirst: oldestFirst}
	for {
		records, next, err := m.inbox.List(context.Background(), inbox.Filter{}, page)
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
			"purge":   m.purge,
			"restart": m.restart,
			"":        m.check,
		})
	})
}
