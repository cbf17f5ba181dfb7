package e2e

import (
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

var caddyKills = flag.Int("nats.caddykills", 4, "how often TestNATSDestinations kills a Caddy")

// Two Caddys share the deliveries to three destinations. Whichever is killed, each
// destination gets everything, and none waits for the one that is away.
func TestNATSDestinations(t *testing.T) {
	nats := newCluster(t, 3)
	to := newThree(t)
	edges := []*edge{nats.Edge(to.Options(), ""), nats.Edge(to.Options(), "")}
	all := []*callers{call(t, edges[0].URL(), 4, edges[1].URL()), call(t, edges[1].URL(), 4, edges[0].URL())}
	killInTurn(t, edges, all, *caddyKills)
	for _, name := range []string{"well", "moody"} {
		edges[0].emptiedAt(name)
	}
	assert.NotZero(t, edges[0].pendingAt("away"))
	to.Return()
	edges[0].emptied()
	nats.StoredOnce()
	unavailable := 0
	for _, c := range all {
		unavailable += c.Unavailable()
	}
	t.Logf("%d Caddys killed, %d requests answered 503, %d repeats", *caddyKills, unavailable, to.Check(all...))
	for _, e := range edges {
		e.Leave()
	}
}

// A destination that one Caddy's new config has not got any more stays served by the
// other, and what is left after that waits until it is configured again.
func TestNATSDestinationIsTakenAway(t *testing.T) {
	nats := newCluster(t, 1)
	to := newThree(t)
	a, b := nats.Edge(to.Options(), ""), nats.Edge(to.Options(), "")
	const events = 20
	accept := func(from, count int, e *edge) {
		for n := range count {
			e.Accept(notice(fmt.Sprint("task-", from+n), 1))
		}
	}
	accept(0, events, a)
	to.well.Await(t, events)
	await(t, func() bool { return a.pendingAt("away") == events && a.pendingAt("moody") == 0 }, "the two to get all")

	without := "destination well {\nforward " + to.well.URL + "\n}" + quick
	a.Leave()
	a.config = a.Caddyfile(without+nats.Inbox(""), "", quiet)
	a.Again()
	accept(events, events, b)
	to.well.Await(t, 2*events)
	await(t, func() bool { return b.pendingAt("away") == 2*events && b.pendingAt("moody") == 0 }, "the other one to deliver")
	b.Leave()
	accept(2*events, events, a)
	to.well.Await(t, 3*events)
	await(t, func() bool { return a.pendingAt("away") == 2*events }, "what is left to be counted")

	to.Return()
	b.Again()
	to.away.Await(t, 2*events)
	b.emptied()
	assert.Zero(t, repeated(to.away.Counts()))
	assert.Zero(t, repeated(to.well.Counts()))
	a.Leave()
	b.Leave()
}
