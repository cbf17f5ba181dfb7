package inboxtest

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var settleTests = []test{
	{"a delivery ends the event", func(s *suite) {
		e := s.put("task", inbox.Completed)
		before := time.Now().Add(-time.Microsecond)
		o := Outcome(inbox.Deliver, s.leaseOf(e))
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		r, err := s.in.Get(s.ctx(), e.ID)
		attempts := Log(r)
		require.NoError(s, err)
		require.Equal(s, inbox.Delivered, r.State)
		require.Equal(s, 1, r.Attempts)
		require.Equal(s, o.Attempt, r.Last)
		require.Equal(s, []inbox.Attempt{o.Attempt}, attempts)
		require.WithinRange(s, r.SettledAt, before, time.Now())
		require.Zero(s, r.Due)
	}},
	{"a retry counts, and its attempts are kept", func(s *suite) {
		e := s.put("task", inbox.Completed)
		var want []inbox.Attempt
		for n := 1; n <= 3; n++ {
			l := s.leaseOf(e)
			require.Equal(s, n, l.Attempt)
			o := Outcome(inbox.Retry, l)
			require.NoError(s, s.queue.Settle(s.ctx(), o))
			want = append(want, o.Attempt)
			r, err := s.in.Get(s.ctx(), e.ID)
			attempts := Log(r)
			require.NoError(s, err)
			require.Equal(s, inbox.Pending, r.State)
			require.Equal(s, n, r.Attempts)
			require.Equal(s, o.Attempt, r.Last)
			require.Zero(s, r.SettledAt)
			require.Equal(s, want, attempts)
		}
		o := Outcome(inbox.Deliver, s.leaseOf(e))
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		record, err := s.in.Get(s.ctx(), e.ID)
		attempts := Log(record)
		require.NoError(s, err)
		require.Equal(s, append(want, o.Attempt), attempts)
	}},
	{"giving up makes the event dead", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.Retry, s.leaseOf(e))
		o := Outcome(inbox.GiveUp, s.leaseOf(e))
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		r, err := s.in.Get(s.ctx(), e.ID)
		attempts := Log(r)
		require.NoError(s, err)
		require.Equal(s, inbox.Dead, r.State)
		require.Equal(s, 2, r.Attempts)
		require.Equal(s, o.Attempt, r.Last)
		require.Len(s, attempts, 2)
		require.Equal(s, o.Attempt, attempts[1])
		s.nothingDue()
	}},
	{"a release does not count", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.Release, s.leaseOf(e))
		l := s.leaseOf(e)
		require.Equal(s, 1, l.Attempt)
		s.settle(inbox.Retry, l)
		s.settle(inbox.Release, s.leaseOf(e))
		require.Equal(s, 2, s.leaseOf(e).Attempt)
		r, err := s.in.Get(s.ctx(), e.ID)
		attempts := Log(r)
		require.NoError(s, err)
		require.Equal(s, 1, r.Attempts)
		require.Len(s, attempts, 1)
	}},
	{"a release may set a time", func(s *suite) {
		e := s.put("task", inbox.Completed)
		o := Outcome(inbox.Release, s.leaseOf(e))
		o.Due = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		s.nothingDue()
		require.Equal(s, o.Due, s.get(e).Due)
	}},
	{"many outcomes are settled at once", func(s *suite) {
		verdicts := []inbox.Verdict{inbox.Deliver, inbox.Retry, inbox.GiveUp, inbox.Release}
		for _, v := range verdicts {
			s.put(strings.Repeat("x", int(v)), inbox.Completed)
		}
		var outcomes []inbox.Outcome
		for i, l := range s.lease(len(verdicts)) {
			outcomes = append(outcomes, Outcome(verdicts[i], l))
		}
		require.NoError(s, s.queue.Settle(s.ctx(), outcomes...))
		stats := s.stats()
		require.EqualValues(s, 2, stats.Events[inbox.Pending])
		require.EqualValues(s, 1, stats.Events[inbox.Delivered])
		require.EqualValues(s, 1, stats.Events[inbox.Dead])
		require.NoError(s, s.queue.Settle(s.ctx()))
	}},
	{"a lease that is not held is an error that names it", func(s *suite) {
		a, b := s.put("a", inbox.Completed), s.put("b", inbox.Completed)
		leases := s.lease(2)
		s.settle(inbox.Deliver, leases[0])
		err := s.queue.Settle(s.ctx(), Outcome(inbox.GiveUp, leases[0]), Outcome(inbox.Deliver, leases[1]))
		require.ErrorIs(s, err, inbox.ErrState)
		require.ErrorContains(s, err, a.ID)
		require.NotContains(s, err.Error(), b.ID)
		s.requireState(inbox.Delivered, a)
		s.requireState(inbox.Delivered, b)
		require.ErrorIs(s, s.queue.Settle(s.ctx(), inbox.Outcome{Verdict: inbox.Deliver}), inbox.ErrState)
	}},
	{"a lease counts once in a call", func(s *suite) {
		e := s.put("task", inbox.Completed)
		l := s.leaseOf(e)
		require.ErrorContains(s, s.queue.Settle(s.ctx(), Outcome(inbox.Deliver, l), Outcome(inbox.GiveUp, l)), e.ID)
		s.requireState(inbox.Delivered, e)
	}},
	{"an old lease of an event that was leased again is not held", func(s *suite) {
		e := s.put("task", inbox.Completed)
		old := s.leaseOf(e)
		s.settle(inbox.Release, old)
		l := s.leaseOf(e)
		require.ErrorContains(s, s.queue.Settle(s.ctx(), Outcome(inbox.GiveUp, old)), e.ID)
		s.settle(inbox.Deliver, l)
		s.requireState(inbox.Delivered, e)
	}},
	{"an unknown verdict is an error", func(s *suite) {
		e := s.put("task", inbox.Completed)
		l := s.leaseOf(e)
		require.Error(s, s.queue.Settle(s.ctx(), inbox.Outcome{Lease: l}))
		s.settle(inbox.Deliver, l)
	}},
	{"a long reason is cut between characters", func(s *suite) {
		e := s.put("task", inbox.Completed)
		o := Outcome(inbox.Retry, s.leaseOf(e))
		o.Attempt.Reason = "x" + strings.Repeat("é", inbox.MaxReason)
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		reason := s.get(e).Last.Reason
		require.True(s, utf8.ValidString(reason))
		require.LessOrEqual(s, len(reason), inbox.MaxReason)
		require.Greater(s, len(reason), inbox.MaxReason-utf8.UTFMax)
		require.True(s, strings.HasPrefix(o.Attempt.Reason, reason))
	}},
	{"a reason is made valid UTF-8", func(s *suite) {
		e := s.put("task", inbox.Completed)
		o := Outcome(inbox.Retry, s.leaseOf(e))
		o.Attempt.Reason = "bad \xff\x00 gateway"
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		reason := s.get(e).Last.Reason
		require.True(s, utf8.ValidString(reason))
		require.Contains(s, reason, "gateway")
	}},
}
