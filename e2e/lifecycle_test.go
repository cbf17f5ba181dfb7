package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// After a config is unloaded, none of its goroutines are left.
func TestUnloadLeavesNoGoroutines(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, nil)
		g := newGateway(t)
		cycle := func(name string) {
			require.NoError(t, g.Load(strings.Replace(g.Caddyfile(forward(up.URL)+quick, "", quiet), fmt.Sprintf("admin 127.0.0.1:%d", g.Admin), "admin off", 1)))
			seen := len(up.Deliveries())
			for i := range 10 {
				g.Accept(avatar(fmt.Sprint(name, i)))
			}
			up.Await(t, seen+10)
			g.Stop()
			up.CloseClientConnections()
		}
		// some of Caddy's own stay until the process ends
		cycle("warm-up-")
		known := goleak.IgnoreCurrent()
		for i := range 3 {
			cycle(fmt.Sprintf("cycle-%d-", i))
		}
		var leaked error
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if leaked = goleak.Find(known); leaked == nil {
				break
			}
		}
		require.NoError(t, leaked)
		assert.NoFileExists(t, g.DB+"-wal", "the file was closed in good order")
		checkFile(t, g.DB)
	})
}

const grace = "grace_period 2s\n" + quiet

// On SIGTERM an attempt under way may finish within the grace period, and counts.
func TestStopWaitsForAttempts(t *testing.T) {
	release := make(chan struct{})
	up := newUpstream(t, func(http.ResponseWriter, delivery) { <-release })
	defer func() { // in case the test fails before
		select {
		case <-release:
		default:
			close(release)
		}
	}()
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+"\ntimeout 10m", "", "grace_period 10m")
	p := g.Run(config)
	id := g.Accept(notice("task", 1))
	up.Await(t, 1)
	p.Terminate()
	await(t, func() bool { return p.Output.Contains("exiting") }, "Caddy to begin to end")
	require.True(t, p.Running(), "it waits for the attempt")
	close(release)
	assert.Zero(t, p.ExitCode(), "%s", p.Output)

	p = g.Run(config)
	answer := g.Post(notice("task", 1))
	assert.True(t, answer.Duplicate)
	assert.Equal(t, id, answer.ID)
	g.Accept(notice("next", 1))
	g.delivered(2)
	assert.Len(t, up.Deliveries(), 2, "what was delivered is not delivered again")
	p.Terminate()
	assert.Zero(t, p.ExitCode(), "%s", p.Output)
}

// An attempt that takes longer than the grace period is broken off. It does not count, and
// the event is attempted again after the restart.
func TestStopBreaksSilentAttemptsOff(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		release := make(chan struct{})
		up := newUpstream(t, func(http.ResponseWriter, delivery) { <-release })
		defer close(release)
		g := newGateway(t)
		config := g.Caddyfile(forward(up.URL)+"\ntimeout 10m", "", grace)
		p := g.Run(config)
		ids := map[string]int{g.Accept(notice("a", 1)): 1, g.Accept(notice("b", 1)): 1}
		up.Await(t, 2)
		p.Terminate()
		assert.Zero(t, p.ExitCode(), "%s", p.Output) // before the ten minutes are over

		up.Answer(nil)
		p = g.Run(config)
		g.delivered(2)
		again := up.Deliveries()[2:]
		for _, d := range again {
			assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"))
		}
		assert.Equal(t, ids, countByID(again))
		p.Terminate()
		assert.Zero(t, p.ExitCode(), "%s", p.Output)
	})
}

// A callback that is being received on SIGTERM is still accepted.
func TestStopFinishesCallbacksUnderWay(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL, "", "grace_period 10m\n"+quiet)
	p := g.Run(config)
	slow := g.begin(notice("slow", 1))
	p.Terminate()
	await(t, func() bool { return !listens(t, g.Port) }, "Caddy to listen no more")
	assert.Equal(t, http.StatusOK, slow.finish(t))
	assert.Zero(t, p.ExitCode(), "%s", p.Output)

	p = g.Run(config)
	g.delivered(1)
	assert.Equal(t, "slow", up.Deliveries()[0].Event.TaskID)
	p.Terminate()
	assert.Zero(t, p.ExitCode(), "%s", p.Output)
	checkFile(t, g.DB)
}

// So is one that is being received when a reload removes the handler, also if another one
// brings it back before the callback is complete.
func TestRemovalFinishesCallbacksUnderWay(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	with := g.Caddyfile("forward "+up.URL, "", quiet)
	without := g.Globals("") + g.Site("respond 404")
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(with))
	slow := g.begin(notice("slow", 1))
	require.NoError(t, g.Load(without))
	assert.Equal(t, http.StatusOK, slow.finish(t), "the inbox stays open for it")
	await(t, func() bool { return !exists(g.DB + "-wal") }, "the file to be closed")
	assert.Empty(t, up.Deliveries())

	require.NoError(t, g.Load(with))
	g.delivered(1)
	slower := g.begin(notice("slower", 1))
	require.NoError(t, g.Load(without))
	require.NoError(t, g.Load(with), "the file is still open, and is used as it is")
	g.Accept(notice("meanwhile", 1))
	g.delivered(2)
	assert.Equal(t, http.StatusOK, slower.finish(t))
	g.delivered(3)
	assert.Len(t, up.Deliveries(), 3)
	g.Stop()
	assert.False(t, exists(g.DB+"-wal"), "the file is closed")
}

func exists(path string) bool {
	found, err := filepath.Glob(path)
	return err == nil && len(found) > 0
}
