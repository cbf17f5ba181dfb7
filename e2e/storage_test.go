package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fill posts callbacks until one is refused with a proper answer, and returns the ids of
// those that were accepted.
func (g *gateway) fill(prefix string) (ids []string) {
	g.t.Helper()
	for i := range 50_000 {
		answer := g.Post(avatar(fmt.Sprint(prefix, i)))
		if answer.Status == http.StatusOK {
			ids = append(ids, answer.ID)
			continue
		}
		g.isRefusal(answer)
		return ids
	}
	require.FailNow(g.t, "the storage does not get full")
	return nil
}

func (g *gateway) isRefusal(answer reply) {
	g.t.Helper()
	require.Equal(g.t, http.StatusServiceUnavailable, answer.Status, answer.Body)
	assert.Equal(g.t, "5", answer.Header.Get("Retry-After"))
	assert.Equal(g.t, "application/problem+json", answer.Header.Get("Content-Type"))
	assert.NotContains(g.t, answer.Body, filepath.Dir(g.DB), "callers need not know where")
}

// resume posts a callback until it is accepted, and returns its id.
func (g *gateway) resume(task string) (id string) {
	g.t.Helper()
	await(g.t, func() bool {
		answer := g.Post(avatar(task))
		id = answer.ID
		return answer.Status == http.StatusOK
	}, "a callback to be accepted")
	return id
}

// requireDelivered waits until every event has arrived at the upstream.
func (u *upstream) requireDelivered(t *testing.T, ids []string) {
	t.Helper()
	await(t, func() bool {
		counts := u.Counts()
		for _, id := range ids {
			if counts[id] == 0 {
				return false
			}
		}
		return true
	}, "the delivery of all of %d accepted events", len(ids))
}

// When the inbox is full of pending events, callbacks are refused. They are accepted again
// once events have been delivered, or after a reload with a higher limit.
func TestFullInbox(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	load := func(size string) {
		require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+quick+g.Sized(size), "", quiet)))
	}
	t.Cleanup(g.Stop)
	load("1MiB")
	ids := g.fill("task-")
	assert.Greater(t, len(ids), 50)
	repeat := g.Post(avatar("task-0"))
	assert.Equal(t, http.StatusOK, repeat.Status, "what is there already needs no room")
	assert.Equal(t, ids[0], repeat.ID)
	size := g.Metric(`caddy_fotor_webhook_inbox_bytes{handler="default"}`)
	assert.InEpsilon(t, 1<<20, size, 0.1)
	assert.Equal(t, len(ids), g.Events("pending"))

	load("2MiB")
	ids = append(ids, g.Accept(avatar("larger")))
	ids = append(ids, g.fill("more-")...)
	attempts := len(up.Deliveries())
	up.Answer(nil)
	up.requireDelivered(t, ids)

	// delivered events make room, although they are not old
	for i := range 2 * len(ids) {
		ids = append(ids, g.resume(fmt.Sprint("after-", i)))
	}
	await(t, func() bool { return g.Events("pending") == 0 }, "the backlog to go out")
	counts := countByID(up.Deliveries()[attempts:])
	missing := 0
	for _, id := range ids {
		if counts[id] == 0 {
			missing++
		}
	}
	assert.Zero(t, missing, "of %d", len(ids))
}

func TestValidateBesideRunningCaddy(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := configFile(t, g.Caddyfile("forward "+up.URL, "", quiet))
	p := start(t, command(t, "run", "--adapter", "caddyfile", "--config", config))
	c := call(t, g.URL(), 2)
	c.AwaitAnswers(t, 10)
	for range 3 {
		beside := launch(t, command(t, "validate", "--adapter", "caddyfile", "--config", config))
		assert.Zero(t, beside.ExitCode(), "%s", beside.Output)
		assert.True(t, beside.Output.Contains("Valid configuration"), "%s", beside.Output)
		c.AwaitAnswers(t, 10)
	}
	c.Stop()
	assert.Zero(t, c.Broken())
	await(t, func() bool { return g.Events("pending") == 0 }, "the backlog to go out")
	c.Check(t, up.Deliveries(), func(delivery) bool { return true })
	p.Terminate()
	require.Zero(t, p.ExitCode())
	assert.Empty(t, p.Output.String(), "nothing went wrong")
}

func TestSecondProcessWithTheSameFile(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	p := g.Run(g.Caddyfile("forward "+up.URL, "", quiet))
	other := newGateway(t)
	other.DB = g.DB
	second := other.Launch(other.Caddyfile("forward "+up.URL, "", quiet))
	assert.NotZero(t, second.ExitCode())
	assert.True(t, second.Output.Contains(fmt.Sprintf("%s is in use by process %d", g.DB, p.cmd.Process.Pid)), "%s", second.Output)
	up.requireDelivered(t, []string{g.Accept(notice("task", 1))})
}
