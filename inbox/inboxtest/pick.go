package inboxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// RunPicker runs the suite of an inbox that is an inbox.Picker.
func RunPicker(t *testing.T, factory Factory) {
	run(t, "Pick", pickTests, factory)
}

var pickTests = []test{
	{"the newest come out of turn", func(s *suite) {
		events := s.putMany("task ", 40)
		s.allowNewest()
		leases := s.pick(inbox.Want{Max: 8, Newest: 2})
		require.Equal(s, append(inOrder(events[:6]), events[39].ID, events[38].ID), ids(leases))
		for i, l := range leases {
			assert.Equal(s, i >= 6, l.Newest, i)
			assert.True(s, l.Untried, i)
		}
		require.Equal(s, []string{events[37].ID}, ids(s.pick(inbox.Want{Max: 1, Newest: 1})), "while those are leased")
		s.settle(inbox.Deliver, leases...)
		last := s.put("last", inbox.Completed)
		require.Equal(s, []string{last.ID, events[36].ID}, ids(s.pick(inbox.Want{Max: 2, Newest: 2})))
		require.Equal(s, inOrder(events[6:36]), ids(s.lease(30)), "the others in turn, and none twice")
	}},
	{"without a backlog the order is as ever", func(s *suite) {
		events := s.putMany("task ", 5)
		s.allowNewest()
		require.Equal(s, inOrder(events), ids(s.pickSome(5, inbox.Want{Max: 10, Newest: 4})))
	}},
	{"a task's events stay in order", func(s *suite) {
		s.putMany("task ", 10)
		first := s.put("one", inbox.Completed)
		second := s.put("one", inbox.Failed)
		s.allowNewest()
		require.Equal(s, []string{first.ID}, ids(s.pick(inbox.Want{Max: 1, Newest: 1})))
		require.NotContains(s, ids(s.lease(10)), second.ID)
	}},
	{"only what was never tried", func(s *suite) {
		s.put("tried", inbox.Completed)
		s.settle(inbox.Retry, s.lease(1)...)
		again := s.lease(1)
		require.False(s, again[0].Untried)
		s.settle(inbox.Release, again...)
		untried := inbox.Want{Max: 5, Untried: true}
		one := inbox.Want{Max: 1, Untried: true}
		s.nothing(untried)
		s.nothing(inbox.Want{Max: 5, Newest: 5, Untried: true})
		e := s.put("new", inbox.Completed)
		leases := s.pickSome(1, untried)
		require.Equal(s, []string{e.ID}, ids(leases))
		require.True(s, leases[0].Untried)

		s.settle(inbox.Release, leases...) // which it was not
		leases = s.pick(one)
		require.Equal(s, []string{e.ID}, ids(leases))
		require.True(s, leases[0].Untried)
	}},
	{"what had to wait for its task is one of the newest", func(s *suite) {
		first := s.put("one", inbox.Completed)
		leases := s.lease(1)
		s.putMany("task ", 20)
		second := s.put("one", inbox.Failed)
		s.allowNewest()
		require.NotContains(s, ids(s.pick(inbox.Want{Max: 5, Newest: 5})), second.ID)
		s.putMany("more ", 10)
		require.Equal(s, first.ID, leases[0].Event.ID)
		s.settle(inbox.Deliver, leases...)
		require.Contains(s, ids(s.pick(inbox.Want{Max: 11, Newest: 11})), second.ID)
	}},
	{"what was released untried is one of the newest again", func(s *suite) {
		s.putMany("task ", 20)
		s.allowNewest()
		last := s.pick(inbox.Want{Max: 1, Newest: 1})
		s.pick(inbox.Want{Max: 1, Newest: 1})
		s.settle(inbox.Release, last...)
		require.Equal(s, ids(last), ids(s.pick(inbox.Want{Max: 1, Newest: 1})))
	}},
	{"only the newest, and none in turn", func(s *suite) {
		s.put("tried", inbox.Completed)
		s.settle(inbox.Retry, s.lease(1)...)
		s.nothing(inbox.Want{Max: 1, Newest: 1})
	}},
	{"what cannot be wanted", func(s *suite) {
		for _, w := range []inbox.Want{{}, {Max: -1}, {Max: 1, Newest: 2}, {Max: 1, Newest: -1}} {
			_, err := s.queue.(inbox.Picker).Pick(s.ctx(), w)
			require.ErrorContains(s, err, "expected 1 or more", w)
		}
	}},
	{"each event comes once, whatever is wanted", func(s *suite) {
		s.allowNewest()
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
		tasks, seen, put := 20, make(map[string]int), 0
		var held []*inbox.Lease
		last := make(map[string]time.Time) // of each task
		for step := 0; len(seen) < 300; step++ {
			for put < 300 && random.IntN(3) > 0 {
				s.put(fmt.Sprint("task ", random.IntN(tasks)), inbox.Completed)
				put++
			}
			if want := 1 + random.IntN(6); len(held)+len(seen) < put {
				leases := s.try(inbox.Want{Max: want, Newest: random.IntN(want + 1)})
				for _, l := range leases {
					e := l.Event
					require.True(s, e.ReceivedAt.After(last[e.TaskID]), "step %d: an event of %s out of order", step, e.TaskID)
				}
				held = append(held, leases...)
			}
			for len(held) > 0 && random.IntN(2) > 0 {
				at := random.IntN(len(held))
				l := held[at]
				held = append(held[:at], held[at+1:]...)
				if random.IntN(4) == 0 {
					s.settle(inbox.Release, l)
					continue
				}
				s.settle(inbox.Deliver, l)
				seen[l.Event.ID]++
				last[l.Event.TaskID] = l.Event.ReceivedAt
			}
		}
		for id, times := range seen {
			require.Equal(s, 1, times, id)
		}
		stats, err := s.in.Stats(s.ctx())
		require.NoError(s, err)
		require.Zero(s, stats.Events[inbox.Pending])
	}},
}

