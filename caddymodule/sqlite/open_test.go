package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// sqliteFile makes an SQLite file with the statements.
func sqliteFile(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.db")
	c, err := connect(context.Background(), path)
	require.NoError(t, err)
	for _, s := range statements {
		require.NoError(t, c.exec(s), s)
	}
	require.NoError(t, c.close())
	return path
}

func TestOpenRefusesWhatIsNotAnInbox(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	for name, c := range map[string]struct{ path, want string }{
		"no SQLite file": {write("text", bytes.Repeat([]byte("no database "), 1000)), "is not an SQLite file"},
		"a directory":    {dir, "unable to open"},
		"another application's": {
			sqliteFile(t, `PRAGMA application_id = 123`, `CREATE TABLE t (a)`),
			"it is an SQLite file of another application (application_id 0x7b; an inbox has 0x46574849)",
		},
		"nobody's in particular": {sqliteFile(t, `CREATE TABLE t (a)`), "it is an SQLite file of another application (application_id 0x0;"},
		"a newer version's": {
			sqliteFile(t, fmt.Sprint(`PRAGMA application_id = `, applicationID), `PRAGMA user_version = 99`),
			fmt.Sprint("its schema has version 99, made by a newer release of this module; this one knows versions up to ", len(schema)),
		},
		"one without its row": {
			sqliteFile(t, fmt.Sprint(`PRAGMA application_id = `, applicationID), fmt.Sprint(`PRAGMA user_version = `, len(schema)),
				`CREATE TABLE meta AS SELECT 1 AS id, 1 AS next_seq, 1 AS low_seq, 0 AS indexed_seq, 0 AS fresh, 0 AS ready, 0 AS retry, 0 AS blocked, `+
					`0 AS delivered, 0 AS superseded, 0 AS dead, 0 AS stale, 0 AS quarantined, 0 AS next_suspect, 0 AS events_pending, `+
					`0 AS events_delivered, 0 AS events_superseded, 0 AS events_dead, 0 AS events_skipped, 0 AS routed`, `DELETE FROM meta`),
			"the table meta is empty; it must have one row",
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(c.path)
			err := openErr(t, c.path)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, c.path)
			if name == "no SQLite file" || name == "another application's" {
				after, err := os.ReadFile(c.path)
				require.NoError(t, err)
				require.Equal(t, before, after, "the file must stay as it is")
			}
		})
	}
}

// A path that was mistyped may lead to the file of another program.
func TestTheFileOfAnotherProgramKeepsItsModeAndItsFolder(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.db")
	require.NoError(t, os.WriteFile(text, []byte("short"), 0o600))
	live := sqliteFile(t, `PRAGMA journal_mode = WAL`, `CREATE TABLE t (a)`)
	c, err := connect(context.Background(), live)
	require.NoError(t, err)
	require.NoError(t, c.exec(`INSERT INTO t VALUES (1)`))
	require.FileExists(t, live+walSuffix, "the other program is using it")
	defer func() { require.NoError(t, c.close()) }()
	for name, path := range map[string]string{
		"no SQLite file": text,
		"with an id":     sqliteFile(t, `PRAGMA application_id = 123`, `CREATE TABLE t (a)`),
		"without an id":  sqliteFile(t, `CREATE TABLE t (a)`),
		"in use":         live,
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.Chmod(path, 0o664)) //nolint:gosec // as others have theirs
			before, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Error(t, openErr(t, path))
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o664), info.Mode().Perm())
			after, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, after, len(before))
		})
	}
}

// All that a file has may still be in its write-ahead log.
func TestAFileWhoseHeaderTellsNothingIsOpened(t *testing.T) {
	made := sqliteFile(t, `PRAGMA journal_mode = WAL`)
	c, err := connect(context.Background(), made)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.close()) }()
	require.NoError(t, c.exec(`PRAGMA wal_autocheckpoint = 0`))
	require.NoError(t, migrate(c, 0, schema))
	path := filepath.Join(t.TempDir(), "inbox.db")
	for _, suffix := range []string{"", walSuffix} {
		content, err := os.ReadFile(made + suffix)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+suffix, content, 0o600))
	}
	header, err := readHeader(path)
	require.NoError(t, err)
	require.Zero(t, header[headerApp], "the tables are in the log")
	openWith(t, path, smallLimits)
}

func TestOpenTellsADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	load(t, s, 50, 1)
	require.NoError(t, s.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 4096; i < len(b); i++ {
		b[i] ^= 0x5a
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	require.ErrorContains(t, openErr(t, path), "is damaged: restore it from a backup")
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	require.ErrorContains(t, openErr(t, path), path+" is in use by another inbox of this process")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := open(ctx, testOptions(path, smallLimits))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
	openWith(t, path, smallLimits)
}

func TestAnotherProcessIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	c := startChild(t, "hold", path)
	c.line(t)
	require.ErrorContains(t, openErr(t, path), fmt.Sprintf("%s is in use by process %d; only one can use it at a time", path, c.cmd.Process.Pid))
	c.kill(t)
	openWith(t, path, smallLimits)
}

