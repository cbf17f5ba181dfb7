package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// Version 3 of the schema knew no destinations.
const versionBefore = versionOfDestinations - 1

// fileBeforeDestinations makes a file with an event in every state: fresh, a retry that
// is due, blocked by that one, delivered, superseded, dead.
func fileBeforeDestinations(t *testing.T) (path string, events []*inbox.Event) {
	t.Helper()
	received := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	now := time.Now().UnixMicro()
	var rows []string
	for i, task := range []string{"fresh", "task", "task", "taken", "taken", "dead"} {
		e := &inbox.Event{
			ID: inbox.NewID(task, []byte{byte(i)}), TaskID: task, Type: "avatar", Status: inbox.Completed,
			ReceivedAt: received.Add(time.Duration(i) * time.Second), Body: fmt.Appendf(nil, `{"n":%d}`, i),
		}
		events = append(events, e)
		rows = append(rows, fmt.Sprintf(`INSERT INTO events VALUES (%d, x'%s', '%s', 'avatar', 1, %d, x'%x')`,
			i+1, e.ID, task, e.ReceivedAt.UnixMicro(), e.Body))
	}
	events[0].TraceParent = "00-1"
	return fileOfVersion(t, versionBefore, append(rows,
		`INSERT INTO traces VALUES (1, '00-1', '')`,
		`INSERT INTO delivery (seq, state, attempts, due, last_at, last_status) VALUES (2, 1, 1, 5, 4, 500)`,
		`INSERT INTO attempts VALUES (2, 1, 4, 0, 500, 'sorry')`,
		fmt.Sprintf(`INSERT INTO delivery (seq, state, task_key) VALUES (3, 2, %d)`, int64(inbox.TaskKey("task"))), //nolint:gosec // the same 64 bits
		fmt.Sprintf(`INSERT INTO delivery (seq, state, attempts, settled_at, last_at, last_status) VALUES (4, 3, 1, %d, 6, 200)`, now),
		fmt.Sprintf(`INSERT INTO delivery (seq, state, settled_at) VALUES (5, 4, %d)`, now),
		fmt.Sprintf(`INSERT INTO delivery (seq, state, attempts, settled_at, last_at, last_status, last_reason) VALUES (6, 5, 1, %d, 7, 410, 'gone')`, now),
		`INSERT INTO attempts VALUES (6, 1, 7, 0, 410, 'gone')`,
		`INSERT INTO hold VALUES (1, 8, 0, 0, 'why')`,
		`UPDATE meta SET next_seq = 7, fresh = 1, retry = 1, blocked = 1, delivered = 1, superseded = 1, dead = 1`)...), events
}

// What a file of version 3 has goes to the default destination, as before. New events
// may go elsewhere.
func TestFileBeforeDestinationsIsMigrated(t *testing.T) {
	ctx := context.Background()
	path, events := fileBeforeDestinations(t)
	added := newEvent()
	for round := range 2 {
		s := openWith(t, path, smallLimits)
		app := queuesOf(t, s, "app")[0]
		if round == 0 {
			sent := *added
			sent.Destinations = []string{"app"}
			inboxtest.Put(t, s, &sent)
		}
		h, err := s.Hold(ctx)
		require.NoError(t, err)
		require.Equal(t, inbox.Hold{Since: inbox.FromMicros(8), Reason: "why"}, h)
		stats, err := s.Stats(ctx)
		require.NoError(t, err)
		require.Equal(t, [...]int64{4, 1, 1, 1, 0}, stats.Events)
		require.Equal(t, [...]int64{1, 0, 0, 0, 0}, stats.Destinations[0].Deliveries, "app")
		require.Equal(t, [...]int64{3, 1, 1, 1, 0}, stats.Destinations[1].Deliveries, "default")
		for i, want := range []inbox.State{inbox.Pending, inbox.Pending, inbox.Pending, inbox.Delivered, inbox.Superseded, inbox.Dead} {
			r, err := s.Get(ctx, events[i].ID)
			require.NoError(t, err)
			require.Equal(t, events[i], r.Event)
			require.Equal(t, want, r.State)
			require.Equal(t, inbox.DefaultDestination, r.Deliveries[0].Destination)
		}
		if round == 0 {
			require.NoError(t, s.Close())
			continue
		}
		leases := inboxtest.Lease(t, s, 2)
		require.ElementsMatch(t, []*inbox.Event{events[0], events[1]}, []*inbox.Event{leases[0].Event, leases[1].Event})
		inboxtest.Settle(t, s, inbox.Deliver, leases...)
		leases = inboxtest.Lease(t, s, 1)
		require.Equal(t, events[2], leases[0].Event)
		require.Equal(t, added, inboxtest.Lease(t, app, 1)[0].Event)
		require.NoError(t, s.Replay(ctx, events[3].ID, ""))
		replayed, err := s.Get(ctx, events[3].ID)
		require.NoError(t, err)
		require.Equal(t, []inbox.Attempt{{At: inbox.FromMicros(6), Status: 200}}, inboxtest.Log(replayed))
		require.NoError(t, s.Move(ctx, events[5].ID, "", "app"))
		require.Equal(t, events[5], inboxtest.Lease(t, app, 1)[0].Event)
		r, err := s.Get(ctx, events[5].ID)
		require.NoError(t, err)
		require.Len(t, r.Deliveries, 2)
		require.Equal(t, "gone", r.Deliveries[1].Log[0].Reason)
	}
}

