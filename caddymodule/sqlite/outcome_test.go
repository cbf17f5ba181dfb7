package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// outcomes returns the number of rows in the table.
func outcomes(t *testing.T, s *store) (n int64) {
	t.Helper()
	require.NoError(t, s.read(context.Background(), func(c *conn) (err error) {
		n, err = c.number(`SELECT count(*) FROM outcomes`)
		return err
	}))
	return n
}

// Events that are not compared have no row, and a row is removed with its event, also if
// it was there when the inbox was opened.
func TestOutcomesGoWithTheirEvents(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	load(t, s, 3, 1)
	require.Zero(t, outcomes(t, s))
	require.False(t, s.outcomes.Load())
	deliver(t, s, 3)
	events := newEvents(5)
	for _, e := range events {
		inboxtest.Put(t, s, inboxtest.Tells(e, inbox.FromAPI, "done"))
	}
	require.EqualValues(t, 5, outcomes(t, s))
	require.NoError(t, s.Purge(ctx, events[4].ID, ""))
	require.EqualValues(t, 4, outcomes(t, s))
	deliver(t, s, 3)
	require.NoError(t, s.Close())
	s = openWith(t, path, smallLimits)
	require.EqualValues(t, 4, outcomes(t, s))
	s.SetPolicy(inbox.Policy{Keep: time.Microsecond})
	inboxtest.Eventually(t, func() bool { return outcomes(t, s) == 1 })
	r, err := s.Get(ctx, events[3].ID)
	require.NoError(t, err)
	require.Equal(t, events[3], r.Event)
}

// Events of a file that has no table of outcomes are not compared, later ones are.
func TestFileBeforeOutcomesIsMigrated(t *testing.T) {
	before := slices.IndexFunc(schema, func(m migration) bool {
		return slices.ContainsFunc(m, func(statement string) bool { return strings.Contains(statement, "TABLE outcomes") })
	})
	require.Positive(t, before)
	old := inbox.NewID("task", nil)
	path := fileOfVersion(t, before,
		fmt.Sprintf(`INSERT INTO events VALUES (1, x'%s', 'task', 'avatar', 1, 1763899200000000, x'7b7d')`, old),
		`UPDATE meta SET next_seq = 2, fresh = 1, events_pending = 1`)
	s := openWith(t, path, smallLimits)
	r, err := s.Get(context.Background(), old)
	require.NoError(t, err)
	require.Zero(t, r.Event.Outcome)
	require.Zero(t, r.Event.Revision)
	first := inboxtest.Tells(inboxtest.NewEvent("task", inbox.Completed), inbox.FromCallback, "done")
	inboxtest.Put(t, s, first)
	duplicateOf, err := s.Put(context.Background(), inboxtest.Tells(inboxtest.NewEvent("task", inbox.Completed), inbox.FromAPI, "done"))
	require.NoError(t, err)
	require.Equal(t, first.ID, duplicateOf)
}

// Neither the notices of a task are read to compare its outcomes, nor, again and again,
// its final events that have none.
func TestComparingDoesNotReadTheTask(t *testing.T) {
	const most, sample = 2000, 20
	s := openTest(t)
	again := func(task string) func() {
		first := inboxtest.Tells(inboxtest.NewEvent(task, inbox.Completed), inbox.FromCallback, "done")
		inboxtest.Put(t, s, first)
		repeat := func() {
			duplicateOf, err := s.Put(context.Background(), inboxtest.Tells(inboxtest.NewEvent(task, inbox.Completed), inbox.FromAPI, "done"))
			require.NoError(t, err)
			require.Equal(t, first.ID, duplicateOf)
		}
		repeat()
		return func() {
			for range sample {
				repeat()
			}
		}
	}
	few := mallocs(again("few"))
	for task, status := range map[string]inbox.Status{"notices": inbox.InProgress, "finals": inbox.Failed} {
		putNotices(t, s, task, status, 0, most/2)
		repeat := again(task)
		putNotices(t, s, task, status, most/2, most)
		repeat()
		require.Less(t, mallocs(repeat), 5*few, "%d %s", most, task)
	}
}

func TestOutcomesTakeRoom(t *testing.T) {
	e := newEvent()
	plain := eventSize(e, defaultOnly)
	require.Greater(t, eventSize(inboxtest.Tells(e, inbox.FromCallback, "done"), defaultOnly), plain+len(e.Outcome))
}