func (s *suite) putMany(prefix string, n int) (events []*inbox.Event) {
	s.Helper()
	for i := range n {
		events = append(events, s.put(fmt.Sprint(prefix, i), inbox.Completed))
	}
	return events
}

// allowNewest lets an inbox begin to lease what is there out of turn.
func (s *suite) allowNewest() {
	if s.storage.AllowNewest != nil {
		s.storage.AllowNewest(s.TB, s.in)
	}
}

// pick picks until it has all that are wanted.
func (s *suite) pick(w inbox.Want) []*inbox.Lease {
	s.Helper()
	return s.pickSome(w.Max, w)
}

// pickSome picks until it has n leases of those that are wanted: first those in turn,
// then the newest.
func (s *suite) pickSome(n int, w inbox.Want) []*inbox.Lease {
	s.Helper()
	var inTurn, newest []*inbox.Lease
	for len(inTurn)+len(newest) < n {
		leases, err := s.queue.(inbox.Picker).Pick(s.ctx(), w)
		require.NoError(s, err)
		require.NotEmpty(s, leases)
		require.LessOrEqual(s, len(leases), w.Max)
		w.Max -= len(leases)
		for _, l := range leases {
			if l.Newest {
				newest = append(newest, l)
				w.Newest--
			} else {
				inTurn = append(inTurn, l)
			}
		}
		require.GreaterOrEqual(s, w.Newest, 0)
	}
	return append(inTurn, newest...)
}

// try is pick where there may be nothing.
func (s *suite) try(w inbox.Want) []*inbox.Lease {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	leases, err := s.queue.(inbox.Picker).Pick(ctx, w)
	if err != nil {
		require.ErrorIs(s, err, context.DeadlineExceeded)
	}
	return leases
}

// nothing checks that nothing is given.
func (s *suite) nothing(w inbox.Want) {
	s.Helper()
	require.Empty(s, s.try(w))
}

// inOrder returns the ids of events.
func inOrder(events []*inbox.Event) (ids []string) {
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}
