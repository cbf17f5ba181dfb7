package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// quickly is within what time a caller is answered while the servers are away: the
// publish_timeout of these tests, and something for a busy machine.
const quickly = 2*time.Second + 3*time.Second

// refusesQuickly checks that a callback is refused, and quickly.
func (e *edge) refusesQuickly(task string) {
	e.gateway.t.Helper()
	began := time.Now()
	e.isRefusal(e.Post(notice(task, 1)))
	assert.Less(e.gateway.t, time.Since(began), quickly)
}

// While the servers are away, callers are asked to try again. When they are back, everything
// goes on by itself, including events that were accepted before.
func TestNATSIsAway(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	e := nats.Edge("forward "+up.URL+quick, "")
	var ids []string
	for i := range 20 {
		ids = append(ids, e.Accept(notice(fmt.Sprint("before-", i), 1)))
	}
	require.NoError(t, nats.Kill(0))
	for i := range 3 {
		e.refusesQuickly(fmt.Sprint("away-", i))
	}
	up.Answer(nil)
	nats.Heal(0)
	ids = append(ids, e.resume("after"))
	up.requireDelivered(t, ids)
	e.emptied()
	e.Leave()
}

// A connection on which nothing arrives is like servers that are away.
func TestNATSIsSilent(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, nil)
	e := nats.Edge("forward "+up.URL+quick, "")
	ids := []string{e.Accept(notice("before", 1))}
	nats.Cut(0)
	e.refusesQuickly("cut off")
	e.refusesQuickly("cut off too")
	nats.Mend(0)
	ids = append(ids, e.resume("after"))
	up.requireDelivered(t, ids)
	e.emptied()
	e.Leave()
}

// While the servers are away, a config is only loaded if it allows that. Then the gateway
// works once they are back.
func TestNATSIsAwayAtStart(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, nil)
	require.NoError(t, nats.Kill(0))
	g := newGateway(t)
	p := g.Launch(g.Caddyfile("forward "+up.URL+quick+nats.Inbox(""), "", quiet))
	assert.NotZero(t, p.ExitCode())
	assert.True(t, p.Output.Contains("start_without_server"), "the user is told what to do: %s", p.Output)

	e := nats.Edge("forward "+up.URL+quick, "start_without_server")
	e.refusesQuickly("away")
	nats.Heal(0)
	up.requireDelivered(t, []string{e.resume("after")})
	e.emptied()
	e.Leave()
}

// When the stream is full, callbacks are refused. They are accepted again once events have
// been delivered.
func TestNATSStreamIsFull(t *testing.T) {
	nats := newCluster(t, 3)
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	a, b := nats.Edge("forward "+up.URL+quick, "max_size 1MiB"), nats.Edge("forward "+up.URL+quick, "max_size 1MiB")
	ids := a.fill("task-")
	assert.Greater(t, len(ids), 100)
	b.isRefusal(b.Post(avatar("at the other")))
	await(t, func() bool { return a.Events("pending") == len(ids) }, "all that was accepted, and no more, to be pending")

	up.Answer(nil)
	up.requireDelivered(t, ids)
	for i := range len(ids) / 10 {
		ids = append(ids, b.resume(fmt.Sprint("after-", i)))
	}
	up.requireDelivered(t, ids)
	b.emptied()
	a.Leave()
	b.Leave()
}
