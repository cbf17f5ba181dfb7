package inboxtest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// attempted returns the record of an attempt that ended so, as Outcome makes it.
func attempted(v inbox.Verdict, number int) inbox.Attempt {
	return Outcome(v, &inbox.Lease{Attempt: number}).Attempt
}

// replay replays an event and checks that the last replay of its only delivery says when,
// after so many attempts. It returns that replay.
func (s *suite) replay(e *inbox.Event, after int) inbox.Replay {
	s.Helper()
	before := time.Now().Truncate(time.Microsecond)
	require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""))
	replays := s.get(e).Deliveries[0].Replays
	require.NotEmpty(s, replays)
	last := replays[len(replays)-1]
	require.WithinRange(s, last.At, before, time.Now())
	require.Equal(s, inbox.Replay{At: last.At, After: after}, last)
	return last
}

var replayTests = []test{
	{"a replay keeps the attempts, which are numbered on", func(s *suite) {
		for _, end := range []inbox.Verdict{inbox.Deliver, inbox.GiveUp} {
			e := s.put("task", inbox.Completed)
			s.settle(inbox.Retry, s.leaseOf(e))
			s.settle(end, s.leaseOf(e))
			replayed := s.replay(e, 2)
			log := []inbox.Attempt{attempted(inbox.Retry, 1), attempted(end, 2)}
			p := inbox.Progress{State: inbox.Pending, Attempts: 2, Last: log[1]}
			d := inbox.Delivery{Destination: s.get(e).Deliveries[0].Destination, Progress: p, Log: log, Replays: []inbox.Replay{replayed}}
			require.Equal(s, &inbox.Record{Event: e, Progress: p, Deliveries: []inbox.Delivery{d}}, s.get(e))
			l := s.leaseOf(e)
			require.Equal(s, 3, l.Attempt)
			require.Equal(s, 1, l.Try())
			require.Equal(s, replayed, l.Replay)
			require.False(s, l.Untried)
			s.settle(inbox.Deliver, l)
			r := s.get(e)
			require.Equal(s, append(log, attempted(inbox.Deliver, 3)), Log(r))
			require.Equal(s, 3, r.Attempts)
			require.Equal(s, []inbox.Replay{replayed}, r.Deliveries[0].Replays)
		}
	}},
	{"what was never replayed has no replay", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.Retry, s.leaseOf(e))
		require.NoError(s, s.in.Replay(s.ctx(), e.ID, ""), "it is pending")
		l := s.leaseOf(e)
		require.Zero(s, l.Replay)
		require.Equal(s, 2, l.Try())
		require.Empty(s, s.get(e).Deliveries[0].Replays)
	}},
	{"each replay stays, between the attempts that it stands between", func(s *suite) {
		e := s.put("task", inbox.Completed)
		var want []inbox.Replay
		for round := range 3 {
			s.settle(inbox.Retry, s.leaseOf(e))
			l := s.leaseOf(e)
			require.Equal(s, 2*round+2, l.Attempt)
			require.Equal(s, 2, l.Try())
			s.settle(inbox.GiveUp, l)
			want = append(want, s.replay(e, 2*round+2))
		}
		d := s.get(e).Deliveries[0]
		require.Equal(s, want, d.Replays)
		require.Equal(s, 6, d.Attempts)
		require.Len(s, d.Log, 6)
		require.Equal(s, 1, d.FirstInLog())
	}},
	{"a release after a replay is no attempt", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(e))
		replayed := s.replay(e, 1)
		for range 2 {
			l := s.leaseOf(e)
			require.Equal(s, 2, l.Attempt)
			require.Equal(s, replayed, l.Replay)
			s.settle(inbox.Release, l)
		}
		require.Len(s, Log(s.get(e)), 1)
	}},
	{"of several replays without an attempt in between the last counts", func(s *suite) {
		notice := s.put("task", inbox.InProgress)
		final := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(final))
		var last inbox.Replay
		for range 3 {
			last = s.replay(notice, 0)
			s.requireState(inbox.Superseded, notice)
		}
		require.Equal(s, []inbox.Replay{last}, s.get(notice).Deliveries[0].Replays)
	}},
	{"a replay and what came before it last", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(e))
		replayed := s.replay(e, 1)
		before := s.get(e)
		s.reopen()
		require.Equal(s, before, s.get(e))
		l := s.leaseOf(e)
		require.Equal(s, replayed, l.Replay)
		s.settle(inbox.Retry, l)
		s.crash()
		l = s.leaseOf(e)
		require.Equal(s, 3, l.Attempt)
		require.Equal(s, 2, l.Try())
	}},
	{"a replayed event that waits for one of its task keeps when it was replayed", func(s *suite) {
		first := s.put("task", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(first))
		second := s.put("task", inbox.Completed)
		l := s.leaseOf(second)
		replayed := s.replay(first, 1)
		s.nothingDue()
		s.settle(inbox.Deliver, l)
		l = s.leaseOf(first)
		require.Equal(s, 2, l.Attempt)
		require.Equal(s, replayed, l.Replay)
	}},
	{"the history does not grow for ever, and the numbers stay right", func(s *suite) {
		e := s.put("task", inbox.Completed)
		const rounds = 60
		for n := 1; n <= 2*rounds; n += 2 {
			s.settle(inbox.Retry, s.next(e))
			s.settle(inbox.GiveUp, s.next(e))
			s.replay(e, n+1)
		}
		d := s.get(e).Deliveries[0]
		require.Equal(s, 2*rounds, d.Attempts)
		require.InDelta(s, 100, len(d.Log), 1)
		require.Equal(s, attempted(inbox.GiveUp, 2*rounds), d.Log[len(d.Log)-1])
		require.Equal(s, attemptTime.Add(time.Duration(d.FirstInLog())*time.Second), d.Log[0].At)
		require.InDelta(s, 50, len(d.Replays), 1)
		for i, r := range d.Replays {
			require.Equal(s, 2*rounds-2*(len(d.Replays)-1-i), r.After)
		}
		for range 110 {
			l := s.next(e)
			require.Equal(s, 2*rounds, l.Replay.After, "it counts however many attempts follow")
			require.Equal(s, d.Replays[len(d.Replays)-1], l.Replay)
			s.settle(inbox.Retry, l)
		}
		d = s.get(e).Deliveries[0]
		require.Equal(s, 2*rounds+110, d.Attempts)
		require.InDelta(s, 100, len(d.Log), 1)
		require.Len(s, d.Replays, 1)
	}},
}

