package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// Only a full disk is called full.
func TestReserveThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	require.NoError(t, os.Mkdir(path+reserveSuffix, 0o700))
	err := openErr(t, path)
	require.ErrorContains(t, err, "setting room aside for a full disk: open "+path+reserveSuffix)
	require.NotErrorIs(t, err, inbox.ErrFull)
}

// A reserve that cannot be freed is not spent: no disk is full then, and no room comes back.
func TestReserveThatCannotBeFreed(t *testing.T) {
	s := openTest(t)
	reserve := s.path + reserveSuffix
	require.NoError(t, os.Remove(reserve))
	require.NoError(t, os.MkdirAll(filepath.Join(reserve, "not empty"), 0o700))
	require.NoError(t, inWriter(s, func(x *tx) error {
		require.False(t, x.w.spendReserve())
		require.False(t, x.w.reserve.spent)
		return nil
	}))
	inboxtest.Put(t, s, newEvent())
	require.NoError(t, os.RemoveAll(reserve))
	_, err := s.Stats(context.Background())
	require.NoError(t, err)
}
