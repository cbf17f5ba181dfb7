package inboxtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// RunDestinations runs the suite of an inbox with several destinations: what is said of
// them, and all of Run with a destination other than the default.
func RunDestinations(t *testing.T, factory Factory) {
	run(t, "Destinations", destinationTests, factory)
	run(t, "DestinationOrder", destinationOrderTests, factory)
	run(t, "DestinationLookUp", destinationLookUpTests, factory)
	run(t, "Move", moveTests, factory)
	run(t, "Moved", movedTests, factory)
	t.Run("Elsewhere", func(t *testing.T) { Run(t, Elsewhere(factory)) })
}

// queueOf returns the queue of a destination, and makes it if there is none.
func (s *suite) queueOf(destination string) inbox.Queue {
	s.Helper()
	q, err := s.in.Queue(s.ctx(), destination)
	require.NoError(s, err)
	return q
}

// send stores a new event for some destinations, whose queues it makes.
func (s *suite) send(task string, status inbox.Status, destinations ...string) *inbox.Event {
	s.Helper()
	for _, d := range destinations {
		s.queueOf(d)
	}
	e := s.event(task, status)
	s.sendEvent(e, destinations...)
	return e
}

func (s *suite) sendEvent(e *inbox.Event, destinations ...string) {
	s.Helper()
	sent := *e
	sent.Destinations = append([]string{}, destinations...)
	s.putEvent(&sent)
}

// take leases the only event that is due at a destination.
func (s *suite) take(destination string, e *inbox.Event) *inbox.Lease {
	s.Helper()
	leases := Lease(s, s.queueOf(destination), 1)
	require.Equal(s, e, leases[0].Event)
	s.nothingAt(destination)
	return leases[0]
}

// nothingAt checks that no event is due at a destination, neither before nor beside one
// that is put last.
func (s *suite) nothingAt(destination string) {
	s.Helper()
	q := s.queueOf(destination)
	s.content++
	last := s.send(fmt.Sprintf("sentinel %d", s.content), inbox.Completed, destination)
	leases, err := q.Lease(s.ctx(), 100)
	require.NoError(s, err)
	require.Equal(s, []string{last.ID}, ids(leases))
	Settle(s, q, inbox.Deliver, leases...)
	require.NoError(s, s.in.Purge(s.ctx(), last.ID, ""))
}

// finish leases the only event that is due at a destination, and settles it.
func (s *suite) finish(v inbox.Verdict, destination string, e *inbox.Event) {
	s.Helper()
	Settle(s, s.queueOf(destination), v, s.take(destination, e))
}

// requireStates checks the state of an event, and those of its deliveries, as
// "a: pending, b: dead".
func (s *suite) requireStates(event inbox.State, deliveries string, e *inbox.Event) {
	s.Helper()
	r := s.get(e)
	require.Equal(s, event.String(), r.State.String())
	var parts []string
	for _, d := range r.Deliveries {
		parts = append(parts, d.Destination+": "+d.State.String())
	}
	require.Equal(s, deliveries, strings.Join(parts, ", "))
	var without []inbox.Delivery
	for _, d := range r.Deliveries {
		d.Log = nil
		without = append(without, d)
	}
	require.Equal(s, inbox.Summarize(without), r.Progress)
}

// destinationStats returns the summary of one destination; nil if it is unknown.
func (s *suite) destinationStats(name string) *inbox.DestinationStats {
	s.Helper()
	all := s.stats().Destinations
	for i, d := range all {
		if i > 0 {
			require.Less(s, all[i-1].Name, d.Name)
		}
	}
	for _, d := range all {
		if d.Name == name {
			return &d
		}
	}
	return nil
}

