package sqlite

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestArrange(t *testing.T) {
	inProgress := func(s state) taskEvent { return taskEvent{state: s} }
	final := func(s state) taskEvent { return taskEvent{final: true, state: s} }
	leased := func(e taskEvent) taskEvent { e.leased = true; return e }
	due := func(e taskEvent) taskEvent { e.due = 7; return e }
	for _, c := range []struct {
		name   string
		events []taskEvent
		want   []state
	}{
		{"nothing", nil, nil},
		{"one may go", []taskEvent{final(ready)}, []state{ready}},
		{"the second waits", []taskEvent{final(ready), final(ready)}, []state{ready, blocked}},
		{"the second waits for a retry", []taskEvent{final(retry), final(ready)}, []state{retry, blocked}},
		{"the second goes on", []taskEvent{final(delivered), final(blocked), final(blocked)}, []state{delivered, ready, blocked}},
		{"a retry goes on with its time", []taskEvent{final(dead), due(final(blocked))}, []state{dead, retry}},
		{"a replayed one goes first", []taskEvent{final(ready), due(final(retry))}, []state{ready, blocked}},
		{"all wait for a leased one", []taskEvent{final(ready), leased(final(ready)), final(ready)}, []state{blocked, ready, blocked}},
		{"superseded by a final one", []taskEvent{inProgress(ready), inProgress(blocked), final(ready)}, []state{superseded, superseded, ready}},
		{"superseded by one that has ended", []taskEvent{final(dead), inProgress(ready)}, []state{dead, superseded}},
		{"not superseded while it is leased", []taskEvent{leased(inProgress(ready)), final(ready)}, []state{ready, blocked}},
		{"delivered stays", []taskEvent{inProgress(delivered), final(ready)}, []state{delivered, ready}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, apply(c.events))
		})
	}
}

// apply returns the states after arrange.
func apply(events []taskEvent) []state {
	var got []state
	for i := range events {
		events[i].seq = int64(i)
	}
	for _, e := range events {
		got = append(got, e.state)
	}
	for _, m := range arrange(events) {
		got[m.seq] = m.state
	}
	return got
}

// In any task one event may go if any is pending, and arranging again changes
// nothing.
func TestArrangedTasksAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) taskEvent {
			s := state(rapid.IntRange(int(ready), int(dead)).Draw(t, "state"))
			return taskEvent{final: rapid.Bool().Draw(t, "final"), state: s, due: rapid.Int64Range(0, 1).Draw(t, "due")}
		}), 0, 6).Draw(t, "events")
		if len(events) > 0 {
			i := rapid.IntRange(0, len(events)-1).Draw(t, "leased")
			events[i].leased = events[i].state == ready || events[i].state == retry
		}
		after := apply(events)
		var free, waiting, taken int
		for i, s := range after {
			switch {
			case events[i].leased:
				taken++
			case s == blocked:
				waiting++
			case !s.ended():
				free++
				require.Zero(t, waiting, "a later event goes first")
			}
			events[i].state = s
		}
		require.LessOrEqual(t, free+taken, 1)
		if waiting > 0 {
			require.Equal(t, 1, free+taken, "events wait for nothing")
		}
		require.Empty(t, arrange(events))
	})
}
