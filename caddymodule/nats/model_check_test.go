package nats

import (
	"context"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// await waits until nothing is pending. The stores go on delivering.
func (m *model) await(s *store) {
	var records []*inbox.Record
	m.t.Cleanup(func() {
		for _, r := range records {
			m.tell(s, r.Event.ID)
		}
		for _, d := range append(s.destinations(), s.home.destination) {
			for _, of := range d.consumed() {
				c, err := s.js.Consumer(context.Background(), of.stream, of.consumer)
				if err == nil && len(records) > 0 {
					i := c.CachedInfo()
					m.t.Logf("consumer %s of %s: delivered %+v, floor %+v, outstanding %d, to come %d, handed out again %d", of.consumer, of.stream,
						i.Delivered, i.AckFloor, i.NumAckPending, i.NumPending, i.NumRedelivered)
				}
			}
		}
	})
	inboxtest.Eventually(m.t, func() bool {
		records = m.list(s, inbox.Filter{States: []inbox.State{inbox.Pending}}, true)
		return len(records) == 0
	})
}

// tell logs what is stored of an event.
func (m *model) tell(s *store, id string) {
	w, err := s.findWhole(context.Background(), id)
	if err != nil {
		m.t.Log(id, err)
		return
	}
	m.t.Logf("event %d of %s to %v, spread %v, sum %v %d %+v", w.seq, w.TaskID, w.to, w.spread, w.sum.kind, w.sum.last, w.sum.rec)
	for _, p := range w.parts {
		m.t.Logf("at %s: %q, records %v, the one before the lease %d, redo %v, %+v, lease %+v", p.name, p.kind, p.others, p.base, p.redo, p.rec, p.history.lease)
	}
}

// list returns all records that match.
func (m *model) list(s *store, f inbox.Filter, oldestFirst bool) (all []*inbox.Record) {
	for p := (inbox.Page{Limit: 7, OldestFirst: oldestFirst}); ; {
		records, next, err := s.List(context.Background(), f, p)
		require.NoError(m.t, err)
		all = append(all, records...)
		if p.Cursor = next; next == "" {
			return all
		}
	}
}

// check compares the final state with what was done.
func (m *model) check(s *store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	records := m.list(s, inbox.Filter{}, true)
	down := m.list(s, inbox.Filter{}, false)
	slices.Reverse(down)
	require.Equal(m.t, records, down)
	there := map[string]bool{}
	order := map[string][]string{}
	deliveries := map[string]*[len(inbox.States)]int64{}
	for _, d := range m.destinations {
		deliveries[d] = new([len(inbox.States)]int64)
	}
	var counts [len(inbox.States)]int64
	for _, r := range records {
		require.False(m.t, there[r.Event.ID], "twice")
		there[r.Event.ID] = true
		require.Equal(m.t, m.events[r.Event.ID], r.Event)
		counts[r.State]++
		require.Equal(m.t, inbox.Summarize(r.Deliveries), r.Progress)
		whole, err := s.Get(context.Background(), r.Event.ID)
		require.NoError(m.t, err)
		for _, d := range whole.Deliveries {
			deliveries[d.Destination][d.State]++
			m.checkHistory(r.Event, &d)
			if d.State == inbox.Superseded {
				require.False(m.t, r.Event.Status.Final())
				continue
			}
			task := key(d.Destination, r.Event.TaskID)
			order[task] = append(order[task], r.Event.ID)
			if strings.HasPrefix(r.Event.TaskID, "untouched") {
				require.Equal(m.t, m.verdicts[key(d.Destination, r.Event.ID)] == inbox.GiveUp, d.State == inbox.Dead)
			}
		}
	}
	for id := range m.events {
		require.True(m.t, there[id] || m.purged[id], "lost")
	}
	for task, ids := range order {
		if strings.Contains(task, " untouched") {
			require.Equal(m.t, ids, m.ends[task], task)
		}
	}
	suspects, _, err := s.Suspects(context.Background(), inbox.Page{Limit: 1000})
	require.NoError(m.t, err)
	require.Len(m.t, suspects, m.suspects)
	stats, err := s.Stats(context.Background())
	require.NoError(m.t, err)
	// An event that was purged while another store delivered it is counted as
	// delivered.
	counts[inbox.Delivered] = stats.Events[inbox.Delivered]
	if counts != stats.Events {
		for _, r := range records {
			m.tell(s, r.Event.ID)
		}
	}
	require.Equal(m.t, counts, stats.Events)
	for _, d := range stats.Destinations {
		want := deliveries[d.Name]
		want[inbox.Delivered] = d.Deliveries[inbox.Delivered]
		require.Equal(m.t, *want, d.Deliveries, d.Name)
	}
}

// checkHistory checks that no attempt was forgotten, whatever was replayed in between.
func (m *model) checkHistory(e *inbox.Event, d *inbox.Delivery) {
	require.Len(m.t, d.Log, min(d.Attempts, smallLimits.attempts))
	require.True(m.t, slices.IsSortedFunc(d.Replays, func(a, b inbox.Replay) int { return a.After - b.After }))
	for _, r := range d.Replays {
		require.LessOrEqual(m.t, r.After, d.Attempts)
		require.False(m.t, r.At.IsZero())
	}
	if strings.HasPrefix(e.TaskID, "untouched") {
		require.Empty(m.t, d.Replays)
	}
}

// awaitRest waits until nothing is outstanding and no replaced record is left.
func (m *model) awaitRest(s *store) {
	js, ctx := admin(m.t, m.url), context.Background()
	inboxtest.Eventually(m.t, func() bool {
		places := s.eventPlaces()
		all := s.destinations()
		if len(all) == 0 {
			all = append(all, s.home.destination)
		}
		for _, d := range all {
			if s.several.Load() {
				places = append(places, d.place())
			}
			for _, of := range d.consumed() {
				c, err := js.Consumer(ctx, of.stream, of.consumer)
				if err != nil || c.CachedInfo().NumAckPending > 0 || c.CachedInfo().NumPending > 0 {
					return false
				}
			}
		}
		for _, at := range places {
			records, err := s.all(ctx, at.stream, at.everything())
			if err != nil || !m.once(records) {
				return false
			}
		}
		return true
	})
}

// once reports whether no event has two of the records.
func (m *model) once(records []message) bool {
	records = slices.DeleteFunc(records, func(r message) bool { return m.isPurged(idOf(r.subject)) })
	once := map[string]bool{}
	for _, r := range records {
		once[idOf(r.subject)] = true
	}
	return len(once) == len(records)
}