var destinationTests = []test{
	{"each destination leases an event once", func(s *suite) {
		both := s.send("task", inbox.Completed, "a", "b")
		usual := s.put("other", inbox.Completed)
		for _, name := range []string{"b", "a"} {
			s.take(name, both)
		}
		s.take(inbox.DefaultDestination, usual)
		s.requireStates(inbox.Pending, "a: pending, b: pending", both)
		s.requireStates(inbox.Pending, "default: pending", usual)
	}},
	{"the queue of a name is always the same", func(s *suite) {
		for _, name := range []string{"a", inbox.DefaultDestination} {
			first, again := s.queueOf(name), s.queueOf(name)
			require.Same(s, first, again)
		}
		require.NotSame(s, s.queueOf("a"), s.queueOf("b"))
	}},
	{"a name that cannot be has no queue", func(s *suite) {
		for _, name := range []string{"", " ", "a.b", "a b", "ä", strings.Repeat("a", 65)} {
			_, err := s.in.Queue(s.ctx(), name)
			require.Error(s, err, name)
		}
		s.queueOf(strings.Repeat("a", 64))
		s.queueOf("-_09AZaz")
	}},
	{"an event for a destination without a queue is refused", func(s *suite) {
		s.queueOf("a")
		e := s.event("task", inbox.Completed)
		sent := *e
		sent.Destinations = []string{"a", "b"}
		_, err := s.in.Put(s.ctx(), &sent)
		require.ErrorIs(s, err, inbox.ErrNotFound)
		_, err = s.in.Get(s.ctx(), e.ID)
		require.ErrorIs(s, err, inbox.ErrNotFound)
		s.nothingAt("a")
		s.sendEvent(e, "a")
		s.take("a", e)
	}},
	{"destinations that cannot be are refused", func(s *suite) {
		s.queueOf("a")
		many := make([]string, inbox.MaxDestinations+1)
		for i := range many {
			many[i] = fmt.Sprint("d", i)
		}
		for _, names := range [][]string{{"a", "a"}, {""}, {"a b"}, many} {
			e := s.event("task", inbox.Completed)
			e.Destinations = names
			_, err := s.in.Put(s.ctx(), e)
			require.Error(s, err, names)
			_, err = s.in.Get(s.ctx(), e.ID)
			require.ErrorIs(s, err, inbox.ErrNotFound)
		}
	}},
	{"an event without a destination is skipped", func(s *suite) {
		e := s.send("task", inbox.Completed)
		s.requireStates(inbox.Skipped, "", e)
		s.nothingDue()
		require.Equal(s, [...]int64{0, 0, 0, 0, 1}, s.stats().Events)
		require.Equal(s, []string{e.ID}, recordIDs(s.list(inbox.Filter{States: []inbox.State{inbox.Skipped}}, 10)))
		require.Empty(s, s.list(inbox.Filter{States: []inbox.State{inbox.Pending, inbox.Delivered, inbox.Superseded, inbox.Dead}}, 10))
		require.ErrorIs(s, s.in.Replay(s.ctx(), e.ID, ""), inbox.ErrState)
		require.ErrorIs(s, s.in.Replay(s.ctx(), e.ID, "default"), inbox.ErrNotFound)
		duplicateOf, err := s.in.Put(s.ctx(), e)
		require.NoError(s, err)
		require.Equal(s, e.ID, duplicateOf)
		s.nothingDue()
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		require.Zero(s, s.stats().Events)
	}},
	{"a repeat goes nowhere, whatever its destinations", func(s *suite) {
		e := s.send("task", inbox.Completed, "a")
		s.queueOf("b")
		for _, names := range [][]string{{"a"}, {"b"}, {"a", "b"}, {}, nil} {
			repeat := *e
			repeat.Destinations = names
			duplicateOf, err := s.in.Put(s.ctx(), &repeat)
			require.NoError(s, err)
			require.Equal(s, e.ID, duplicateOf)
		}
		s.requireStates(inbox.Pending, "a: pending", e)
		s.take("a", e)
		s.nothingAt("b")
		s.nothingDue()
	}},
	{"a repeat under a former id goes nowhere", func(s *suite) {
		old := s.send("task", inbox.Completed, "a", "b")
		e := s.event("task", inbox.Completed)
		e.FormerID, e.Destinations = old.ID, []string{"b"}
		duplicateOf, err := s.in.Put(s.ctx(), e)
		require.NoError(s, err)
		require.Equal(s, old.ID, duplicateOf)
		s.take("b", old)
	}},
	{"an event ends for each destination by itself", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b", "c")
		s.finish(inbox.Deliver, "a", e)
		s.requireStates(inbox.Pending, "a: delivered, b: pending, c: pending", e)
		s.finish(inbox.GiveUp, "b", e)
		s.requireStates(inbox.Pending, "a: delivered, b: dead, c: pending", e)
		s.nothingAt("a")
		s.nothingAt("b")
		s.finish(inbox.Retry, "c", e)
		s.finish(inbox.Deliver, "c", e)
		s.requireStates(inbox.Dead, "a: delivered, b: dead, c: delivered", e)
		r := s.get(e)
		require.Equal(s, 4, r.Attempts)
		require.Len(s, r.Deliveries[0].Log, 1)
		require.Equal(s, 503, r.Deliveries[1].Log[0].Status)
		require.Len(s, r.Deliveries[2].Log, 2)
		require.Equal(s, 2, r.Deliveries[2].Attempts)
		require.Equal(s, [...]int64{0, 0, 0, 1, 0}, s.stats().Events)
	}},
	{"a lease belongs to its queue", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		l := s.take("a", e)
		require.ErrorIs(s, s.queueOf("b").Settle(s.ctx(), Outcome(inbox.Deliver, l)), inbox.ErrState)
		s.finish(inbox.Deliver, "b", e)
		Settle(s, s.queueOf("a"), inbox.Deliver, l)
		s.requireStates(inbox.Delivered, "a: delivered, b: delivered", e)
	}},
}
