package inboxtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// tracker returns the inbox as one that tracks tasks.
func (s *suite) tracker() inbox.Tracker {
	s.Helper()
	in := s.in
	if e, ok := in.(elsewhere); ok {
		in = e.Inbox
	}
	tracker, ok := in.(inbox.Tracker)
	require.True(s, ok, "the inbox does not track tasks")
	return tracker
}

var trackedAt = time.Date(2026, 11, 28, 15, 0, 0, 654321000, time.UTC)

// tasks makes tasks that are due since long ago, each a second later than the one before.
func tasks(ids ...string) []inbox.Task {
	list := make([]inbox.Task, len(ids))
	for i, id := range ids {
		at := trackedAt.Add(time.Duration(i) * time.Second)
		list[i] = inbox.Task{ID: id, Source: inbox.FromSubmission, Since: at, Due: at.AddDate(-1, 0, 0)}
	}
	return list
}

// track tracks tasks, all of which must be new.
func (s *suite) track(list ...inbox.Task) []inbox.Task {
	s.Helper()
	added, err := s.tracker().Track(s.ctx(), list...)
	require.NoError(s, err)
	require.Equal(s, len(list), added)
	return list
}

// leaseTasks leases at most max tasks for a minute.
func (s *suite) leaseTasks(max, newest int) []inbox.Task {
	s.Helper()
	list, err := s.tracker().LeaseTasks(s.ctx(), inbox.TaskWant{Max: max, Newest: newest, Until: time.Now().Add(time.Minute)})
	require.NoError(s, err)
	for _, t := range list {
		require.NotZero(s, t.Ref)
	}
	return list
}

// task returns a task that must be tracked.
func (s *suite) task(id string) inbox.Task {
	s.Helper()
	t, err := s.tracker().Task(s.ctx(), id)
	require.NoError(s, err)
	return t
}

// requireUntracked checks that none of the tasks is tracked.
func (s *suite) requireUntracked(ids ...string) {
	s.Helper()
	for _, id := range ids {
		_, err := s.tracker().Task(s.ctx(), id)
		require.ErrorIs(s, err, inbox.ErrNotFound, id)
	}
}

// allTasks returns the tasks of all pages.
func (s *suite) allTasks(p inbox.Page) (all []inbox.Task) {
	s.Helper()
	for {
		page, next, err := s.tracker().Tasks(s.ctx(), p)
		require.NoError(s, err)
		require.LessOrEqual(s, len(page), p.Limit)
		all = append(all, page...)
		if next == "" {
			return all
		}
		p.Cursor = next
	}
}

func (s *suite) taskStats() inbox.TaskStats {
	s.Helper()
	stats, err := s.tracker().TaskStats(s.ctx())
	require.NoError(s, err)
	return stats
}

func taskIDs(list []inbox.Task) []string {
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = t.ID
	}
	return names
}

// settled returns a leased task as it is after a question that was in vain.
func settled(t inbox.Task, due time.Time) inbox.Task {
	t.Due = due.UTC().Truncate(time.Microsecond)
	t.Asked++
	t.AskedAt = trackedAt.Add(time.Hour)
	t.Answer = "503 service unavailable"
	return t
}

func stored(t inbox.Task) inbox.Task {
	t.Ref = 0
	return t
}

// notice makes an in-progress event whose task is to be tracked.
func (s *suite) notice(task string) *inbox.Event {
	e := s.event(task, inbox.InProgress)
	e.Track = trackedAt
	return e
}

