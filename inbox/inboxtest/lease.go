package inboxtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var leaseTests = []test{
	{"waits until something is put", func(s *suite) {
		var leases []*inbox.Lease
		var err error
		done := background(func() { leases, err = s.queue.Lease(s.ctx(), 10) })
		e := s.put("task", inbox.Completed)
		s.await(done)
		require.NoError(s, err)
		require.Equal(s, []string{e.ID}, ids(leases))
	}},
	{"waits until a retry is due", func(s *suite) {
		e := s.put("task", inbox.Completed)
		o := Outcome(inbox.Retry, s.lease(1)[0])
		o.Due = time.Now().Add(50 * time.Millisecond).UTC().Truncate(time.Microsecond)
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		l := s.lease(1)[0]
		require.Equal(s, e, l.Event)
		require.Equal(s, 2, l.Attempt)
		require.False(s, time.Now().Before(o.Due))
	}},
	{"tells when a retry is due", func(s *suite) {
		e := s.put("task", inbox.Completed)
		require.Zero(s, s.get(e).Due)
		o := Outcome(inbox.Retry, s.lease(1)[0])
		o.Due = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		require.Equal(s, o.Due, s.get(e).Due)
		s.nothingDue()
	}},
	{"ends with its context", func(s *suite) {
		ctx, cancel := context.WithCancel(context.Background())
		var err error
		done := background(func() { _, err = s.queue.Lease(ctx, 1) })
		cancel()
		s.await(done)
		require.ErrorIs(s, err, context.Canceled)
	}},
	{"gives at most so many, in order of arrival", func(s *suite) {
		var events []string
		for i := range 25 {
			events = append(events, s.put(fmt.Sprint("task ", i), inbox.Completed).ID)
		}
		var got []string
		for len(got) < len(events) {
			leases, err := s.queue.Lease(s.ctx(), 10)
			require.NoError(s, err)
			require.LessOrEqual(s, len(leases), 10)
			got = append(got, ids(leases)...)
		}
		require.Equal(s, events, got)
		s.nothingDue()
	}},
	{"gives no event twice", func(s *suite) {
		e := s.put("task", inbox.Completed)
		l := s.leaseOf(e)
		s.nothingDue()
		s.settle(inbox.Deliver, l)
		s.nothingDue()
	}},
	{"starves neither retries nor new events", func(s *suite) {
		const n = 20
		for i := range n {
			s.put(fmt.Sprint("old ", i), inbox.Completed)
		}
		s.settle(inbox.Retry, s.lease(n)...)
		for i := range n {
			s.put(fmt.Sprint("new ", i), inbox.Completed)
		}
		var old, fresh int
		for range n {
			if s.lease(1)[0].Attempt == 1 {
				fresh++
			} else {
				old++
			}
		}
		require.NotZero(s, old)
		require.NotZero(s, fresh)
	}},
	{"loses and repeats nothing among many goroutines", func(s *suite) {
		const callers, each = 4, 30
		var put sync.WaitGroup
		errs := make([]error, callers)
		for c := range callers {
			var events []*inbox.Event
			for i := range each {
				events = append(events, s.event(fmt.Sprintf("task %d %d", c, i/2), inbox.Completed))
			}
			put.Go(func() {
				for _, e := range events {
					if _, err := s.in.Put(context.Background(), e); err != nil {
						errs[c] = err
						return
					}
				}
			})
		}
		delivered := make(map[string]int)
		for turn := 0; len(delivered) < callers*each; turn++ {
			leases, err := s.queue.Lease(s.ctx(), 7)
			require.NoError(s, err)
			tasks := make(map[string]bool)
			for i, l := range leases {
				require.False(s, tasks[l.Event.TaskID], "two events of a task at a time")
				tasks[l.Event.TaskID] = true
				if (turn+i)%3 == 0 && l.Attempt == 1 {
					s.settle(inbox.Retry, l)
					continue
				}
				delivered[l.Event.ID]++
				s.settle(inbox.Deliver, l)
			}
		}
		put.Wait()
		for _, err := range errs {
			require.NoError(s, err)
		}
		for id, n := range delivered {
			require.Equal(s, 1, n, id)
		}
		require.Equal(s, [...]int64{0, callers * each, 0, 0, 0}, s.stats().Events)
	}},
}