// fileOfVersion1 makes a file of the first release with additional rows.
func fileOfVersion1(t *testing.T, rows ...string) string {
	t.Helper()
	return fileOfVersion(t, 1, rows...)
}

// fileOfVersion makes a file of an older release with additional rows.
func fileOfVersion(t *testing.T, version int, rows ...string) string {
	t.Helper()
	return sqliteFile(t, slices.Concat(slices.Concat(schema[:version]...), []string{
		fmt.Sprint(`PRAGMA application_id = `, applicationID),
		fmt.Sprint(`PRAGMA user_version = `, version),
	}, rows)...)
}

func TestOlderFileIsMigrated(t *testing.T) {
	path := fileOfVersion1(t,
		fmt.Sprintf(`INSERT INTO events VALUES (1, x'%s', 'task', 'avatar', 1, 1763899200000000, x'7b7d')`, inbox.NewID("task", nil)),
		`UPDATE meta SET next_seq = 2, fresh = 1`)
	newer := append(slices.Clone(schema), migration{`ALTER TABLE meta ADD COLUMN note TEXT NOT NULL DEFAULT 'old'`}, migration{`CREATE TABLE more (a)`})
	s := openWith(t, path, smallLimits, func(o *options) { o.schema = newer })
	r, err := s.Get(context.Background(), inbox.NewID("task", nil))
	require.NoError(t, err)
	require.Equal(t, "task", r.Event.TaskID)
	require.NoError(t, s.read(context.Background(), func(c *conn) error {
		version, err := c.number(`PRAGMA user_version`)
		require.EqualValues(t, len(schema)+2, version)
		require.NoError(t, err)
		return c.query(`SELECT note FROM meta`, func(row []driver.Value) error {
			require.Equal(t, "old", row[0])
			return nil
		})
	}))
	require.NoError(t, s.Close())
	require.ErrorContains(t, openErr(t, path), fmt.Sprintf("its schema has version %d, made by a newer release of this module; this one knows versions up to %d", len(schema)+2, len(schema)))
}

// Callbacks quarantined by an older release are kept as they were. Their bodies
// are not indexed, so a repeat is stored beside them.
func TestQuarantineOfAnOlderReleaseIsMigrated(t *testing.T) {
	ctx := context.Background()
	path := fileOfVersion1(t,
		`INSERT INTO quarantine VALUES (3, 1763899200000000, '::1', 422, x'5b5d', x'7b7d'), (7, 1763899201000000, '::1', 400, x'5b5d', x'7b7d')`,
		`UPDATE meta SET quarantined = 2, next_suspect = 8`)
	at := time.UnixMicro(1763899200000000).UTC()
	for range 2 {
		s := openWith(t, path, smallLimits, func(o *options) { o.policy.Quarantine = 3 })
		list, _, err := s.Suspects(ctx, inbox.Page{})
		require.NoError(t, err)
		require.Equal(t, []*inbox.Suspect{
			{ID: 7, ReceivedAt: at.Add(time.Second), Last: at.Add(time.Second), Count: 1, SourceIP: "::1", Status: 400, Problems: []byte("[]"), Body: []byte("{}")},
			{ID: 3, ReceivedAt: at, Last: at, Count: 1, SourceIP: "::1", Status: 422, Problems: []byte("[]"), Body: []byte("{}")},
		}, list)
		require.NoError(t, s.Close())
	}
	s := openWith(t, path, smallLimits, func(o *options) { o.policy.Quarantine = 3 })
	for i := range 5 {
		q := &inbox.Suspect{ReceivedAt: at.Add(time.Hour), SourceIP: "::2", Status: 400, Body: []byte("{}")}
		require.NoError(t, s.Quarantine(ctx, q))
		require.EqualValues(t, 8, q.ID)
		require.EqualValues(t, i+1, q.Count)
	}
	require.NoError(t, s.Quarantine(ctx, &inbox.Suspect{ReceivedAt: at, Status: 400, Body: []byte("x")}))
	_, err := s.Suspect(ctx, 3)
	require.ErrorIs(t, err, inbox.ErrNotFound, "it has not arrived for longest")
	require.NoError(t, s.Unquarantine(ctx, 7))
}

