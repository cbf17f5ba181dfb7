package inboxtest

import (
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// setTaskWait sets Policy.MaxTaskWait.
func (s *suite) setTaskWait(longest time.Duration) {
	s.in.SetPolicy(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10, MaxTaskWait: longest})
}

var taskLeaseTests = []test{
	{"in the order in which they became due", func(s *suite) {
		list := tasks("a", "b", "c", "d", "e")
		list[0].Due, list[3].Due, list[4].Due = list[4].Due, time.Time{}, list[0].Due
		s.track(list...)
		got := s.leaseTasks(2, 0)
		require.Equal(s, []string{"d", "e"}, taskIDs(got))
		want := list[3]
		want.Ref = got[0].Ref
		require.Equal(s, want, got[0])
		require.Equal(s, []string{"b", "c", "a"}, taskIDs(s.leaseTasks(10, 0)))
		require.Empty(s, s.leaseTasks(10, 10))
	}},
	{"the newest out of turn", func(s *suite) {
		list := tasks("a", "b", "c", "d", "e", "f", "asked")
		list[6].Asked = 1
		future := inbox.Task{ID: "later", Since: trackedAt, Due: time.Now().Add(time.Hour)}
		s.track(append(list, future)...)
		require.Equal(s, []string{"f", "e", "a", "b"}, taskIDs(s.leaseTasks(4, 2)))
		require.Equal(s, []string{"d"}, taskIDs(s.leaseTasks(1, 1)))
		require.Equal(s, []string{"c", "asked"}, taskIDs(s.leaseTasks(4, 4)), "others, when there are no new ones")
		require.Empty(s, s.leaseTasks(4, 2))
	}},
	{"those that became due at once come in the order in which they were tracked", func(s *suite) {
		list := tasks("c", "a", "b", "d")
		for i := range list {
			list[i].Due = trackedAt.AddDate(-1, 0, 0)
		}
		s.track(list...)
		require.Equal(s, []string{"d", "c", "a"}, taskIDs(s.leaseTasks(3, 1)))
	}},
	{"each by one at a time", func(s *suite) {
		const n, callers = 100, 8
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint("task ", i)
		}
		s.track(tasks(ids...)...)
		var mu sync.Mutex
		got := make(map[string]int)
		var jobs errgroup.Group
		for range callers {
			jobs.Go(func() error {
				for {
					list, err := s.tracker().LeaseTasks(s.ctx(), inbox.TaskWant{Max: 7, Newest: 2, Until: time.Now().Add(time.Minute)})
					if err != nil || len(list) == 0 {
						return err
					}
					mu.Lock()
					for _, t := range list {
						got[t.ID]++
					}
					mu.Unlock()
				}
			})
		}
		require.NoError(s, jobs.Wait())
		for _, t := range s.leaseTasks(inbox.MaxTrack, 0) { // those that one left to another who did not take them
			got[t.ID]++
		}
		require.Len(s, got, n)
		for id, times := range got {
			require.Equal(s, 1, times, id)
		}
	}},
	{"until they are settled", func(s *suite) {
		s.track(tasks("a", "b")...)
		leased := s.leaseTasks(2, 1)
		require.Empty(s, s.leaseTasks(2, 1))
		now, later := settled(leased[0], time.Now().Add(-time.Minute)), settled(leased[1], time.Now().Add(time.Hour))
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), now, later))
		for _, w := range []inbox.Task{now, later} {
			require.Equal(s, stored(w), s.task(w.ID))
		}
		again := s.leaseTasks(2, 1)
		require.Equal(s, []string{now.ID}, taskIDs(again))
		require.Equal(s, stored(now), stored(again[0]))
		s.crash()
		require.Equal(s, stored(later), s.task(later.ID))
	}},
	{"until their time is over", func(s *suite) {
		s.track(tasks("a")...)
		for i := range 3 {
			var leased []inbox.Task
			s.eventually("it is leased again", func() bool {
				var err error
				leased, err = s.tracker().LeaseTasks(s.ctx(), inbox.TaskWant{Max: 2, Until: time.Now().Add(time.Duration(i-1) * 20 * time.Millisecond)})
				require.NoError(s, err)
				return len(leased) == 1
			})
		}
	}},
	{"until the inbox is closed", func(s *suite) {
		s.track(tasks("a", "b")...)
		require.Len(s, s.leaseTasks(2, 0), 2)
		s.reopen()
		s.eventually("it is leased again", func() bool { return len(s.leaseTasks(1, 0)) == 1 })
		s.eventually("so is the other", func() bool { return len(s.leaseTasks(1, 0)) == 1 })
		require.Empty(s, s.leaseTasks(2, 0))
	}},
	{"until it has crashed and their time is over", func(s *suite) {
		s.track(tasks("a")...)
		leased, err := s.tracker().LeaseTasks(s.ctx(), inbox.TaskWant{Max: 1, Until: time.Now().Add(100 * time.Millisecond)})
		require.NoError(s, err)
		require.Len(s, leased, 1)
		s.crash()
		s.eventually("it is leased again", func() bool { return len(s.leaseTasks(1, 0)) == 1 })
	}},
	{"who is late may settle unless another has got it", func(s *suite) {
		tracked := s.track(tasks("a")...)
		lease := func() inbox.Task {
			var leased []inbox.Task
			s.eventually("it is leased", func() bool {
				var err error
				leased, err = s.tracker().LeaseTasks(s.ctx(), inbox.TaskWant{Max: 1, Until: time.Now()})
				require.NoError(s, err)
				return len(leased) == 1
			})
			return leased[0]
		}
		first := lease()
		second := lease()
		require.NotEqual(s, first.Ref, second.Ref)
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(first, time.Now())))
		require.Equal(s, tracked[0], s.task("a"))
		want := settled(second, time.Now().Add(time.Hour))
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), want))
		require.Equal(s, stored(want), s.task("a"))
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(second, time.Now())))
		require.Equal(s, stored(want), s.task("a"), "it is settled once")
		require.Empty(s, s.leaseTasks(1, 0))
	}},
	{"what was not leased is not settled", func(s *suite) {
		tracked := s.track(tasks("a")...)
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(tracked[0], time.Now()), settled(tasks("nobody")[0], time.Now())))
		require.Equal(s, tracked[0], s.task("a"))
		s.requireUntracked("nobody")
	}},
	{"a final event ends a lease", func(s *suite) {
		s.track(tasks("a", "b")...)
		leased := s.leaseTasks(1, 0)
		s.put("a", inbox.Completed)
		s.put("b", inbox.Failed)
		require.Empty(s, s.leaseTasks(10, 5))
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(leased[0], time.Now())))
		s.requireUntracked("a", "b")
		require.Zero(s, s.taskStats().Waiting)
	}},
	{"none whose final event is put at the same moment", func(s *suite) {
		var jobs errgroup.Group
		for i := range 20 {
			id := fmt.Sprint("task ", i)
			final, notice := s.event(id, inbox.Completed), s.notice(id)
			jobs.Go(func() error {
				_, err := s.in.Put(s.ctx(), final)
				return err
			})
			jobs.Go(func() error {
				_, err := s.in.Put(s.ctx(), notice)
				return err
			})
			jobs.Go(func() error {
				_, err := s.tracker().Track(s.ctx(), tasks(id)...)
				return err
			})
		}
		require.NoError(s, jobs.Wait())
		require.Empty(s, s.leaseTasks(inbox.MaxTrack, 0))
		require.Empty(s, s.allTasks(inbox.Page{Limit: 100}))
		require.Zero(s, s.taskStats().Waiting)
	}},
	{"what is due far too late is due within the policy's time", func(s *suite) {
		s.setTaskWait(time.Hour)
		list := tasks("a", "b")
		list[0].Due = farFuture()
		list[1].Due = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		e := s.notice("c")
		e.Track = farFuture()
		s.putEvent(e)
		s.track(list...)
		s.track(tasks("d")...)
		leased := s.leaseTasks(10, 0)
		require.Equal(s, []string{"d"}, taskIDs(leased))
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(leased[0], farFuture())))
		for _, id := range []string{"a", "c", "d"} {
			due := s.task(id).Due
			require.False(s, due.After(time.Now().Add(time.Hour)), id)
			require.True(s, due.After(time.Now().Add(time.Hour-patience)), id)
		}
		require.Equal(s, list[1].Due, s.task("b").Due, "it is in time")
	}},
	{"a shorter time holds for what waits already", func(s *suite) {
		list := tasks("a", "b")
		list[0].Due, list[1].Due = farFuture(), farFuture()
		s.track(list...)
		require.Empty(s, s.leaseTasks(10, 5))
		s.setTaskWait(time.Millisecond)
		s.eventually("it is due", func() bool { return len(s.leaseTasks(1, 1)) == 1 })
		require.NoError(s, s.in.Close())
		s.open(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10, MaxTaskWait: time.Millisecond})
		s.eventually("so is the other", func() bool { return len(s.leaseTasks(1, 0)) == 1 })
	}},
	{"it reaches many that wait", func(s *suite) {
		const n = 600 // more than are brought forward at a time
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint("task ", i)
		}
		list := tasks(ids...)
		for i := range list {
			list[i].Due = farFuture()
		}
		s.track(list...)
		s.setTaskWait(time.Millisecond)
		got := 0
		s.eventually("all are due", func() bool {
			got += len(s.leaseTasks(inbox.MaxTrack, 0))
			return got == n
		})
	}},
	{"no lease is longer than the longest", func(s *suite) {
		w := inbox.TaskWant{Until: farFuture()}
		require.Equal(s, inbox.MaxTaskLease, w.Length(time.Now()))
		w.Until = time.Time{}
		require.Zero(s, w.Length(time.Now()))
	}},
}