var orderTests = []test{
	{"an event waits for an earlier one of its task", func(s *suite) {
		first := s.put("task", inbox.Completed)
		second := s.put("task", inbox.Completed)
		third := s.put("task", inbox.Failed)
		l := s.leaseOf(first)
		require.Zero(s, s.get(second).Due)
		s.settle(inbox.Retry, l)
		l = s.leaseOf(first)
		s.settle(inbox.Deliver, l)
		l = s.leaseOf(second)
		require.Equal(s, 1, l.Attempt)
		s.settle(inbox.GiveUp, l)
		s.settle(inbox.Deliver, s.leaseOf(third))
		s.nothingDue()
	}},
	{"an event put while one of its task is leased waits", func(s *suite) {
		first := s.put("task", inbox.InProgress)
		l := s.leaseOf(first)
		second := s.put("task", inbox.InProgress)
		s.nothingDue()
		s.settle(inbox.Release, l)
		s.settle(inbox.Deliver, s.leaseOf(first))
		s.leaseOf(second)
	}},
	{"an event that waited comes in its order of arrival", func(s *suite) {
		first := s.put("task", inbox.Completed)
		l := s.leaseOf(first)
		second := s.put("task", inbox.Completed)
		other := s.put("other", inbox.Completed)
		s.settle(inbox.Deliver, l)
		require.Equal(s, []string{second.ID, other.ID}, ids(s.lease(2)))
	}},
	{"tasks do not wait for each other", func(s *suite) {
		s.put("slow", inbox.Completed)
		s.lease(1)
		e := s.put("fast", inbox.Completed)
		s.leaseOf(e)
	}},
	{"a final event supersedes those in progress that wait", func(s *suite) {
		a := s.put("task", inbox.InProgress)
		b := s.put("task", inbox.InProgress)
		other := s.put("other", inbox.InProgress)
		final := s.put("task", inbox.Completed)
		require.Equal(s, []string{other.ID, final.ID}, ids(s.lease(2)))
		s.requireState(inbox.Superseded, a)
		s.requireState(inbox.Superseded, b)
		require.NotZero(s, s.get(a).SettledAt)
	}},
	{"a final event supersedes one in progress that waits for its retry", func(s *suite) {
		a := s.put("task", inbox.InProgress)
		o := Outcome(inbox.Retry, s.leaseOf(a))
		o.Due = time.Now().Add(time.Hour)
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		final := s.put("task", inbox.Failed)
		s.leaseOf(final)
		s.requireState(inbox.Superseded, a)
	}},
	{"an event that says that its task is lost is a final one", func(s *suite) {
		notice := s.put("task", inbox.InProgress)
		lost := s.put("task", inbox.Lost)
		l := s.leaseOf(lost)
		require.Equal(s, inbox.Lost, l.Event.Status)
		s.requireState(inbox.Superseded, notice)
		s.settle(inbox.Deliver, l)
		found := s.put("task", inbox.Completed)
		s.leaseOf(found) // the end of the task became known after all
	}},
	{"an event in progress after the final one is superseded", func(s *suite) {
		final := s.put("task", inbox.Completed)
		late := s.put("task", inbox.InProgress)
		s.settle(inbox.Deliver, s.leaseOf(final))
		later := s.put("task", inbox.InProgress)
		s.nothingDue()
		s.requireState(inbox.Superseded, late)
		s.requireState(inbox.Superseded, later)
	}},
	{"one in progress that is leased is superseded when it comes back", func(s *suite) {
		for _, v := range []inbox.Verdict{inbox.Retry, inbox.Release} {
			task := fmt.Sprint("task ", v)
			a := s.put(task, inbox.InProgress)
			l := s.leaseOf(a)
			final := s.put(task, inbox.Completed)
			s.nothingDue()
			s.settle(v, l)
			s.settle(inbox.Deliver, s.leaseOf(final))
			s.requireState(inbox.Superseded, a)
		}
	}},
	{"one in progress that is leased may still be delivered", func(s *suite) {
		a := s.put("task", inbox.InProgress)
		l := s.leaseOf(a)
		final := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, l)
		s.leaseOf(final)
		s.requireState(inbox.Delivered, a)
	}},
	{"the order holds across a restart", func(s *suite) {
		first := s.put("task", inbox.Completed)
		second := s.put("task", inbox.Failed)
		old := s.put("other", inbox.InProgress)
		final := s.put("other", inbox.Completed)
		s.reopen()
		leases := s.lease(2)
		require.Equal(s, []string{first.ID, final.ID}, ids(leases))
		s.settle(inbox.Deliver, leases...)
		s.leaseOf(second)
		s.requireState(inbox.Superseded, old)
	}},
}
