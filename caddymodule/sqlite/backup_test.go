package sqlite

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// writerFunc is an io.Writer made of a function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// A backup has the state of one moment, whatever is stored while it is made.
func TestBackupWhileCallbacksArrive(t *testing.T) {
	s := openTest(t)
	load(t, s, 500, 8)
	path := filepath.Join(t.TempDir(), "copy.db")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	var info inbox.BackupInfo
	written := int64(0)
	err = s.Backup(context.Background(), func(i inbox.BackupInfo) (io.Writer, error) {
		info = i
		return writerFunc(func(b []byte) (int, error) {
			load(t, s, 100, 8) // the backup blocks nobody
			written += int64(len(b))
			return f.Write(b)
		}), nil
	})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, int64(500), info.Events)
	require.Equal(t, info.Bytes, written)
	events, err := new(Inbox).Verify(context.Background(), path)
	require.NoError(t, err)
	require.Equal(t, int64(500), events)
	require.NoFileExists(t, path+walSuffix)

	restored := openWith(t, path, defaultLimits)
	stats, err := restored.Stats(context.Background())
	require.NoError(t, err)
	require.Equal(t, int64(500), stats.Events[inbox.Pending])
	load(t, restored, 10, 1)
}

func TestBackupsOneAtATime(t *testing.T) {
	s := openTest(t)
	load(t, s, 10, 1)
	err := s.Backup(context.Background(), func(inbox.BackupInfo) (io.Writer, error) {
		require.ErrorIs(t, s.Backup(context.Background(), nil), inbox.ErrBackupUnderWay)
		return io.Discard, nil
	})
	require.NoError(t, err)
	full := errors.New("no room there")
	require.ErrorIs(t, s.Backup(context.Background(), func(inbox.BackupInfo) (io.Writer, error) {
		return writerFunc(func([]byte) (int, error) { return 0, full }), nil
	}), full)
	ctx, cancel := context.WithCancel(context.Background())
	load(t, s, 1000, 16)
	require.ErrorIs(t, s.Backup(ctx, func(inbox.BackupInfo) (io.Writer, error) {
		cancel()
		return io.Discard, nil
	}), context.Canceled)
	require.NoError(t, s.Broken())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Backup(context.Background(), nil), inbox.ErrClosed)
}

// The log cannot restart while a copy is made, so a slow reader could fill the
// disk.
func TestBackupThatTakesTooMuch(t *testing.T) {
	s := openTest(t, func(o *options) { o.maxSize = 64 << 20 })
	load(t, s, 2000, 32)
	begun := false
	err := s.Backup(context.Background(), func(inbox.BackupInfo) (io.Writer, error) {
		return writerFunc(func(b []byte) (int, error) {
			if !begun { // their bodies alone are more than 8 MiB
				load(t, s, 8000, 32)
				begun = true
			}
			return len(b), nil
		}), nil
	})
	require.ErrorContains(t, err, "were stored while it was made")
	load(t, s, 10, 1)
}

// What was in a removed file can still be saved.
func TestBackupOfALostFile(t *testing.T) {
	s := openTest(t)
	load(t, s, 30, 1)
	require.NoError(t, os.Remove(s.path))
	inboxtest.Eventually(t, func() bool { return s.Broken() != nil })
	events, err := new(Inbox).Verify(context.Background(), backupOf(t, s))
	require.NoError(t, err)
	require.GreaterOrEqual(t, events, int64(30))
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	s := openTest(t)
	load(t, s, 500, 8)
	good, err := os.ReadFile(backupOf(t, s))
	require.NoError(t, err)
	var index int64 // page of an index that no other query needs
	require.NoError(t, s.read(context.Background(), func(c *conn) (err error) {
		index, err = c.number(`SELECT rootpage FROM sqlite_schema WHERE name = 'delivery_dead'`)
		return err
	}))
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"cut off":  {func(b []byte) []byte { return b[:len(b)/2] }, "damaged"},
		"empty":    {func([]byte) []byte { return nil }, "it is empty"},
		"a page":   {func(b []byte) []byte { clear(b[len(b)-pageSize:]); return b }, "damaged"},
		"an index": {func(b []byte) []byte { clear(b[(index-1)*pageSize : index*pageSize]); return b }, "damaged"},
		"no inbox": {func(b []byte) []byte { clear(b[:100]); return b }, "not an SQLite file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "copy.db")
			require.NoError(t, os.WriteFile(path, c.change(append([]byte(nil), good...)), 0o600))
			_, err := new(Inbox).Verify(context.Background(), path)
			require.ErrorContains(t, err, c.want)
		})
	}
}
