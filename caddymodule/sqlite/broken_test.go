//go:build !windows

package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// eagerLimits make every commit check the files.
func eagerLimits() limits {
	l := defaultLimits
	l.verifyPause, l.reserve = 0, smallLimits.reserve
	return l
}

// requireBroken checks that every call reports the broken inbox.
func requireBroken(t *testing.T, s *store) {
	t.Helper()
	ctx := context.Background()
	_, err := s.Put(ctx, newEvent())
	require.ErrorIs(t, err, inbox.ErrBroken)
	_, err = s.Stats(ctx)
	require.ErrorIs(t, err, inbox.ErrBroken)
	require.ErrorContains(t, err, runbook, "it says what to do")
	_, err = s.Lease(ctx, 1)
	require.ErrorIs(t, err, inbox.ErrClosed, "nobody must wait for more")
	require.ErrorIs(t, err, inbox.ErrBroken)
	require.ErrorIs(t, s.SetHold(ctx, inbox.Hold{}), inbox.ErrBroken)
}

// requireEvents checks the number of pending events and that those with the ids
// exist.
func requireEvents(t *testing.T, s *store, want int, ids ...string) {
	t.Helper()
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	require.Equal(t, int64(want), stats.Events[inbox.Pending])
	for _, id := range ids {
		_, err := s.Get(context.Background(), id)
		require.NoError(t, err)
	}
}

func overwrite(t *testing.T, path string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A 200 for an event in a file that nobody will find again would be a lie. So
// the very first callback after the loss is refused. Once the inbox is opened
// again it works with the files that are there then.
func TestLostFiles(t *testing.T) {
	const before = 20
	for name, c := range map[string]struct {
		lose func(t *testing.T, s *store)
		left int  // events after the inbox was opened again
		read bool // whether the events can be read meanwhile
	}{
		"the database removed": {func(t *testing.T, s *store) { require.NoError(t, os.Remove(s.path)) }, 0, true},
		"the log removed":      {func(t *testing.T, s *store) { require.NoError(t, os.Remove(s.path+walSuffix)) }, before, true},
		"the log's index removed": {
			func(t *testing.T, s *store) { require.NoError(t, os.Remove(s.path+shmSuffix)) },
			before, true,
		},
		"the lock file removed": {
			func(t *testing.T, s *store) { require.NoError(t, os.Remove(s.path+lockSuffix)) },
			before, true,
		},
		"all of them removed": {func(t *testing.T, s *store) {
			for _, suffix := range []string{"", walSuffix, shmSuffix, lockSuffix} {
				require.NoError(t, os.Remove(s.path+suffix))
			}
		}, 0, true},
		"the directory renamed": {func(t *testing.T, s *store) {
			require.NoError(t, os.Rename(filepath.Dir(s.path), filepath.Dir(s.path)+".away"))
		}, 0, true},
		"replaced by a backup": {func(t *testing.T, s *store) {
			backup := backupOf(t, s)
			load(t, s, 5, 1)
			require.NoError(t, os.Rename(backup, s.path))
		}, before, true},
		"overwritten with a backup": {func(t *testing.T, s *store) {
			backup, err := os.ReadFile(backupOf(t, s))
			require.NoError(t, err)
			load(t, s, 5, 1)
			overwrite(t, s.path, backup)
		}, before, false},
		"overwritten with an older state of itself": {func(t *testing.T, s *store) {
			require.NoError(t, s.read(context.Background(), func(c *conn) error {
				_, _, err := checkpoint(c, `PRAGMA wal_checkpoint(PASSIVE)`)
				return err
			}))
			older, err := os.ReadFile(s.path)
			require.NoError(t, err)
			load(t, s, 600, 1) // enough for the log to be copied into the file
			inboxtest.Eventually(t, func() bool {
				load(t, s, 1, 1)
				now, err := os.ReadFile(s.path)
				return err == nil && len(now) > len(older)
			})
			now, err := os.ReadFile(s.path)
			require.NoError(t, err)
			overwrite(t, s.path, append(older, make([]byte, len(now)-len(older))...))
		}, before, false},
		"truncated": {func(t *testing.T, s *store) { require.NoError(t, os.Truncate(s.path, 0)) }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dir", "inbox.db")
			s := openWith(t, path, eagerLimits())
			load(t, s, before, 1)
			c.lose(t, s)
			requireBroken(t, s)
			if c.read {
				records, _, err := s.List(context.Background(), inbox.Filter{}, inbox.Page{})
				require.NoError(t, err)
				require.GreaterOrEqual(t, len(records), before)
			}
			require.NoError(t, s.Close())
			again := openWith(t, path, defaultLimits)
			requireEvents(t, again, c.left)
			e := newEvent()
			inboxtest.Put(t, again, e)
			require.NoError(t, again.Close())
			requireEvents(t, openWith(t, path, defaultLimits), c.left+1, e.ID)
		})
	}
}

