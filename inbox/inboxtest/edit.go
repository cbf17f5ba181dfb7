package inboxtest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var editTests = []test{
	{"a replayed event that is pending is due at once, and keeps its attempts", func(s *suite) {
		for _, v := range []inbox.Verdict{inbox.Retry, inbox.Release} {
			e := s.put("task", inbox.Completed)
			s.settle(inbox.Retry, s.leaseOf(e))
			s.settleDue(v, s.leaseOf(e), time.Now().Add(time.Hour))
			s.nothingDue()
			before, err := s.in.Get(s.ctx(), e.ID)
			attempts := Log(before)
			require.NoError(s, err)
			require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
			after, err := s.in.Get(s.ctx(), e.ID)
			same := Log(after)
			require.NoError(s, err)
			require.Equal(s, attempts, same)
			require.False(s, before.Due.IsZero())
			before.Due, before.Deliveries[0].Due = time.Time{}, time.Time{}
			require.Equal(s, before, after)
			require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""), "once more")
			l := s.leaseOf(e)
			require.Equal(s, before.Attempts+1, l.Attempt)
			s.settle(inbox.Deliver, l)
			s.requireState(inbox.Delivered, e)
			require.Equal(s, [...]int64{0, 1, 0, 0, 0}, s.stats().Events)
			require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		}
	}},
	{"a replay of a pending event outlives a crash", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settleDue(inbox.Retry, s.leaseOf(e), time.Now().Add(time.Hour))
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
		s.crash()
		require.Equal(s, 2, s.leaseOf(e).Attempt)
	}},
	{"a replay of what was never leased changes nothing", func(s *suite) {
		e := s.put("task", inbox.Completed)
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
		require.Equal(s, 1, s.leaseOf(e).Attempt)
	}},
	{"a replay of what is leased changes nothing", func(s *suite) {
		e := s.put("task", inbox.Completed)
		for n := 1; n <= 2; n++ { // before it was ever settled, and after
			l := s.leaseOf(e)
			require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
			s.nothingDue()
			require.Equal(s, n, l.Attempt)
			s.settle(inbox.Retry, l)
		}
		s.settleDue(inbox.Retry, s.leaseOf(e), time.Now().Add(time.Hour))
		s.nothingDue()
	}},
	{"a pending event that is replayed keeps its place in its task", func(s *suite) {
		first := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(first))
		second := s.put("task", inbox.Completed)
		s.settleDue(inbox.Retry, s.leaseOf(second), time.Now().Add(time.Hour))
		require.NoError(s, s.in.Replay(s.ctx(), first.ID, ""))
		l := s.leaseOf(first)
		require.NoError(s, s.in.Replay(s.ctx(), second.ID, ""))
		s.nothingDue()
		s.settle(inbox.Deliver, l)
		require.Equal(s, 2, s.leaseOf(second).Attempt)
	}},
	{"a replay of a pending event wakes whoever waits for a lease", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settleDue(inbox.Retry, s.leaseOf(e), time.Now().Add(time.Hour))
		var leases []*inbox.Lease
		done := background(func() { leases, _ = s.queue.Lease(s.ctx(), 1) })
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
		s.await(done)
		require.Equal(s, []string{e.ID}, ids(leases))
	}},
	{"a replay wakes whoever waits for a lease", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(e))
		var leases []*inbox.Lease
		done := background(func() { leases, _ = s.queue.Lease(s.ctx(), 1) })
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
		s.await(done)
		require.Equal(s, []string{e.ID}, ids(leases))
	}},
	{"later events wait for one that is replayed", func(s *suite) {
		first := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(first))
		second := s.put("task", inbox.Completed)
		require.NoError(s, s.in.Replay(s.ctx(), first.ID, ""))
		s.settle(inbox.Deliver, s.leaseOf(first))
		s.leaseOf(second)
	}},
	{"a replayed event waits for one of its task that is leased", func(s *suite) {
		first := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(first))
		second := s.put("task", inbox.Completed)
		l := s.leaseOf(second)
		require.NoError(s, s.in.Replay(s.ctx(), first.ID, ""))
		s.nothingDue()
		s.settle(inbox.Retry, l)
		s.settle(inbox.Deliver, s.leaseOf(first))
		s.leaseOf(second)
	}},
	{"a replayed event in progress is superseded again", func(s *suite) {
		a := s.put("task", inbox.InProgress)
		final := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(final))
		require.NoError(s, s.in.Replay(s.ctx(), a.ID, ""))
		s.nothingDue()
		s.requireState(inbox.Superseded, a)
	}},
	{"a purged event is gone", func(s *suite) {
		for _, v := range []inbox.Verdict{inbox.Deliver, inbox.GiveUp, inbox.Retry} {
			e := s.put("task", inbox.Completed)
			s.settle(v, s.leaseOf(e))
			require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
			_, err := s.in.Get(s.ctx(), e.ID)
			require.ErrorIs(s, err, inbox.ErrNotFound)
			require.ErrorIs(s, s.in.Purge(s.ctx(), e.ID, ""), inbox.ErrNotFound)
			s.nothingDue()
			require.Zero(s, s.stats().Events)
			s.putEvent(e)
			record, err := s.in.Get(s.ctx(), e.ID)
			attempts := Log(record)
			require.NoError(s, err)
			require.Empty(s, attempts)
			require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		}
	}},
	{"a leased event cannot be purged", func(s *suite) {
		e := s.put("task", inbox.Completed)
		l := s.leaseOf(e)
		require.ErrorIs(s, s.in.Purge(s.ctx(), e.ID, ""), inbox.ErrState)
		s.settle(inbox.Release, l)
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		s.nothingDue()
	}},
	{"events that waited for a purged one go on", func(s *suite) {
		first := s.put("task", inbox.Completed)
		second := s.put("task", inbox.Completed)
		require.NoError(s, s.in.Purge(s.ctx(), first.ID, ""))
		s.leaseOf(second)
	}},
	{"the policy removes what is old, and it may be put again", func(s *suite) {
		done := s.put("a", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(done))
		gone := s.put("b", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(gone))
		old := s.put("c", inbox.InProgress)
		pending := s.put("c", inbox.Completed)
		later := s.put("d", inbox.Completed)
		leases := s.lease(2)
		s.settle(inbox.Deliver, leases[1])
		s.in.SetPolicy(inbox.Policy{Keep: time.Microsecond})
		s.eventually("the old are removed", func() bool {
			return s.stats().Events == [...]int64{1, 0, 0, 1, 0}
		})
		require.Equal(s, idsOf(gone, pending), recordIDs(s.list(inbox.Filter{}, 10)))
		for _, e := range []*inbox.Event{done, old, later} {
			_, err := s.in.Get(s.ctx(), e.ID)
			require.ErrorIs(s, err, inbox.ErrNotFound)
		}
		s.in.SetPolicy(inbox.Policy{Keep: time.Hour})
		s.putEvent(done)
		require.Equal(s, done, s.lease(1)[0].Event)
	}},
	{"the policy leaves what is not old", func(s *suite) {
		e := s.put("a", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(e))
		s.in.SetPolicy(inbox.Policy{Keep: time.Hour})
		s.nothingDue()
		s.requireState(inbox.Delivered, e)
	}},
}