// next leases the only event that is due.
func (s *suite) next(e *inbox.Event) *inbox.Lease {
	s.Helper()
	l := s.lease(1)[0]
	require.Equal(s, e.ID, l.Event.ID)
	return l
}

var movedTests = []test{
	{"a delivery that goes elsewhere takes its attempts along", func(s *suite) {
		for _, end := range []inbox.Verdict{inbox.GiveUp, inbox.Retry} {
			for _, other := range [][]string{{"old"}, {"old", "other"}} {
				e := s.send(fmt.Sprint("task ", end, other), inbox.Completed, other...)
				s.queueOf("new")
				s.finish(inbox.Retry, "old", e)
				s.finish(end, "old", e)
				s.checkMove(e, "old", "new", attempted(inbox.Retry, 1), attempted(end, 2))
			}
		}
	}},
	{"so does one that leaves the default destination, or goes there", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.queueOf("new")
		s.finish(inbox.GiveUp, inbox.DefaultDestination, e)
		s.checkMove(e, inbox.DefaultDestination, "new", attempted(inbox.GiveUp, 1))
		e = s.send("other", inbox.Completed, "old")
		s.finish(inbox.GiveUp, "old", e)
		s.checkMove(e, "old", inbox.DefaultDestination, attempted(inbox.GiveUp, 1))
	}},
	{"a delivery that is added to others has no attempts, but says when", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.queueOf("new")
		s.finish(inbox.Deliver, inbox.DefaultDestination, e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "", "new"))
		deliveries := s.get(e).Deliveries
		require.Equal(s, []inbox.Attempt{attempted(inbox.Deliver, 1)}, deliveries[0].Log)
		require.Empty(s, deliveries[0].Replays)
		require.Empty(s, deliveries[1].Log)
		require.Equal(s, []inbox.Replay{{At: deliveries[1].Replays[0].At}}, deliveries[1].Replays)
		l := s.take("new", e)
		require.Equal(s, 1, l.Attempt)
		require.Equal(s, deliveries[1].Replays[0], l.Replay)
	}},
	{"at a destination that has it, an event keeps the attempts there", func(s *suite) {
		e := s.send("task", inbox.Completed, "old", "new")
		s.finish(inbox.GiveUp, "old", e)
		s.finish(inbox.Retry, "new", e)
		s.finish(inbox.Deliver, "new", e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		d := s.get(e).Deliveries[0]
		require.Equal(s, []inbox.Attempt{attempted(inbox.Retry, 1), attempted(inbox.Deliver, 2)}, d.Log)
		require.Equal(s, []inbox.Replay{{At: d.Replays[0].At, After: 2}}, d.Replays)
		require.Equal(s, 3, s.take("new", e).Attempt)
	}},
	{"what is removed leaves no attempts behind", func(s *suite) {
		e := s.send("task", inbox.Completed, "old")
		s.queueOf("new")
		s.finish(inbox.GiveUp, "old", e)
		require.NoError(s, s.in.Move(s.ctx(), e.ID, "old", "new"))
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		s.sendEvent(e, "old", "new")
		for _, d := range s.get(e).Deliveries {
			require.Zero(s, d.Attempts)
			require.Empty(s, d.Log)
			require.Empty(s, d.Replays)
		}
	}},
}

// checkMove moves a delivery with these attempts and checks what is known of it then.
func (s *suite) checkMove(e *inbox.Event, from, to string, log ...inbox.Attempt) {
	s.Helper()
	require.NoError(s, s.in.Move(s.ctx(), e.ID, from, to))
	d := s.delivery(e, to)
	require.NotNil(s, d)
	require.Nil(s, s.delivery(e, from))
	require.Equal(s, log, d.Log)
	require.Equal(s, len(log), d.Attempts)
	require.Equal(s, log[len(log)-1], d.Last)
	require.Equal(s, []inbox.Replay{{At: d.Replays[0].At, After: len(log), From: from}}, d.Replays)
	l := s.take(to, e)
	require.Equal(s, len(log)+1, l.Attempt)
	require.Equal(s, 1, l.Try())
	require.Equal(s, d.Replays[0], l.Replay)
	Settle(s, s.queueOf(to), inbox.Deliver, l)
	require.Len(s, s.delivery(e, to).Log, len(log)+1)
}

// delivery returns an event's delivery to a destination, nil if there is none.
func (s *suite) delivery(e *inbox.Event, destination string) *inbox.Delivery {
	s.Helper()
	r := s.get(e)
	for i := range r.Deliveries {
		if r.Deliveries[i].Destination == destination {
			return &r.Deliveries[i]
		}
	}
	return nil
}