var trackTests = []test{
	{"keeps a task as it came", func(s *suite) {
		full := inbox.Task{
			ID: "full", Source: inbox.FromOperator, Since: trackedAt, Due: trackedAt.Add(time.Minute),
			Asked: 7, AskedAt: trackedAt.Add(time.Second), Answer: "429 too many requests",
		}
		want := append(tasks("bare"), full, inbox.Task{ID: "at once", Since: trackedAt})
		s.track(want...)
		for range 2 {
			for _, w := range want {
				require.Equal(s, w, s.task(w.ID))
			}
			require.Equal(s, want, s.allTasks(inbox.Page{Limit: 2, OldestFirst: true}))
			s.reopen()
		}
		s.crash()
		require.Equal(s, want, s.allTasks(inbox.Page{Limit: 2, OldestFirst: true}))
	}},
	{"tracks each once", func(s *suite) {
		list := s.track(tasks("a", "b")...)
		again := inbox.Task{ID: "a", Source: inbox.FromOperator, Since: trackedAt.Add(time.Hour), Asked: 5}
		added, err := s.tracker().Track(s.ctx(), again, tasks("c")[0], tasks("c")[0])
		require.NoError(s, err)
		require.Equal(s, 1, added)
		require.Equal(s, list[0], s.task("a"))
		require.EqualValues(s, 3, s.taskStats().Waiting)
		s.reopen()
		added, err = s.tracker().Track(s.ctx(), again)
		require.NoError(s, err)
		require.Zero(s, added)
		require.Len(s, s.allTasks(inbox.Page{Limit: 10}), 3)
	}},
	{"tracks nothing", func(s *suite) {
		added, err := s.tracker().Track(s.ctx())
		require.NoError(s, err)
		require.Zero(s, added)
		require.NoError(s, s.tracker().SettleTasks(s.ctx()))
		removed, err := s.tracker().Untrack(s.ctx(), "nobody")
		require.NoError(s, err)
		require.Zero(s, removed)
		s.requireUntracked("nobody", "", strings.Repeat("x", 1000))
		require.Empty(s, s.leaseTasks(10, 5))
		require.Empty(s, s.allTasks(inbox.Page{Limit: 10}))
		require.Equal(s, inbox.TaskStats{}, s.taskStats())
	}},
	{"a final event ends it", func(s *suite) {
		s.track(tasks("completed", "failed", "skipped", "other")...)
		completed := s.put("completed", inbox.Completed)
		s.put("failed", inbox.Failed)
		skipped := s.event("skipped", inbox.Completed)
		skipped.Destinations = []string{}
		s.putEvent(skipped)
		s.put("other", inbox.InProgress)
		ended := []string{"completed", "failed", "skipped"}
		for range 2 {
			s.requireUntracked(ended...)
			require.Equal(s, []string{"other"}, taskIDs(s.allTasks(inbox.Page{Limit: 10})))
			require.EqualValues(s, 1, s.taskStats().Waiting)
			added, err := s.tracker().Track(s.ctx(), tasks(ended...)...)
			require.NoError(s, err)
			require.Zero(s, added, "their final events are stored")
			for _, id := range ended {
				s.putEvent(s.notice(id))
			}
			s.requireUntracked(ended...)
			s.reopen()
		}
		require.Equal(s, []string{"other"}, taskIDs(s.leaseTasks(10, 5)))
		require.NoError(s, s.in.Purge(s.ctx(), completed.ID, ""))
		s.track(tasks("completed")...)
	}},
	{"a final event of a task with many ends it", func(s *suite) {
		s.track(tasks("task")...)
		for range 70 {
			s.putEvent(s.notice("task"))
		}
		require.Equal(s, inbox.FromSubmission, s.task("task").Source)
		s.put("task", inbox.Completed)
		s.requireUntracked("task")
		s.putEvent(s.notice("task"))
		s.requireUntracked("task")
		added, err := s.tracker().Track(s.ctx(), tasks("task")...)
		require.NoError(s, err)
		require.Zero(s, added)
	}},
	{"an event in progress begins it if it says so", func(s *suite) {
		s.put("silent", inbox.InProgress)
		final := s.event("final", inbox.Completed)
		final.Track = trackedAt
		s.putEvent(final)
		s.requireUntracked("silent", "final")
		e := s.notice("task")
		s.putEvent(e)
		want := inbox.Task{ID: "task", Source: inbox.FromNotice, Since: e.ReceivedAt, Due: e.Track}
		require.Equal(s, want, s.task("task"))
		s.putEvent(s.notice("task"))
		s.crash()
		require.Equal(s, []inbox.Task{want}, s.allTasks(inbox.Page{Limit: 10}))
		r, err := s.in.Get(s.ctx(), e.ID)
		require.NoError(s, err)
		require.Zero(s, r.Event.Track, "it is not stored")
	}},
	{"an event whose task cannot be tracked is stored", func(s *suite) {
		e := s.notice(strings.Repeat("x", inbox.MaxTaskID+1))
		s.putEvent(e)
		e.Track = time.Time{}
		s.get(e)
		require.Zero(s, s.taskStats().Waiting)
	}},
	{"any id is kept", func(s *suite) {
		ids := []string{
			strings.Repeat("x", inbox.MaxTaskID), strings.Repeat("x", inbox.MaxTaskID-1) + "y", "a\x00b", "a\x00c", "a", "A",
			`'"; DROP TABLE tracked; --`, "*", ">", "a.b", " ", "\r\n", "é", "\u202e", "%", "\\",
		}
		s.track(tasks(ids...)...)
		s.reopen()
		require.Equal(s, tasks(ids...), s.allTasks(inbox.Page{Limit: 7, OldestFirst: true}))
		leased := s.leaseTasks(100, 0)
		require.Equal(s, ids, taskIDs(leased))
		for _, id := range ids {
			require.Equal(s, id, s.task(id).ID)
		}
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), leased...))
		s.put(ids[2], inbox.Completed)
		s.requireUntracked(ids[2])
		removed, err := s.tracker().Untrack(s.ctx(), ids...)
		require.NoError(s, err)
		require.Equal(s, len(ids)-1, removed)
		s.requireUntracked(ids...)
	}},
	{"what cannot be tracked is refused whole", func(s *suite) {
		good := tasks("good")[0]
		for _, bad := range []inbox.Task{
			{Since: trackedAt},
			{ID: strings.Repeat("x", inbox.MaxTaskID+1), Since: trackedAt},
			{ID: "\xff", Since: trackedAt},
			{ID: "no since"},
			{ID: "source", Since: trackedAt, Source: 3},
			{ID: "asked", Since: trackedAt, Asked: -1},
		} {
			_, err := s.tracker().Track(s.ctx(), good, bad)
			require.Error(s, err)
			require.Error(s, s.tracker().SettleTasks(s.ctx(), bad))
		}
		_, err := s.tracker().Track(s.ctx(), make([]inbox.Task, inbox.MaxTrack+1)...)
		require.ErrorContains(s, err, "1001 tasks at once")
		_, err = s.tracker().Untrack(s.ctx(), make([]string, inbox.MaxTrack+1)...)
		require.ErrorContains(s, err, "1001 tasks at once")
		for _, w := range []inbox.TaskWant{{}, {Max: inbox.MaxTrack + 1}, {Max: 1, Newest: 2}, {Max: 1, Newest: -1}} {
			_, err := s.tracker().LeaseTasks(s.ctx(), w)
			require.Error(s, err)
		}
		require.Empty(s, s.allTasks(inbox.Page{Limit: 10}))
	}},
	{"can be ended by hand", func(s *suite) {
		s.track(tasks("a", "b", "c")...)
		leased := s.leaseTasks(1, 0)
		removed, err := s.tracker().Untrack(s.ctx(), "a", "b", "nobody", "a")
		require.NoError(s, err)
		require.Equal(s, 2, removed)
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(leased[0], trackedAt)))
		for range 2 {
			s.requireUntracked("a", "b")
			require.EqualValues(s, 1, s.taskStats().Waiting)
			s.reopen()
		}
		s.track(tasks("a")...)
		require.Equal(s, []string{"c", "a"}, taskIDs(s.allTasks(inbox.Page{Limit: 10, OldestFirst: true})), "it is the last now")
	}},
	{"those tracked first are dropped", func(s *suite) {
		require.NoError(s, s.in.Close())
		policy := inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10, Tasks: 5}
		s.open(policy)
		s.track(tasks("a", "b", "c", "d")...)
		added, err := s.tracker().Track(s.ctx(), tasks("a", "e", "f", "g")...)
		require.NoError(s, err)
		require.Equal(s, 3, added)
		s.eventually("two are dropped", func() bool { return s.taskStats().Waiting == 5 })
		require.Equal(s, []string{"c", "d", "e", "f", "g"}, taskIDs(s.allTasks(inbox.Page{Limit: 10, OldestFirst: true})))
		s.requireUntracked("a", "b")
		s.putEvent(s.notice("h"))
		s.eventually("another one is dropped", func() bool { return s.taskStats().Dropped == 3 })
		require.Equal(s, []string{"d", "e", "f", "g", "h"}, taskIDs(s.allTasks(inbox.Page{Limit: 10, OldestFirst: true})))
		policy.Tasks = 2
		s.in.SetPolicy(policy)
		s.eventually("a lower limit holds for what is there", func() bool { return s.taskStats().Dropped == 6 })
		require.Equal(s, []string{"g", "h"}, taskIDs(s.allTasks(inbox.Page{Limit: 10, OldestFirst: true})))
		require.ElementsMatch(s, []string{"g", "h"}, taskIDs(s.leaseTasks(10, 5)))
		s.track(tasks("a")...)
		s.eventually("a is there", func() bool { return s.taskStats().Waiting == 2 })
		require.Equal(s, []string{"h", "a"}, taskIDs(s.allTasks(inbox.Page{Limit: 10, OldestFirst: true})))
	}},
	{"lists them page by page", func(s *suite) {
		ids := make([]string, 12)
		for i := range ids {
			ids[i] = fmt.Sprint("task ", i)
		}
		s.track(tasks(ids...)...)
		newestFirst := slices.Clone(ids)
		slices.Reverse(newestFirst)
		for _, limit := range []int{1, 5, 12, 100} {
			require.Equal(s, newestFirst, taskIDs(s.allTasks(inbox.Page{Limit: limit})))
			require.Equal(s, ids, taskIDs(s.allTasks(inbox.Page{Limit: limit, OldestFirst: true})))
		}
		page, next, err := s.tracker().Tasks(s.ctx(), inbox.Page{Limit: 4})
		require.NoError(s, err)
		require.Equal(s, newestFirst[:4], taskIDs(page))
		// what is settled, added or removed meanwhile moves nothing
		leased := s.leaseTasks(12, 0)
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(leased[2], trackedAt), settled(leased[9], trackedAt)))
		s.track(tasks("new")...)
		_, err = s.tracker().Untrack(s.ctx(), ids[8], ids[1])
		require.NoError(s, err)
		want := slices.Delete(slices.Clone(newestFirst[4:]), 6, 7)
		require.Equal(s, want, taskIDs(s.allTasks(inbox.Page{Limit: 4, Cursor: next})))
		for _, bad := range []inbox.Page{
			{Cursor: "x"},
			{Cursor: next, OldestFirst: true},
			{Cursor: "a1"},
		} {
			_, _, err := s.tracker().Tasks(s.ctx(), bad)
			require.ErrorIs(s, err, inbox.ErrCursor)
		}
		_, _, err = s.tracker().Tasks(s.ctx(), inbox.Page{Limit: inbox.MaxPage + 1})
		require.Error(s, err)
	}},
	{"counts them", func(s *suite) {
		list := tasks("a", "b", "c")
		list[1].Due = time.Now().Add(time.Hour)
		s.track(list...)
		want := inbox.TaskStats{Waiting: 3, Due: 2, Oldest: trackedAt}
		require.Equal(s, want, s.taskStats())
		leased := s.leaseTasks(1, 0)
		require.Equal(s, want, s.taskStats(), "one that is leased is due")
		require.NoError(s, s.tracker().SettleTasks(s.ctx(), settled(leased[0], time.Now().Add(time.Hour))))
		want.Due = 1
		require.Equal(s, want, s.taskStats())
		s.put("a", inbox.Completed)
		want.Waiting, want.Oldest = 2, trackedAt.Add(time.Second)
		require.Equal(s, want, s.taskStats())
		s.reopen()
		require.Equal(s, want, s.taskStats())
	}},
	{"refuses everything once it is closed", func(s *suite) {
		s.track(tasks("a")...)
		leased := s.leaseTasks(1, 0)
		require.NoError(s, s.in.Close())
		tracker := s.tracker()
		_, err := tracker.Track(s.ctx(), tasks("b")...)
		require.ErrorIs(s, err, inbox.ErrClosed)
		_, err = tracker.Untrack(s.ctx(), "a")
		require.ErrorIs(s, err, inbox.ErrClosed)
		_, err = tracker.LeaseTasks(s.ctx(), inbox.TaskWant{Max: 1})
		require.ErrorIs(s, err, inbox.ErrClosed)
		require.ErrorIs(s, tracker.SettleTasks(s.ctx(), leased...), inbox.ErrClosed)
		_, err = tracker.Task(s.ctx(), "a")
		require.ErrorIs(s, err, inbox.ErrClosed)
		_, _, err = tracker.Tasks(s.ctx(), inbox.Page{})
		require.ErrorIs(s, err, inbox.ErrClosed)
		_, err = tracker.TaskStats(s.ctx())
		require.ErrorIs(s, err, inbox.ErrClosed)
	}},
}
