//go:build !windows

package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// requireBroken checks what callers and operators see of a broken inbox.
func (g *gateway) requireBroken(why string) {
	g.t.Helper()
	await(g.t, func() bool { return g.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`) == 0 }, "the loss to be noticed")
	g.isRefusal(g.Post(avatar("refused")))
	var h control.Handler
	require.NoError(g.t, json.Unmarshal([]byte(g.get("/fotor_webhook/default")), &h))
	assert.Contains(g.t, h.Error, why)
	assert.Contains(g.t, h.Error, "then reload or restart Caddy")
}

// If a file of the inbox is removed while it is in use, no callback is answered 200 that
// would be lost, and a reload, even of the same config, is enough to go on.
func TestRemovedInboxFile(t *testing.T) {
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		t.Run("inbox.db"+suffix, func(t *testing.T) {
			up := newUpstream(t, nil)
			g := newGateway(t)
			config := g.Caddyfile("forward "+up.URL+quick, "", silent)
			t.Cleanup(g.Stop)
			require.NoError(t, g.Load(config))
			g.Accept(avatar("before"))
			g.delivered(1)
			require.NoError(t, os.Remove(g.DB+suffix))
			g.requireBroken("inbox.db" + suffix + " was removed or renamed")

			require.NoError(t, g.Load(config))
			assert.InDelta(t, 1, g.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`), 0)
			ids := []string{g.Accept(avatar("after"))}
			up.requireDelivered(t, ids)
			g.Stop()
			want := 2
			if suffix == "" { // the new file was empty
				want = 1
			}
			assert.Equal(t, want, storedEvents(t, g.DB))
			checkFile(t, g.DB)
		})
	}
}

// storedEvents counts the events in a closed inbox file.
func storedEvents(t *testing.T, path string) (n int) {
	t.Helper()
	inFile(t, path, func(db *sql.DB) {
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(&n))
	})
	return n
}

// The content of an inbox whose file was removed can be saved and restored.
func TestRemovedInboxIsSavedAndRestored(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+quick, "", silent)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(config))
	var ids []string
	for i := range 50 {
		ids = append(ids, g.Accept(avatar(fmt.Sprint("task-", i))))
	}
	require.NoError(t, os.Remove(g.DB))
	g.requireBroken("was removed or renamed")
	saved := filepath.Join(t.TempDir(), "saved.db")
	assert.Contains(t, g.requireCLI("backup", saved), "50 events")
	require.NoError(t, os.Rename(saved, g.DB))
	up.Answer(nil)
	require.NoError(t, g.Load(config))
	ids = append(ids, g.Accept(avatar("after")))
	up.requireDelivered(t, ids)
	g.delivered(51)
}

// A config that fails to load after it has reopened the broken inbox leaves the running
// config with an inbox that works. One that cannot open the inbox changes nothing.
func TestBrokenInboxAndConfigsThatFail(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+quick, "", silent)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(config))
	g.Accept(avatar("before"))
	g.delivered(1)
	away := g.DB + ".away"
	require.NoError(t, os.Rename(g.DB, away))
	require.NoError(t, os.Mkdir(g.DB, 0o700))
	g.requireBroken("another file")
	for range 2 {
		require.Error(t, g.Load(config), "a directory is no inbox")
		g.requireBroken("another file")
	}

	require.NoError(t, os.Remove(g.DB))
	require.NoError(t, os.Rename(away, g.DB))
	taken := listen(t, "127.0.0.1:0")
	defer taken.Close()
	await(t, func() bool { // Caddy opens the port before or after it starts the gateway, by chance
		require.Error(t, g.Load(config+fmt.Sprintf("http://%s {\nrespond 200\n}\n", taken.Addr())), "the port is in use")
		return g.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`) == 1
	}, "the inbox to be opened anew by a config that fails")
	ids := []string{g.Accept(avatar("after"))}
	up.requireDelivered(t, ids)
	g.delivered(2)
	require.NoError(t, g.Load(config))
	g.Accept(avatar("later"))
	g.delivered(3)
}

// A file with two names cannot be used by two handlers, nor by two Caddys.
func TestTwoNamesOfOneFile(t *testing.T) {
	g := newGateway(t)
	config := g.Caddyfile("forward http://127.0.0.1:9", "", silent)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(config))
	g.Stop()
	second := filepath.Join(filepath.Dir(g.DB), "second.db")
	require.NoError(t, os.Link(g.DB, second))
	two := g.Caddyfile("forward http://127.0.0.1:9", "handle /second {\nfotor_webhook {\nname second\nallow 127.0.0.1\ninbox sqlite "+second+"\nforward http://127.0.0.1:9\n}\n}", silent)
	require.ErrorContains(t, g.Load(two), "only one can use it at a time")
	require.NoError(t, g.Load(config))
	other := newGateway(t)
	other.DB = second
	p := other.Launch(other.Caddyfile("forward http://127.0.0.1:9", "", quiet))
	assert.NotZero(t, p.ExitCode())
	assert.True(t, p.Output.Contains("only one can use it at a time"), "%s", p.Output)
}

// A backup is complete, and readable only by its owner. An existing file is not replaced.
func TestBackupCommand(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", silent)
	for i := range 20 {
		g.Accept(avatar(fmt.Sprint("task-", i)))
	}
	g.delivered(20)
	dir := t.TempDir()
	file := filepath.Join(dir, "copy.db")
	var done struct {
		File   string
		Bytes  int64
		Events int64
	}
	require.NoError(t, json.Unmarshal([]byte(g.requireCLI("backup", file, "--json")), &done))
	assert.Equal(t, int64(20), done.Events)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Equal(t, info.Size(), done.Bytes)
	checkFile(t, file)

	s := g.CLI("backup", file)
	assert.Equal(t, 1, s.Code)
	assert.Contains(t, s.ErrOut, "is there already")
	s = g.CLI("backup", filepath.Join(dir, "nowhere", "copy.db"))
	assert.Equal(t, 1, s.Code)
	s = g.CLI("backup", filepath.Join(dir, "other.db"), "--handler", "none")
	assert.Equal(t, 4, s.Code)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing of a backup that failed is left")

	g.Stop()
	require.NoError(t, os.Remove(g.DB))
	require.NoError(t, os.Rename(file, g.DB))
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+quick, "", silent)))
	assert.True(t, g.Post(avatar("task-3")).Duplicate)
}
