package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// waiting returns the numbers of pending events that the log reports, by inbox.
func waiting(t *testing.T, path string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	found := make(map[string]int)
	for raw := range bytes.Lines(text) {
		var line struct {
			Msg, Storage, Level string
			Pending             int
		}
		require.NoError(t, json.Unmarshal(raw, &line))
		if strings.Contains(line.Msg, "events wait in an inbox that no handler") {
			assert.Equal(t, "warn", line.Level)
			found[line.Storage] += line.Pending
		}
	}
	return found
}

func TestInboxesWithoutAHandlerAreNotLostSightOf(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	dir := filepath.Join(caddy.AppDataDir(), "fotor_webhook")
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	options, log := logger(t, "json")
	shop := func(name string) string { return "name " + name + "\ninbox sqlite\nforward " + up.URL + quick }
	outside := "fotor_webhook /outside {\nname outside\nallow 127.0.0.1\nforward " + up.URL + "\ninbox sqlite " + g.DB + "\n}"
	g.Start(shop("shop"), outside, options)
	for i := range 3 {
		g.Accept(notice(fmt.Sprint("task-", i), 1))
		answer := do(t, newRequest(t, strings.Replace(g.URL(), "callback", "outside", 1), strings.NewReader(notice(fmt.Sprint("task-", i), 1))))
		require.Equal(t, http.StatusOK, answer.Status)
	}
	unattended := func() []control.Unattended { return ask[control.Handlers](g, http.MethodGet, "", "").Unattended }
	assert.Empty(t, unattended())

	// other files that may be there
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken.db"), []byte(strings.Repeat("no database ", 1000)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.db"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.db"), 0o700))

	// one is renamed, the other removed
	require.NoError(t, g.Load(g.Caddyfile(shop("store"), "", options)))
	shopKey, outsideKey := "sqlite:"+dir+"/shop.db", "sqlite:"+g.DB
	assert.Equal(t, map[string]int{shopKey: 3, outsideKey: 3}, waiting(t, log))
	before := sum(t, dir+"/shop.db")
	listed := func() (found []control.Unattended) {
		for _, u := range unattended() {
			if u.Storage == "sqlite:"+dir+"/broken.db" {
				assert.Contains(t, u.Error, "not an SQLite file")
				continue
			}
			found = append(found, u)
		}
		return found
	}
	both := []control.Unattended{{Storage: shopKey, Pending: 3}, {Storage: outsideKey, Pending: 3}}
	for range 2 {
		assert.ElementsMatch(t, both, listed())
		require.NoError(t, g.Load(g.Caddyfile(shop("store"), "", options))) // after which it is looked at again
	}
	assert.Equal(t, before, sum(t, dir+"/shop.db"), "looking changes nothing")
	assert.NoFileExists(t, dir+"/shop.db-wal")

	// used again, by a handler of another name
	up.Answer(nil)
	took := "name elsewhere\ninbox sqlite " + dir + "/shop.db\nforward " + up.URL + quick
	require.NoError(t, g.Load(g.Caddyfile(took, "", options)))
	await(t, func() bool { return g.Metric(`caddy_fotor_webhook_events{handler="elsewhere",state="delivered"}`) == 3 }, "what waited")
	assert.ElementsMatch(t, both[1:], listed())

	// without any handler there is no app either
	without := g.Globals(options) + g.Site("respond 404")
	up.Answer(status(http.StatusServiceUnavailable))
	g.Accept(notice("late", 1))
	require.NoError(t, g.Load(without))
	assert.Equal(t, 4, waiting(t, log)[shopKey])
	assert.ElementsMatch(t, []control.Unattended{{Storage: shopKey, Pending: 1}, both[1]}, listed())
}

func sum(t *testing.T, path string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return sha256.Sum256(b)
}

// A process that has never had a handler for the inbox finds it too.
func TestInboxWithoutAHandlerIsToldOfAtStart(t *testing.T) {
	home := openDir(t)
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	run := func(name string) *process {
		cmd := command(t, "run", "--adapter", "caddyfile", "--config",
			configFile(t, g.Caddyfile("name "+name+"\ninbox sqlite\nforward "+up.URL, "", "")))
		cmd.Env = append(cmd.Env, "XDG_DATA_HOME="+home)
		return start(t, cmd)
	}
	first := run("shop")
	g.Accept(notice("task", 1))
	first.Kill() // the SQLite log is not merged into the file then
	second := run("store")
	await(t, func() bool {
		return strings.Contains(second.Output.String(), "events wait in an inbox that no handler")
	}, "the warning")
	assert.Contains(t, second.Output.String(), `fotor_webhook/shop.db","pending":1`)
	third := ask[control.Handlers](g, http.MethodGet, "", "")
	require.Len(t, third.Unattended, 1)
	second.Kill()
	assert.Equal(t, 0, strings.Count(second.Output.String(), "panic"))
	run("shop")
	await(t, func() bool { return g.Metric(`caddy_fotor_webhook_events{handler="shop",state="pending"}`) == 1 }, "the event is still there")
}
