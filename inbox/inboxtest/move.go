package inboxtest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var moveTests = []test{
	{"what is pending goes to another destination", func(s *suite) {
		first := s.send("task", inbox.Completed, "old")
		second := s.send("task", inbox.Failed, "old")
		third := s.send("task", inbox.Completed, "new")
		for _, e := range []*inbox.Event{second, first} {
			require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
			s.requireStates(inbox.Pending, "new: pending", e)
		}
		s.nothingAt("old")
		for _, e := range []*inbox.Event{first, second, third} {
			s.finish(inbox.Deliver, "new", e)
		}
		require.Zero(s, s.destinationStats("old").Deliveries)
		require.Equal(s, [...]int64{0, 3, 0, 0, 0}, s.destinationStats("new").Deliveries)
	}},
	{"what is dead goes to another destination", func(s *suite) {
		e := s.send("task", inbox.Completed, "old", "other")
		s.queueOf("new")
		s.finish(inbox.Deliver, "other", e)
		s.finish(inbox.Retry, "old", e)
		s.finish(inbox.GiveUp, "old", e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		s.requireStates(inbox.Pending, "new: pending, other: delivered", e)
		l := s.take("new", e)
		require.Equal(s, 3, l.Attempt)
		Settle(s, s.queueOf("new"), inbox.Deliver, l)
		s.requireStates(inbox.Delivered, "new: delivered, other: delivered", e)
		s.nothingAt("old")
	}},
	{"what waits for a retry is due at once elsewhere", func(s *suite) {
		e := s.send("task", inbox.Completed, "old")
		s.queueOf("new")
		o := Outcome(inbox.Retry, s.take("old", e))
		o.Due = time.Now().Add(time.Hour)
		require.NoError(s, s.queueOf("old").Settle(s.ctx(), o))
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		require.Equal(s, 2, s.take("new", e).Attempt)
	}},
	{"what was delivered stays, and goes elsewhere, too", func(s *suite) {
		e := s.send("task", inbox.Completed, "old")
		s.queueOf("new")
		s.finish(inbox.Deliver, "old", e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		s.requireStates(inbox.Pending, "new: pending, old: delivered", e)
		s.finish(inbox.Deliver, "new", e)
		s.nothingAt("old")
	}},
	{"without a former one, another destination is added", func(s *suite) {
		e := s.put("task", inbox.Completed)
		skipped := s.send("other", inbox.Completed)
		s.queueOf("new")
		for _, event := range []*inbox.Event{e, skipped} {
			require.NoError(s, s.in.Move(s.ctx(), event.ID, "", "new"))
			s.finish(inbox.Deliver, "new", event)
		}
		s.requireStates(inbox.Pending, "default: pending, new: delivered", e)
		s.requireStates(inbox.Delivered, "new: delivered", skipped)
		s.finish(inbox.Deliver, inbox.DefaultDestination, e)
		s.requireStates(inbox.Delivered, "default: delivered, new: delivered", e)
	}},
	{"at a destination that has it, an event is replayed", func(s *suite) {
		e := s.send("task", inbox.Completed, "old", "new")
		s.finish(inbox.Deliver, "new", e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		s.requireStates(inbox.Pending, "new: pending", e)
		s.finish(inbox.Deliver, "new", e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "new", "new"))
		s.requireStates(inbox.Pending, "new: pending", e)
		s.finish(inbox.Deliver, "new", e)
	}},
	{"the default destination can be left and taken", func(s *suite) {
		e := s.put("task", inbox.Completed)
		back := s.send("back", inbox.Completed, "new")
		require.NoError(s, s.in.Move(s.ctx(), e.ID, inbox.DefaultDestination, "new"))
		require.NoError(s, s.in.Move(s.ctx(), back.ID, "new", inbox.DefaultDestination))
		s.finish(inbox.Deliver, "new", e)
		s.finish(inbox.Deliver, inbox.DefaultDestination, back)
		s.requireStates(inbox.Delivered, "new: delivered", e)
		s.requireStates(inbox.Delivered, "default: delivered", back)
	}},
	{"what is left makes way for the next of its task", func(s *suite) {
		first := s.send("task", inbox.Completed, "old")
		second := s.send("task", inbox.Completed, "old")
		s.queueOf("new")
		require.NoError(s, s.in.Move(s.ctx(), first.ID, "old", "new"))
		s.finish(inbox.Deliver, "old", second)
		s.finish(inbox.Deliver, "new", first)
	}},
	{"a notice is superseded where a final event goes", func(s *suite) {
		notice := s.send("task", inbox.InProgress, "old")
		s.finish(inbox.GiveUp, "old", notice)
		s.send("task", inbox.Completed, "new")
		require.NoError(s, s.in.Move(s.ctx(), notice.ID, "old", "new"))
		s.eventually("it is superseded", func() bool { return s.get(notice).State == inbox.Superseded })
		s.requireStates(inbox.Superseded, "new: superseded", notice)
	}},
	{"a move that cannot be changes nothing", func(s *suite) {
		e := s.send("task", inbox.Completed, "old", "other")
		s.queueOf("new")
		l := s.take("old", e)
		require.ErrorIs(s, s.in.Move(s.ctx(), e.ID, "old", "new"), inbox.ErrState)
		Settle(s, s.queueOf("old"), inbox.Retry, l)
		require.ErrorIs(s, s.in.Move(s.ctx(), e.ID, "old", "nowhere"), inbox.ErrNotFound)
		require.ErrorIs(s, s.in.Move(s.ctx(), e.ID, "nowhere", "new"), inbox.ErrNotFound)
		require.ErrorIs(s, s.in.Move(s.ctx(), "x", "old", "new"), inbox.ErrNotFound)
		require.ErrorIs(s, s.in.Move(s.ctx(), s.event("gone", inbox.Completed).ID, "", "new"), inbox.ErrNotFound)
		s.requireStates(inbox.Pending, "old: pending, other: pending", e)
		s.nothingAt("new")
	}},
	{"a move lasts", func(s *suite) {
		e := s.send("task", inbox.Completed, "old")
		s.queueOf("new")
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		s.reopen()
		s.requireStates(inbox.Pending, "new: pending", e)
		s.finish(inbox.Deliver, "new", e)
	}},
}
