package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// someTasks makes tasks that are due, numbered from first on.
func someTasks(first, n int) []inbox.Task {
	list := make([]inbox.Task, n)
	for i := range list {
		list[i] = inbox.Task{ID: fmt.Sprintf("%032x", first+i), Since: time.UnixMicro(1e15).UTC(), Due: time.UnixMicro(1e15 + int64(first+i)).UTC()}
	}
	return list
}

func trackAll(t testing.TB, s *store, list ...inbox.Task) {
	t.Helper()
	added, err := s.Track(context.Background(), list...)
	require.NoError(t, err)
	require.Equal(t, len(list), added)
}

func TestQueriesOfTasksUseTheirIndexes(t *testing.T) {
	s := openTest(t)
	for query, want := range map[string]string{
		dueTracked:    "SEARCH tracked USING INDEX tracked_due (due<?)",
		newTracked:    "SEARCH tracked USING INDEX tracked_new (due<?)",
		lastDueTask:   "SCAN tracked USING COVERING INDEX tracked_due",
		countDueTasks: "SEARCH tracked USING COVERING INDEX tracked_due (due<?)",
		oldestTask:    "SCAN tracked",
		pageNewest:    "SEARCH tracked USING INTEGER PRIMARY KEY (rowid<?)",
		pageOldest:    "SEARCH tracked USING INTEGER PRIMARY KEY (rowid>?)",
		settleTracked: "SEARCH tracked USING INTEGER PRIMARY KEY (rowid=?)",
	} {
		require.Equal(t, []string{want}, planOf(t, s, query), query)
	}
	plan := strings.Join(planOf(t, s, bringLateTasksForward), "\n")
	require.NotContains(t, plan, "TEMP B-TREE")
	require.Contains(t, plan, "SEARCH tracked USING COVERING INDEX tracked_due (due>?)")
}

func TestTasksOfAFullInbox(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	trackAll(t, s, someTasks(0, 10)...)
	fill(t, s)
	_, err := s.Track(ctx, someTasks(10, 1000)...)
	require.ErrorIs(t, err, inbox.ErrFull)
	stats, err := s.TaskStats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 10, stats.Waiting)
	added, err := s.Track(ctx, someTasks(0, 10)...)
	require.NoError(t, err, "there is nothing to store")
	require.Zero(t, added)
	e := inboxtest.NewEvent("full", inbox.InProgress)
	e.Body, e.Track = make([]byte, 10_000), time.Now()
	_, err = s.Put(ctx, e)
	require.ErrorIs(t, err, inbox.ErrFull)
	_, err = s.Task(ctx, "full")
	require.ErrorIs(t, err, inbox.ErrNotFound)

	// What needs no room goes on.
	leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 10, Until: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	require.Len(t, leased, 10)
	require.NoError(t, s.SettleTasks(ctx, leased...))
	removed, err := s.Untrack(ctx, leased[0].ID)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
}

// If a transaction fails, the numbers in memory are as they were.
func TestTasksOfATransactionThatFails(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	trackAll(t, s, someTasks(0, 1)...)
	leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 1, Until: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	failure := errors.New("on purpose")
	require.ErrorContains(t, inWriter(s, func(t *tx) error {
		for _, o := range []op{
			&settleTasks{request: newRequest(ctx), tasks: leased},
			&track{request: newRequest(ctx), tasks: someTasks(1, 1)},
			&untrack{request: newRequest(ctx), ids: []string{leased[0].ID}},
		} {
			if err := o.apply(t); err != nil {
				return err
			}
		}
		return failure
	}), failure.Error())
	_, err = s.Task(ctx, leased[0].ID)
	require.NoError(t, err)
	_, err = s.Task(ctx, someTasks(1, 1)[0].ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)
	again, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 1})
	require.NoError(t, err)
	require.Empty(t, again, "it is still leased")
	require.NoError(t, s.SettleTasks(ctx, leased...))
	trackAll(t, s, someTasks(1, 1)...)
}

// A wrong clock does not keep a lease for longer.
func TestALeaseOfATaskEndsWhateverTheClockSays(t *testing.T) {
	ctx := context.Background()
	var leases taskLeases
	now := time.Now()
	ref, ok := leases.lease(1, now, time.Minute)
	require.True(t, ok)
	_, ok = leases.lease(1, now.Add(time.Minute-1), time.Minute)
	require.False(t, ok)
	require.Equal(t, 1, leases.inForce(now))
	require.True(t, leases.holds(1, ref))
	later := now.Add(time.Minute)
	require.Zero(t, leases.inForce(later))
	require.True(t, leases.holds(1, ref), "it may be late")
	require.Zero(t, leases.inForce(later.Add(keepEnded+1)))
	require.False(t, leases.holds(1, ref))

	s := openTest(t)
	trackAll(t, s, someTasks(0, 1)...)
	_, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 1, Until: time.Now().AddDate(100, 0, 0)})
	require.NoError(t, err)
	for _, l := range s.taskLeases.held {
		require.LessOrEqual(t, time.Until(l.until), inbox.MaxTaskLease)
	}
}

// Version 4 of the schema tracked no tasks.
func TestFileBeforeTrackedTasksIsMigrated(t *testing.T) {
	path := fileOfVersion(t, versionOfDestinations,
		fmt.Sprintf(`INSERT INTO events VALUES (1, x'%s', 'done', 'avatar', 1, 1763899200000000, x'7b7d')`, inbox.NewID("done", nil)),
		`UPDATE meta SET next_seq = 2, fresh = 1, events_pending = 1`)
	s := openWith(t, path, smallLimits)
	added, err := s.Track(context.Background(), append(someTasks(0, 3), inbox.Task{ID: "done", Since: time.Now()})...)
	require.NoError(t, err)
	require.Equal(t, 3, added, "the final event of one is stored")
}

func TestABackupHasTheTasks(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	trackAll(t, s, someTasks(0, 300)...)
	inboxtest.Put(t, s, newEvent())
	copied := backupOf(t, s)
	n, err := new(Inbox).Verify(ctx, copied)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	restored := openWith(t, copied, smallLimits)
	want, _, err := s.Tasks(ctx, inbox.Page{Limit: 1000})
	require.NoError(t, err)
	got, _, err := restored.Tasks(ctx, inbox.Page{Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Events of a gateway that tracks no task cost what they did.
func TestPutsWithoutTrackedTasksLookForNone(t *testing.T) {
	s := openTest(t)
	queries := func() (n int) {
		require.NoError(t, inWriter(s, func(t *tx) error {
			for query := range t.c.stmts {
				if strings.Contains(query, "tracked") {
					n++
				}
			}
			return nil
		}))
		return n
	}
	before := queries()
	for _, status := range []inbox.Status{inbox.InProgress, inbox.Completed} {
		inboxtest.Put(t, s, inboxtest.NewEvent("task", status))
	}
	require.Equal(t, before, queries())
	allocations := -1.0
	final, notice := &put{event: inboxtest.NewEvent("task", inbox.Completed)}, &put{event: inboxtest.NewEvent("task", inbox.InProgress)}
	require.NoError(t, inWriter(s, func(t *tx) (err error) {
		allocations = testing.AllocsPerRun(100, func() {
			err = errors.Join(err, final.follow(t, nil, nil), notice.follow(t, nil, nil))
		})
		return err
	}))
	require.Zero(t, allocations)
}
