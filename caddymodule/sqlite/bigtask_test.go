package sqlite

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// noticeOf makes the n-th notice of a task. Unlike newEvent it makes the same
// one again.
func noticeOf(task string, status inbox.Status, n int) *inbox.Event {
	return &inbox.Event{
		ID: inbox.NewID(task, fmt.Append(nil, status, n)), TaskID: task, Type: "avatar", Status: status,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond), Body: eventBody,
	}
}

func putNotices(t testing.TB, s *store, task string, status inbox.Status, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		duplicateOf, err := s.Put(context.Background(), noticeOf(task, status, n))
		require.NoError(t, err)
		require.Empty(t, duplicateOf)
	}
}

// mallocs returns the number of allocations during a function, in all
// goroutines: a measure of its work that does not depend on other load of the
// machine.
func mallocs(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// The work for one more notice does not grow with the number of notices:
// neither to put it, nor to deliver one and unblock the next, nor to replay
// one.
func TestOneMoreOfManyNotices(t *testing.T) {
	const most, sample = 3000, 50
	s := openTest(t)
	ctx := context.Background()
	few := mallocs(func() { putNotices(t, s, "task", inbox.InProgress, 0, sample) })
	putNotices(t, s, "task", inbox.InProgress, sample, most)
	many := mallocs(func() { putNotices(t, s, "task", inbox.InProgress, most, most+sample) })
	require.Less(t, many, 5*few, "to put %d notices after %d others", sample, most)

	deliver := func() {
		for range sample {
			leases, err := s.Lease(ctx, 1)
			require.NoError(t, err)
			inboxtest.Settle(t, s, inbox.Deliver, leases[0])
		}
	}
	require.Less(t, mallocs(deliver), 10*few, "to deliver %d notices while %d wait", sample, most)

	replay := func() {
		for n := range sample {
			require.NoError(t, s.Replay(ctx, noticeOf("task", inbox.InProgress, n).ID, ""))
		}
	}
	require.Less(t, mallocs(replay), 10*few, "to replay %d notices of %d", sample, most)

	repeats := mallocs(func() {
		for n := range sample {
			duplicateOf, err := s.Put(ctx, noticeOf("task", inbox.InProgress, 7*n))
			require.NoError(t, err)
			require.NotEmpty(t, duplicateOf)
		}
	})
	require.Less(t, repeats, 5*few, "to find %d repeats", sample)
}

// The order of a task with many events is the same as for any other task.
func TestOrderOfABigTask(t *testing.T) {
	s := openWith(t, t.TempDir()+"/inbox.db", defaultLimits)
	ctx := context.Background()
	const n = 200
	putNotices(t, s, "task", inbox.InProgress, 0, n)
	leases, err := s.Lease(ctx, 10)
	require.NoError(t, err)
	require.Len(t, leases, 1)
	require.Equal(t, noticeOf("task", inbox.InProgress, 0).ID, leases[0].Event.ID)

	putNotices(t, s, "task", inbox.Completed, 0, 3)
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(n-1), stats.Events[inbox.Superseded], "all that waited behind the one under way")
	require.Equal(t, int64(1+3), stats.Events[inbox.Pending])
	require.NoError(t, s.Settle(ctx, inbox.Outcome{Lease: leases[0], Verdict: inbox.Retry, Due: time.Now()}))
	putNotices(t, s, "task", inbox.InProgress, n, n+1)
	for i := range 3 {
		leases, err = s.Lease(ctx, 10)
		require.NoError(t, err)
		require.Len(t, leases, 1)
		require.Equal(t, noticeOf("task", inbox.Completed, i).ID, leases[0].Event.ID)
		inboxtest.Settle(t, s, inbox.Deliver, leases[0])
	}
	stats, err = s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(n+1), stats.Events[inbox.Superseded])
	require.Zero(t, stats.Events[inbox.Pending])
}

func TestLimitsOfBigTasks(t *testing.T) {
	l := defaultLimits
	l.bigTask, l.bigIDs, l.reserve = 5, 50, 4096
	now := time.Now()
	s := openWith(t, t.TempDir()+"/inbox.db", l, func(o *options) { o.now = func() time.Time { return now } })
	putNotices(t, s, "greedy", inbox.Completed, 0, 50)
	_, err := s.Put(context.Background(), noticeOf("greedy", inbox.Completed, 50))
	require.ErrorIs(t, err, inbox.ErrFull)
	require.ErrorContains(t, err, `the task "greedy" has 50 events, and more of one task are not taken`)
	duplicateOf, err := s.Put(context.Background(), noticeOf("greedy", inbox.Completed, 3))
	require.NoError(t, err)
	require.NotEmpty(t, duplicateOf, "a repeat takes no room")
	for i := range 20 { // these push each other out of the cache
		putNotices(t, s, fmt.Sprint("task-", i), inbox.Completed, 0, 10)
	}
	for i := range 20 {
		duplicateOf, err := s.Put(context.Background(), noticeOf(fmt.Sprint("task-", i), inbox.Completed, 9))
		require.NoError(t, err)
		require.NotEmpty(t, duplicateOf)
	}
	require.NoError(t, s.Close())
	require.LessOrEqual(t, s.writer.tasks.size, 50)
	ids := 0
	for _, b := range s.writer.tasks.byKey {
		ids += len(b.ids)
	}
	require.Equal(t, ids, s.writer.tasks.size)
}

// A generation whose entries are all of one task is written in steps, too.
func TestIndexOfOneTaskIsWrittenInSteps(t *testing.T) {
	x := newTaskIndex(100)
	for n := range 100 {
		x.add(entry{7, int64(n)})
	}
	var written []entry
	for range 11 {
		entries, _, next := x.step(10)
		require.LessOrEqual(t, len(entries), 10)
		written = append(written, entries...)
		x.markWritten(next)
	}
	require.Len(t, written, 100)
	frozen, _ := x.pending()
	require.False(t, frozen)
}
