package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// survey inspects the default directory, which is dir/caddy/fotor_webhook.
func survey(t *testing.T, keys ...string) []inbox.Unattended {
	t.Helper()
	found, more, err := new(Inbox).Survey(context.Background(), keys)
	require.NoError(t, err)
	require.False(t, more)
	return found
}

func TestSurveyFindsWhatNobodyHas(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	require.Empty(t, survey(t), "no folder yet")
	dir := defaultDir()
	path := filepath.Join(dir, "shop.db")
	s := openWith(t, path, smallLimits)
	for range 3 {
		inboxtest.Put(t, s, newEvent())
	}
	require.Empty(t, survey(t), "it is open here")

	// after a crash: the events are in the log
	crashed := filepath.Join(dir, "crashed.db")
	copyFile(t, path, crashed)
	copyFile(t, path+"-wal", crashed+"-wal")
	before, err := os.ReadFile(crashed + "-wal")
	require.NoError(t, err)
	found := survey(t)
	require.Equal(t, []inbox.Unattended{{Key: "sqlite:" + crashed, Pending: 3}}, found)
	after, err := os.ReadFile(crashed + "-wal")
	require.NoError(t, err)
	require.Equal(t, before, after)

	require.NoError(t, s.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	found = survey(t)
	require.Equal(t, []inbox.Unattended{{Key: "sqlite:" + crashed, Pending: 3}, {Key: "sqlite:" + path, Pending: 3}}, found)
	same, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, info.ModTime(), same.ModTime())
	require.Equal(t, info.Size(), same.Size())
	require.NoFileExists(t, path+"-shm")

	// used by another, living process
	require.NoError(t, os.WriteFile(path+lockSuffix, []byte(strconv.Itoa(os.Getppid())+"\n"), 0o600))
	require.Len(t, survey(t), 1)
	require.NoError(t, os.WriteFile(path+lockSuffix, []byte("2147483646\n"), 0o600))
	require.Len(t, survey(t), 2, "that one has died")

	reopened := openWith(t, crashed, smallLimits)
	stats, err := reopened.Stats(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 3, stats.Events[inbox.Pending])
}

func TestSurveyLooksWhereItIsToldAndPassesOverTheRest(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	dir := defaultDir()
	elsewhere := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, elsewhere, smallLimits)
	inboxtest.Put(t, s, newEvent())
	require.NoError(t, s.Close())
	empty := openWith(t, filepath.Join(dir, "nothing.db"), smallLimits)
	require.NoError(t, empty.Close())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken.db"), make([]byte, 10_000), 0o600))
	foreign, err := connect(context.Background(), filepath.Join(dir, "foreign.db"))
	require.NoError(t, err)
	require.NoError(t, foreign.exec(`CREATE TABLE t (x)`))
	require.NoError(t, foreign.close())
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.db"), 0o700))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, "link.db")))
	require.NoError(t, os.Symlink(dir+"/nowhere", filepath.Join(dir, "dangling.db")))

	found := survey(t, "nats:nats://127.0.0.1:4222/X", "sqlite:"+elsewhere, "sqlite:"+dir+"/gone.db")
	require.Len(t, found, 2)
	require.Equal(t, "sqlite:"+filepath.Join(dir, "broken.db"), found[0].Key)
	require.ErrorContains(t, found[0].Err, "not an SQLite file")
	require.Equal(t, inbox.Unattended{Key: "sqlite:" + elsewhere, Pending: 1}, found[1], "once, though it is found twice")
	require.NoFileExists(t, dir+"/gone.db")
}

func TestSurveyIsBounded(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	dir := defaultDir()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for i := range maxSurveyed + 10 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.db", i)), []byte("not a database, nor empty"), 0o600))
	}
	found, more, err := new(Inbox).Survey(context.Background(), nil)
	require.NoError(t, err)
	require.True(t, more)
	require.LessOrEqual(t, len(found), maxSurveyed)

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	found, more, err = new(Inbox).Survey(ended, nil)
	require.NoError(t, err)
	require.True(t, more)
	require.Empty(t, found)
}