// Files of both versions can be surveyed and verified without being migrated.
func TestSurveyAndVerifyOfBothVersions(t *testing.T) {
	ctx := context.Background()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	require.NoError(t, os.MkdirAll(defaultDir(), 0o700))
	made, _ := fileBeforeDestinations(t)
	before, after := filepath.Join(defaultDir(), "before.db"), filepath.Join(defaultDir(), "now.db")
	copyFile(t, made, before)
	s := openWith(t, after, smallLimits)
	queues := queuesOf(t, s, "a", "b")
	inboxtest.Put(t, s, eventFor("a", "b"), eventFor("b"), eventFor())
	inboxtest.Settle(t, queues[0], inbox.GiveUp, inboxtest.Lease(t, queues[0], 1)...)
	leases := inboxtest.Lease(t, queues[1], 2)
	inboxtest.Settle(t, queues[1], inbox.Deliver, leases[0])
	_, err := s.Track(ctx, inbox.Task{ID: "a", Since: time.Now()}, inbox.Task{ID: "b", Since: time.Now()})
	require.NoError(t, err)
	require.NoError(t, s.Close())

	require.Equal(t, []inbox.Unattended{
		{Key: keyPrefix + before, Pending: 3, Dead: 1},
		{Key: keyPrefix + after, Pending: 1, Dead: 1, Tracked: 2},
	}, survey(t))
	for path, want := range map[string]int64{before: 6, after: 3} {
		n, err := new(Inbox).Verify(ctx, path)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}

// A file with pages of 4 KiB, as earlier releases made them, keeps them, and works.
func TestFileWithSmallerPages(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	c, err := connect(ctx, path)
	require.NoError(t, err)
	require.NoError(t, setUp(c, []string{`PRAGMA page_size = 4096`, `PRAGMA journal_mode = WAL`}))
	require.NoError(t, migrate(c, 0, schema))
	require.NoError(t, c.close())

	limits := defaultLimits
	limits.reserve = 4096
	small := func(o *options) { o.maxSize = 2 << 20 }
	s := openWith(t, path, limits, small)
	n := fill(t, s)
	require.Greater(t, n, 500)
	deliver(t, s, n)
	for range 2 * n { // delivered events make room
		e := newEvent()
		inboxtest.Eventually(t, func() bool {
			_, err := s.Put(ctx, e)
			return err == nil
		})
		deliver(t, s, 1)
	}
	require.Equal(t, int64(4096), number(t, s, `PRAGMA page_size`))
	require.NoError(t, s.Close())

	s = openWith(t, path, limits, small)
	inboxtest.Put(t, s, newEvent())
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	restored := backupOf(t, s)
	events, err := new(Inbox).Verify(ctx, restored)
	require.NoError(t, err)
	require.Equal(t, stats.Events[inbox.Pending]+stats.Events[inbox.Delivered], events)
	s = openWith(t, restored, limits)
	require.Equal(t, int64(4096), number(t, s, `PRAGMA page_size`))
	deliver(t, s, 1)
	inboxtest.Put(t, s, newEvent())
}
