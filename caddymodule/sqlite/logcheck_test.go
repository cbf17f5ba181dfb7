//go:build !windows

package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// requireSound checks that the file opens, is sound and takes events.
func requireSound(t *testing.T, path string) (pending int64) {
	t.Helper()
	s := openWith(t, path, defaultLimits)
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	inboxtest.Put(t, s, newEvent())
	require.NoError(t, s.read(context.Background(), func(c *conn) error {
		return c.checkIntegrity(context.Background(), `PRAGMA integrity_check(1)`)
	}))
	require.NoError(t, s.Close())
	return stats.Events[inbox.Pending]
}

// What was in the log is gone. What SQLite would write behind the gap would be lost as
// well, and the gap would get into the database.
func TestShortenedLog(t *testing.T) {
	const before = 50
	for name, keep := range map[string]int64{"emptied": 0, "shortened": 100_000} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "inbox.db")
			s := openWith(t, path, eagerLimits())
			load(t, s, before, 1)
			require.Greater(t, logSize(s), keep)
			require.NoError(t, os.Truncate(path+walSuffix, keep))
			requireBroken(t, s)
			require.ErrorContains(t, s.Broken(), path+walSuffix+" was emptied or shortened: it has ")
			inboxtest.Eventually(t, func() bool {
				_, err := os.Stat(path + walSuffix + asideSuffix)
				return err == nil
			})
			require.NoError(t, s.Close())
			require.LessOrEqual(t, requireSound(t, path), int64(before))
		})
	}
}

func TestShortenedLogIsNoticedWithoutCallbacks(t *testing.T) {
	s := openTest(t)
	load(t, s, 20, 1)
	require.NoError(t, os.Truncate(s.path+walSuffix, 0))
	inboxtest.Eventually(t, func() bool { return s.Broken() != nil })
	require.ErrorContains(t, s.Broken(), s.path+walSuffix+" was emptied or shortened")
}

// Between two checks of the files, the log is looked at before it is copied.
func TestShortenedLogIsNotCopied(t *testing.T) {
	l := eagerLimits()
	l.verifyPause = time.Hour
	for _, keep := range []int64{0, 50_000} {
		path := filepath.Join(t.TempDir(), "inbox.db")
		s := openWith(t, path, l)
		load(t, s, 20, 1)
		require.NoError(t, inWriter(s, func(x *tx) error { return os.Truncate(path+walSuffix, keep) }))
		for n := 0; s.Broken() == nil; n++ {
			require.Less(t, n, 1000)
			if _, err := s.Put(context.Background(), newEvent()); err != nil {
				require.ErrorIs(t, err, inbox.ErrBroken)
			}
		}
		require.ErrorContains(t, s.Broken(), "was emptied or shortened")
		require.NoError(t, s.Close())
		requireSound(t, path)
	}
}

func TestShortenedIndexOfTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	s, err := open(context.Background(), testOptions(path, eagerLimits()))
	require.NoError(t, err)
	load(t, s, 20, 1)
	require.NoError(t, os.Truncate(path+shmSuffix, 0))
	requireBroken(t, s)
	require.ErrorContains(t, s.Broken(), path+shmSuffix+" was emptied or shortened")
	require.Error(t, s.Close(), "the log cannot be copied")
	require.EqualValues(t, 20, requireSound(t, path))
}

// Other processes may copy, empty and shorten the log the way SQLite does it, and write.
func TestLogShortenedBySQLite(t *testing.T) {
	l := eagerLimits()
	l.logFrames = 32
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), l)
	other, err := connect(context.Background(), s.path)
	require.NoError(t, err)
	require.NoError(t, other.exec(`CREATE TABLE other AS SELECT 1 AS a`))
	require.NoError(t, other.close())
	others := make(chan error, 2)
	for _, statements := range [][]string{
		{`PRAGMA wal_checkpoint(TRUNCATE)`},
		{`PRAGMA journal_size_limit = 1000`, `PRAGMA wal_checkpoint(RESTART)`, `UPDATE other SET a = a + 1`},
	} {
		go func() {
			others <- func() error {
				c, err := connect(context.Background(), s.path)
				if err != nil {
					return err
				}
				for range 50 {
					for _, q := range statements {
						if err := setUp(c, []string{q}); err != nil && code(err)&0xff != sqlite3.SQLITE_BUSY {
							return errors.Join(err, c.close())
						}
					}
				}
				return c.close()
			}()
		}()
	}
	load(t, s, 500, 8)
	require.NoError(t, errors.Join(<-others, <-others))
	load(t, s, 100, 1)
	require.NoError(t, s.Broken())
}

func TestFailedCheckpointsAreLoggedRarely(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	c := newClock()
	s := openTest(t, func(o *options) { o.log, o.now = zap.New(core), c.now })
	fail := func() {
		require.NoError(t, inWriter(s, func(x *tx) error {
			for range 100 {
				x.w.checkpoint.logFailure(errors.New("the disk fails"))
			}
			return nil
		}))
	}
	fail()
	require.Equal(t, 1, logs.FilterMessage("checkpoint failed").Len())
	c.advance(failureLogPause)
	fail()
	require.Equal(t, 2, logs.FilterMessage("checkpoint failed").Len())
}