// After the next start the inbox would be where the link leads now.
func TestLinkThatLeadsElsewhere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "b"), 0o700))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("a", link))
	s := openWith(t, filepath.Join(dir, "a", "inbox.db"), eagerLimits(), func(o *options) { o.configured = filepath.Join(link, "inbox.db") })
	load(t, s, 1, 1)
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink("b", link))
	requireBroken(t, s)
}

// After the next start the log would be looked for beside the file to which the link leads.
func TestLinkInPlaceOfTheFile(t *testing.T) {
	for _, suffix := range []string{"", walSuffix, shmSuffix, lockSuffix} {
		t.Run(suffix, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "inbox.db")
			s := openWith(t, path, eagerLimits())
			load(t, s, 5, 1)
			real := filepath.Join(filepath.Dir(path), "real")
			require.NoError(t, os.Rename(path+suffix, real))
			require.NoError(t, os.Symlink("real", path+suffix))
			requireBroken(t, s)
			require.ErrorContains(t, s.Broken(), path+suffix+" is a symbolic link now, and was the file itself")
			// What was in the log gets into the file, wherever that is now.
			inboxtest.Eventually(t, func() bool { return logSize(s) == 0 })
			if suffix == "" {
				requireEvents(t, openWith(t, crashImage(t, real), defaultLimits), 5)
			}
			require.NoError(t, os.Rename(real, path+suffix))
			require.NoError(t, s.Close())
			requireEvents(t, openWith(t, path, defaultLimits), 5)
		})
	}
}

// A link that was there from the beginning is followed.
func TestLinkThatWasThereBefore(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link.db")
	require.NoError(t, os.Symlink("inbox.db", link))
	require.NoError(t, os.Symlink("lock", filepath.Join(dir, "inbox.db"+lockSuffix)))
	s := openWith(t, filepath.Join(dir, "inbox.db"), eagerLimits(), func(o *options) { o.configured = link })
	load(t, s, 5, 1)
	require.NoError(t, s.Broken())
}

func TestLossIsNoticedWithoutCallbacks(t *testing.T) {
	s := openTest(t)
	leased := make(chan error, 1)
	go func() {
		_, err := s.Lease(context.Background(), 1)
		leased <- err
	}()
	require.NoError(t, os.Remove(s.path))
	inboxtest.Eventually(t, func() bool { return s.Broken() != nil })
	require.ErrorIs(t, <-leased, inbox.ErrClosed)
	require.ErrorContains(t, s.Broken(), s.path+" was removed or renamed")
}

