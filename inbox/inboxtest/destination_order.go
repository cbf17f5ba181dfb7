package inboxtest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Each destination has an order of its own, and can be changed by itself.
var destinationOrderTests = []test{
	{"a task is in order at each destination", func(s *suite) {
		first := s.send("task", inbox.Completed, "a", "b")
		second := s.send("task", inbox.Failed, "a", "b")
		third := s.send("task", inbox.Completed, "a")
		atB := s.take("b", first)
		s.finish(inbox.Deliver, "a", first)
		s.finish(inbox.GiveUp, "a", second)
		s.finish(inbox.Deliver, "a", third)
		s.nothingAt("b")
		s.requireStates(inbox.Pending, "a: dead, b: pending", second)
		Settle(s, s.queueOf("b"), inbox.Deliver, atB)
		s.finish(inbox.Deliver, "b", second)
		s.nothingAt("b")
	}},
	{"events of a task do not wait for those of other destinations", func(s *suite) {
		first := s.send("task", inbox.Completed, "a")
		second := s.send("task", inbox.Completed, "b")
		third := s.put("task", inbox.Completed)
		s.take("b", second)
		s.take(inbox.DefaultDestination, third)
		s.take("a", first)
	}},
	{"an event that waits after a retry waits at that destination alone", func(s *suite) {
		first := s.send("task", inbox.Completed, "a", "b")
		second := s.send("task", inbox.Completed, "a", "b")
		l := s.take("a", first)
		o := Outcome(inbox.Retry, l)
		o.Due = time.Now().Add(time.Hour)
		require.NoError(s, s.queueOf("a").Settle(s.ctx(), o))
		s.nothingAt("a")
		s.finish(inbox.Deliver, "b", first)
		s.finish(inbox.Deliver, "b", second)
		s.requireStates(inbox.Pending, "a: pending, b: delivered", first)
		require.False(s, s.get(first).Deliveries[0].Due.IsZero())
	}},
	{"a final event supersedes notices where it goes itself", func(s *suite) {
		notice := s.send("task", inbox.InProgress, "a", "b")
		s.send("task", inbox.Completed, "b")
		s.eventually("it is superseded", func() bool { return s.get(notice).Deliveries[1].State == inbox.Superseded })
		s.requireStates(inbox.Pending, "a: pending, b: superseded", notice)
		s.finish(inbox.Deliver, "a", notice)
		s.requireStates(inbox.Delivered, "a: delivered, b: superseded", notice)
		late := s.send("task", inbox.InProgress, "a", "b")
		s.eventually("it is superseded, too", func() bool { return s.get(late).Deliveries[1].State == inbox.Superseded })
		s.finish(inbox.Deliver, "a", late)
	}},
	{"what is not confirmed is in order, and no end of its task", func(s *suite) {
		first := s.send("task", inbox.Unconfirmed, inbox.ConfirmDestination)
		second := s.send("task", inbox.Unconfirmed, inbox.ConfirmDestination)
		o := Outcome(inbox.Retry, s.take(inbox.ConfirmDestination, first))
		o.Due = time.Now()
		require.NoError(s, s.queueOf(inbox.ConfirmDestination).Settle(s.ctx(), o))
		notice := s.send("task", inbox.InProgress, "a")
		s.finish(inbox.Deliver, "a", notice)
		final := s.send("task", inbox.Completed, "a")
		s.finish(inbox.Deliver, "a", final)
		third := s.send("task", inbox.Unconfirmed, inbox.ConfirmDestination)
		for _, e := range []*inbox.Event{first, second, third} {
			s.finish(inbox.Deliver, inbox.ConfirmDestination, e)
			require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		}
		s.requireStates(inbox.Delivered, "a: delivered", final)
	}},
	{"an event that is superseded everywhere is superseded", func(s *suite) {
		notice := s.send("task", inbox.InProgress, "a", "b")
		s.send("task", inbox.Failed, "a", "b")
		s.eventually("it is superseded", func() bool { return s.get(notice).State == inbox.Superseded })
		s.requireStates(inbox.Superseded, "a: superseded, b: superseded", notice)
	}},
	{"replay is for one destination", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		s.finish(inbox.Deliver, "a", e)
		s.finish(inbox.Deliver, "b", e)
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, "b"))
		s.requireStates(inbox.Pending, "a: delivered, b: pending", e)
		s.nothingAt("a")
		require.Equal(s, 2, s.take("b", e).Attempt)
		require.ErrorIs(s, s.in.Replay(s.ctx(), e.ID, "c"), inbox.ErrNotFound)
		require.ErrorIs(s, s.in.Replay(s.ctx(), e.ID, inbox.DefaultDestination), inbox.ErrNotFound)
	}},
	{"a replay without a destination repeats nothing that was taken, unless all was", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		s.finish(inbox.Deliver, "a", e)
		s.finish(inbox.GiveUp, "b", e)
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
		s.requireStates(inbox.Pending, "a: delivered, b: pending", e)
		s.nothingAt("a")
		s.finish(inbox.Deliver, "b", e)
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
		s.finish(inbox.Deliver, "a", e)
		s.finish(inbox.Deliver, "b", e)
	}},
	{"purge is for one destination", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		next := s.send("task", inbox.Completed, "a", "b")
		require.ErrorIs(s, s.in.Purge(s.ctx(), e.ID, "c"), inbox.ErrNotFound)
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, "a"))
		s.requireStates(inbox.Pending, "b: pending", e)
		s.finish(inbox.Deliver, "a", next)
		l := s.take("b", e)
		require.ErrorIs(s, s.in.Purge(s.ctx(), e.ID, "b"), inbox.ErrState)
		require.ErrorIs(s, s.in.Purge(s.ctx(), e.ID, ""), inbox.ErrState)
		Settle(s, s.queueOf("b"), inbox.GiveUp, l)
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, "b"))
		_, err := s.in.Get(s.ctx(), e.ID)
		require.ErrorIs(s, err, inbox.ErrNotFound)
		require.NoError(s, s.in.Purge(s.ctx(), next.ID, ""))
		require.Zero(s, s.stats().Events)
		require.Zero(s, s.destinationStats("b").Deliveries)
		require.Zero(s, s.destinationStats("a").Deliveries)
	}},
	{"a purged event can be put again", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		s.finish(inbox.GiveUp, "a", e)
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		s.sendEvent(e, "b")
		s.requireStates(inbox.Pending, "b: pending", e)
		s.nothingAt("a")
		s.take("b", e)
	}},
	{"queues do not wait for each other", func(s *suite) {
		for _, name := range []string{"a", "b"} {
			s.queueOf(name)
		}
		var got []*inbox.Lease
		waits, stop := context.WithCancel(context.Background())
		a := background(func() { _, _ = s.queueOf("a").Lease(waits, 1) })
		b := background(func() { got, _ = s.queueOf("b").Lease(s.ctx(), 1) })
		e := s.send("task", inbox.Completed, "b")
		s.await(b)
		require.Equal(s, []string{e.ID}, ids(got))
		stop()
		s.await(a)
	}},
}
