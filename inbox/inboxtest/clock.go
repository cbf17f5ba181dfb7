package inboxtest

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// farFuture returns a time that only a wrong clock would set.
func farFuture() time.Time { return time.Now().AddDate(1, 0, 0) }

// setMaxWait sets Policy.MaxWait.
func (s *suite) setMaxWait(longest time.Duration) {
	s.in.SetPolicy(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10, MaxWait: longest})
}

// requireDue checks that an event is due within that time, and not much sooner.
func (s *suite) requireDue(e *inbox.Event, within time.Duration) {
	s.Helper()
	due := s.get(e).Due
	require.False(s, due.IsZero())
	require.False(s, due.After(time.Now().Add(within)), due)
	require.False(s, due.Before(time.Now().Add(within-patience)), due)
}

var clockTests = []test{
	{"what is due far too late is due within the policy's time", func(s *suite) {
		s.setMaxWait(time.Hour)
		for _, v := range []inbox.Verdict{inbox.Retry, inbox.Release} {
			e := s.put(map[inbox.Verdict]string{inbox.Retry: "a", inbox.Release: "b"}[v], inbox.Completed)
			s.settleDue(v, s.leaseOf(e), farFuture())
			s.requireDue(e, time.Hour)
			s.nothingDue()
			s.requireDue(e, time.Hour)
		}
		records := s.list(inbox.Filter{}, 10)
		require.Len(s, records, 2)
		for _, r := range records {
			require.False(s, r.Due.After(time.Now().Add(time.Hour)), r.Due)
		}
	}},
	{"what is due in time stays so", func(s *suite) {
		s.setMaxWait(time.Hour)
		e := s.put("task", inbox.Completed)
		due := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		s.settleDue(inbox.Retry, s.leaseOf(e), due)
		s.nothingDue()
		require.Equal(s, due, s.get(e).Due)
		s.reopen()
		s.nothingDue()
		require.Equal(s, due, s.get(e).Due)
	}},
	{"a shorter time holds for what waits already", func(s *suite) {
		first, second := s.put("a", inbox.Completed), s.put("b", inbox.Completed)
		for _, l := range s.lease(2) {
			s.settleDue(inbox.Retry, l, farFuture())
		}
		s.nothingDue()
		s.setMaxWait(time.Millisecond)
		got := s.lease(2)
		require.ElementsMatch(s, []string{first.ID, second.ID}, ids(got))
		require.Equal(s, 2, got[0].Attempt)
		s.settle(inbox.Deliver, got...)
		require.Equal(s, [...]int64{0, 2, 0, 0, 0}, s.stats().Events)
	}},
	{"it holds for what an inbox finds when it is opened", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settleDue(inbox.Retry, s.leaseOf(e), farFuture())
		require.NoError(s, s.in.Close())
		s.open(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10, MaxWait: time.Millisecond})
		require.Equal(s, 2, s.leaseOf(e).Attempt)
	}},
	{"it holds for what waits behind another event of its task", func(s *suite) {
		first := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(first))
		second := s.put("task", inbox.Completed)
		s.settleDue(inbox.Retry, s.leaseOf(second), farFuture())
		require.NoError(s, s.in.Replay(s.ctx(), first.ID, ""))
		s.setMaxWait(time.Millisecond)
		s.settle(inbox.Deliver, s.leaseOf(first))
		s.leaseOf(second)
	}},
	{"it reaches many", func(s *suite) {
		const n = 600 // more than are brought forward at a time
		for range n / 100 {
			for range 100 {
				s.put("task "+s.event("", 0).ID, inbox.Completed)
			}
			for _, l := range s.lease(100) {
				s.settleDue(inbox.Retry, l, farFuture())
			}
		}
		s.setMaxWait(time.Millisecond)
		for some := range slices.Chunk(s.lease(n), 100) { // an inbox has a limit of time for one call
			s.settle(inbox.Deliver, some...)
		}
		require.Equal(s, [...]int64{0, n, 0, 0, 0}, s.stats().Events)
	}},
	{"no time sets no bound", func(s *suite) {
		e := s.put("task", inbox.Completed)
		due := farFuture().UTC().Truncate(time.Microsecond)
		s.settleDue(inbox.Retry, s.leaseOf(e), due)
		s.nothingDue()
		require.Equal(s, due, s.get(e).Due)
	}},
}
