package gateway

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// register is an inbox that tracks tasks.
type register struct {
	inbox.Inbox
	inbox.Tracker
	known map[string]bool
	got   []inbox.Task
	stats inbox.TaskStats
	err   error
}

func (r *register) Track(_ context.Context, tasks ...inbox.Task) (added int, err error) {
	for _, task := range tasks {
		r.got = append(r.got, task)
		if !r.known[task.ID] {
			added++
		}
	}
	return added, r.err
}

func (r *register) TaskStats(context.Context) (inbox.TaskStats, error) { return r.stats, r.err }

func operatorOf(in inbox.Inbox, after time.Duration) *operated {
	c := new(Config)
	if after > 0 {
		c.Asking = &Asking{Schedule: reconcile.Schedule{After: after}}
	}
	return &operated{gateway: &Gateway{inbox: in}, config: c}
}

func TestTrackedTasksAreAskedForAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &register{known: map[string]bool{"b": true}}
		tracked, err := operatorOf(in, 2*time.Minute).Track(t.Context(), inbox.FromSubmission, "a", "b", "a")
		require.NoError(t, err)
		require.Equal(t, control.Tracked{Added: 1, Known: 2}, tracked)
		now := time.Now().UTC()
		require.Equal(t, []inbox.Task{
			{ID: "a", Source: inbox.FromSubmission, Since: now, Due: now.Add(2 * time.Minute)},
			{ID: "b", Source: inbox.FromSubmission, Since: now, Due: now.Add(2 * time.Minute)},
		}, in.got, "each once")
		for _, task := range in.got {
			require.NoError(t, task.Check())
		}
	})
}

func TestTrackRefusesBadIDsAltogether(t *testing.T) {
	in := new(register)
	o := operatorOf(in, time.Minute)
	long := strings.Repeat("x", inbox.MaxTaskID)
	_, err := o.Track(t.Context(), inbox.FromOperator, long, "", "good", long+"x", "\xff")
	bad, ok := errors.AsType[*control.TaskIDsError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, []control.Problem{
		{Pointer: "/tasks/1", Detail: "is empty; expected the id of a task"},
		{Pointer: "/tasks/3", Detail: "has 257 bytes; expected the id of a task, of at most 256"},
		{Pointer: "/tasks/4", Detail: "is not UTF-8; expected the id of a task"},
	}, bad.Problems)
	require.EqualError(t, err, "no task was tracked: /tasks/1 is empty; expected the id of a task, and 2 more problems")

	_, err = o.Track(t.Context(), inbox.FromOperator)
	require.EqualError(t, err, "no task was tracked: /tasks has 0 ids; expected 1 to 1000")
	ids := make([]string, inbox.MaxTrack+1)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	_, err = o.Track(t.Context(), inbox.FromOperator, ids...)
	require.EqualError(t, err, "no task was tracked: /tasks has 1001 ids; expected 1 to 1000")
	require.Empty(t, in.got)

	_, err = o.Track(t.Context(), inbox.FromOperator, ids[1:]...)
	require.NoError(t, err)
	require.Len(t, in.got, inbox.MaxTrack)
}

func TestTasksWithoutAPI(t *testing.T) {
	in := &register{stats: inbox.TaskStats{Waiting: 1}}
	o := operatorOf(in, 0)
	require.False(t, o.Asking())
	_, err := o.Track(t.Context(), inbox.FromOperator, "a")
	require.ErrorIs(t, err, control.ErrNotAsking)
	require.Empty(t, in.got)
	stats, err := o.taskStats(t.Context())
	require.NoError(t, err)
	require.Nil(t, stats)
}

func TestTasksOfAnInboxThatCannotTrack(t *testing.T) {
	o := operatorOf(struct{ inbox.Inbox }{}, time.Minute)
	_, err := o.Track(t.Context(), inbox.FromOperator, "a")
	require.ErrorIs(t, err, control.ErrNotTracking)
	_, err = o.taskStats(t.Context())
	require.ErrorIs(t, err, control.ErrNotTracking)
}

func TestSummaryHasTasks(t *testing.T) {
	oldest := time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	in := &register{stats: inbox.TaskStats{Waiting: 5, Due: 2, Oldest: oldest, Dropped: 1}}
	o := operatorOf(in, time.Minute)
	stats, err := o.taskStats(t.Context())
	require.NoError(t, err)
	utc := oldest.UTC()
	require.Equal(t, &control.TaskStats{Waiting: 5, Due: 2, Oldest: &utc, Dropped: 1}, stats)

	in.stats = inbox.TaskStats{}
	stats, err = o.taskStats(t.Context())
	require.NoError(t, err)
	require.Equal(t, &control.TaskStats{}, stats)

	in.err = inbox.ErrClosed
	_, err = o.taskStats(t.Context())
	require.ErrorIs(t, err, inbox.ErrClosed)
	_, err = o.Track(t.Context(), inbox.FromOperator, "a")
	require.ErrorIs(t, err, inbox.ErrClosed)
}