// A file of the first release loses nothing and works like a new one.
func TestFileOfTheFirstReleaseIsMigrated(t *testing.T) {
	ctx := context.Background()
	received := time.Date(2025, 11, 23, 12, 0, 0, 123456000, time.UTC)
	events := make([]*inbox.Event, 4) // fresh, dead, blocked by the first, delivered
	var rows []string
	for i, task := range []string{"a", "b", "a", "c"} {
		body := fmt.Appendf(nil, `{"n":%d}`, i)
		events[i] = &inbox.Event{
			ID: inbox.NewID(task, body), TaskID: task, Type: "avatar", Status: inbox.Completed,
			ReceivedAt: received.Add(time.Duration(i) * time.Second), Body: body,
		}
		rows = append(rows, fmt.Sprintf(`INSERT INTO events VALUES (%d, x'%s', '%s', 'avatar', 1, %d, x'%x')`,
			i+1, events[i].ID, task, events[i].ReceivedAt.UnixMicro(), body))
	}
	rows = append(rows,
		`INSERT INTO delivery (seq, state, attempts, settled_at, last_at, last_status, last_reason) VALUES (2, 5, 1, 7, 6, 503, 'busy')`,
		`INSERT INTO attempts VALUES (2, 1, 6, 0, 503, 'busy')`,
		fmt.Sprintf(`INSERT INTO delivery (seq, state, task_key) VALUES (3, 2, %d)`, int64(inbox.TaskKey("a"))), //nolint:gosec // the same 64 bits
		fmt.Sprintf(`INSERT INTO delivery (seq, state, settled_at) VALUES (4, 3, %d)`, time.Now().UnixMicro()),
		`UPDATE meta SET next_seq = 5, fresh = 1, blocked = 1, delivered = 1, dead = 1`)
	path := fileOfVersion1(t, rows...)

	traced := newEvent()
	traced.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	hold := inbox.Hold{Since: received, Reason: "maintenance"}
	for round := range 2 {
		s := openWith(t, path, smallLimits)
		if round == 0 {
			h, err := s.Hold(ctx)
			require.NoError(t, err)
			require.Zero(t, h)
			require.NoError(t, s.SetHold(ctx, hold))
			inboxtest.Put(t, s, traced)
		}
		h, err := s.Hold(ctx)
		require.NoError(t, err)
		require.Equal(t, hold, h)
		records, next, err := s.List(ctx, inbox.Filter{}, inbox.Page{OldestFirst: true})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Len(t, records, len(events)+1)
		for i, state := range []inbox.State{inbox.Pending, inbox.Dead, inbox.Pending, inbox.Delivered} {
			require.Equal(t, events[i], records[i].Event)
			require.Equal(t, state.String(), records[i].State.String())
		}
		require.Equal(t, traced, records[4].Event)
		r, err := s.Get(ctx, events[1].ID)
		attempts := inboxtest.Log(r)
		require.NoError(t, err)
		require.Equal(t, events[1], r.Event)
		require.Len(t, attempts, 1)
		if round == 0 {
			require.NoError(t, s.Close())
			continue
		}
		leases, err := s.Lease(ctx, 10)
		require.NoError(t, err)
		require.Len(t, leases, 2, "one of each task")
		require.Equal(t, events[0], leases[0].Event)
		require.Equal(t, traced, leases[1].Event)
	}
}

func TestFailedMigrationLeavesTheOldVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	require.NoError(t, openWith(t, path, smallLimits).Close())
	broken := append(slices.Clone(schema), migration{`CREATE TABLE more (a)`, `CREATE TABLE more (a)`})
	err := openErr(t, path, func(o *options) { o.schema = broken })
	require.ErrorContains(t, err, fmt.Sprintf("migrating its schema from version %d to %d", len(schema), len(schema)+1))
	s := openWith(t, path, smallLimits)
	require.NoError(t, s.read(context.Background(), func(c *conn) error {
		n, err := c.number(`SELECT count(*) FROM sqlite_schema WHERE name = 'more'`)
		require.Zero(t, n)
		return err
	}))
}

// The effect would only show in a power cut, so the settings are checked.
func TestCommitsAreSynced(t *testing.T) {
	s := openTest(t) // a small log would be copied meanwhile, and the connection be in use
	require.NoError(t, inWriter(s, func(tx *tx) error {
		synchronous, err := tx.c.number(`PRAGMA synchronous`)
		require.EqualValues(t, 2, synchronous, "FULL")
		require.NoError(t, err)
		mode, err := journalMode(tx.c)
		require.Equal(t, "wal", mode)
		return err
	}))
	synchronous, err := s.checkpoint.conn.number(`PRAGMA synchronous`)
	require.NoError(t, err)
	require.EqualValues(t, 2, synchronous, "FULL")
}

// A large file is opened at once, because only a bounded part of it is read.
func TestOpenReadsLittleOfALargeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	limits := defaultLimits
	limits.indexEntries, limits.reserve = 500, 4096
	s := openWith(t, path, limits)
	load(t, s, 5000, 128)
	inboxtest.Eventually(t, func() bool { frozen, _ := s.index.pending(); return !frozen })
	require.NoError(t, s.Close())
	s = openWith(t, path, limits)
	_, gathered := s.index.pending()
	require.Less(t, gathered, limits.indexEntries)
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 5000, stats.Events[inbox.Pending])
	leases, err := s.Lease(context.Background(), 1000)
	require.NoError(t, err)
	require.Len(t, leases, 1000)
	for _, l := range leases[:10] {
		duplicateOf, err := s.Put(context.Background(), l.Event)
		require.NoError(t, err)
		require.NotEmpty(t, duplicateOf)
	}
}