// Other programs may do some things to a file in use without breaking the
// inbox.
func TestHarmlessChanges(t *testing.T) {
	s := openTest(t)
	load(t, s, 100, 1)
	require.NoError(t, os.Chtimes(s.path, time.Now(), time.Now()))
	load(t, s, 10, 1)
	require.NoError(t, os.Rename(s.path, s.path+".away"))
	require.NoError(t, os.Rename(s.path+".away", s.path))
	if s.Broken() == nil { // unless the check came in between
		load(t, s, 10, 1)
	}
	s = openTest(t)
	load(t, s, 100, 1)
	other, err := connect(context.Background(), s.path)
	require.NoError(t, err)
	for range 10 {
		load(t, s, 10, 1)
		_, _, err = checkpoint(other, `PRAGMA wal_checkpoint(TRUNCATE)`)
		require.NoError(t, err)
	}
	load(t, s, 10, 1)
	require.NoError(t, other.exec(`CREATE TABLE of_another (a)`))
	_, _, err = checkpoint(other, `PRAGMA wal_checkpoint(TRUNCATE)`)
	require.NoError(t, err)
	load(t, s, 1000, 8)
	require.NoError(t, other.close())
	load(t, s, 10, 1)
	require.NoError(t, s.Broken())
}

// A file that was moved away is complete, without the log that stayed behind.
func TestFileThatWasMovedAway(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), eagerLimits())
	load(t, s, 50, 1)
	away := filepath.Join(t.TempDir(), "away.db")
	require.NoError(t, os.Rename(s.path, away))
	requireBroken(t, s)
	require.NoError(t, s.Close())
	moved := openWith(t, away, defaultLimits)
	requireEvents(t, moved, 50)
}

// A damaged file takes nothing more, and is checked before it is opened again.
// What can be read is listed.
func TestDamageFoundWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, defaultLimits)
	load(t, s, 3000, 16)
	require.NoError(t, s.Close())
	l := defaultLimits
	l.checkedSize = 0 // as for a large file
	s = openWith(t, path, l)
	other, err := connect(context.Background(), path)
	require.NoError(t, err)
	page, err := other.number(`SELECT max(pageno) FROM dbstat WHERE name = 'events' AND pagetype = 'leaf'`)
	require.NoError(t, err)
	require.NoError(t, other.close())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, pageSize), (page-1)*pageSize)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	ctx := context.Background()
	inboxtest.Eventually(t, func() bool { // cached pages are still good
		_, _, err := s.List(ctx, inbox.Filter{}, inbox.Page{Limit: 1000})
		return err != nil
	})
	requireBroken(t, s)
	records, _, err := s.List(ctx, inbox.Filter{}, inbox.Page{OldestFirst: true})
	require.NoError(t, err)
	require.NotEmpty(t, records)
	require.NoError(t, s.Close())
	require.ErrorContains(t, openErr(t, path, func(o *options) { o.limits.checkedSize = 0 }), "is damaged: restore it from a backup")
}

func TestSecondNameOfAFile(t *testing.T) {
	dir := t.TempDir()
	path, second := filepath.Join(dir, "inbox.db"), filepath.Join(dir, "second.db")
	s := openWith(t, path, smallLimits)
	require.NoError(t, os.Link(path, second))
	err := openErr(t, second)
	require.ErrorIs(t, err, inbox.ErrInUse)
	require.ErrorContains(t, err, second+" is in use by another inbox of this process, which has it open as "+path)
	load(t, s, 20, 1)
	require.NoError(t, s.Close())

	// neither from two processes
	c := startChild(t, "hold", path)
	c.line(t)
	err = openErr(t, second)
	require.ErrorIs(t, err, inbox.ErrInUse)
	require.ErrorContains(t, err, "another process, under another name of the same file")

	// nor if the lock file was removed
	require.NoError(t, os.Remove(path+lockSuffix))
	require.ErrorIs(t, openErr(t, path), inbox.ErrInUse)
	c.kill(t)
}

func TestFilesAreMadePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, defaultLimits)
	load(t, s, 1, 1)
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, os.Chmod(path+lockSuffix, 0o664))
	s = openWith(t, path, defaultLimits)
	load(t, s, 1, 1)
	for _, suffix := range []string{"", walSuffix, shmSuffix, lockSuffix} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), suffix)
	}
}
