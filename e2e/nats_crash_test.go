package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var natsKills = flag.Int("nats.kills", 10, "how often TestNATSLeaderIsKilled kills a server")

// patient sets the default publish_timeout, in which another server can take over.
const patient = "publish_timeout 10s"

// Whenever and however often the server that leads the stream is killed, each callback that
// was answered 200 reaches the upstream.
func TestNATSLeaderIsKilled(t *testing.T) {
	nats := newCluster(t, 3)
	up := newUpstream(t, picky)
	a, b := nats.Edge("forward "+up.URL+quick, patient), nats.Edge("forward "+up.URL+quick, patient)
	all := []*callers{call(t, a.URL(), 4, b.URL()), call(t, b.URL(), 4, a.URL())}
	var longest time.Duration
	for kill := range *natsKills {
		all[0].AwaitAnswers(t, 20)
		all[1].AwaitAnswers(t, 20)
		leader := nats.Leader()
		killed := time.Now()
		require.NoError(t, nats.Kill(leader))
		for _, c := range all {
			c.AwaitAnswers(t, 20) // by the other servers alone
		}
		longest = max(longest, time.Since(killed))
		nats.Heal(leader)
		t.Logf("kill %d, of server %d: %s in all", kill, leader, time.Since(killed))
	}
	for _, c := range all {
		c.Stop()
	}
	a.emptied()
	nats.StoredOnce()
	repeats := a.tally(up, all...)
	a.Leave()
	b.Leave()
	t.Logf("%d leaders killed, %d repeats; callbacks were taken again within %s", *natsKills, repeats, longest)
}

// Events that a Caddy had leased when it was killed are delivered by another one.
func TestNATSCaddyIsKilled(t *testing.T) {
	const events = 10
	nats := newCluster(t, 3)
	stuck := make(chan struct{})
	up := newUpstream(t, func(w http.ResponseWriter, _ delivery) {
		<-stuck
		w.WriteHeader(http.StatusNoContent)
	})
	a := nats.Edge("forward "+up.URL+quick, "")
	for i := range events {
		a.Accept(notice(fmt.Sprint("task-", i), 1))
	}
	up.Await(t, events)
	b := nats.Edge("forward "+up.URL+quick, "")
	killed := time.Now()
	a.Kill()
	up.Answer(nil)
	close(stuck)
	up.Await(t, 2*events)
	took := time.Since(killed)
	b.delivered(events)
	b.Leave()
	t.Logf("%d events were leased; another had delivered them after %s", events, took)
	assert.Less(t, took, 15*time.Second, "with leases of 5 s")
	for id, times := range up.Counts() {
		assert.Equal(t, 2, times, "attempts of %s", id)
	}
}

// Nothing is lost when Caddys are killed under load, one after the other, and restarted.
func TestNATSCaddysAreKilledUnderLoad(t *testing.T) {
	const kills = 4
	nats := newCluster(t, 3)
	up := newUpstream(t, picky)
	edges := []*edge{nats.Edge("forward "+up.URL+quick, ""), nats.Edge("forward "+up.URL+quick, "")}
	all := []*callers{call(t, edges[0].URL(), 4, edges[1].URL()), call(t, edges[1].URL(), 4, edges[0].URL())}
	killInTurn(t, edges, all, kills)
	edges[0].emptied()
	nats.StoredOnce()
	t.Logf("%d Caddys killed, %d repeats", kills, edges[0].tally(up, all...))
	for _, e := range edges {
		e.Leave()
	}
}

// killInTurn kills Caddys under load, one after the other, and starts them again. Then it
// stops the load.
func killInTurn(t *testing.T, edges []*edge, all []*callers, kills int) {
	t.Helper()
	for i := range kills {
		n := i % len(edges)
		all[n].AwaitAnswers(t, 50)
		edges[n].Kill()
		all[n].AwaitAnswers(t, 50)
		edges[n].Again()
	}
	for _, c := range all {
		c.Stop()
	}
}

// Leases of a Caddy that stands still expire. It notices that when it goes on, and nothing
// is lost.
func TestNATSCaddyStandsStill(t *testing.T) {
	nats := newCluster(t, 3)
	up := newUpstream(t, picky)
	a, b := nats.Edge("forward "+up.URL+quick, "lease 1s"), nats.Edge("forward "+up.URL+quick, "lease 1s")
	all := []*callers{call(t, a.URL(), 4), call(t, b.URL(), 4)}
	for range 3 {
		all[0].AwaitAnswers(t, 50)
		require.NoError(t, a.cmd.Process.Signal(syscall.SIGSTOP))
		time.Sleep(3 * time.Second) // three leases long
		require.NoError(t, a.cmd.Process.Signal(syscall.SIGCONT))
	}
	for _, c := range all {
		c.Stop()
	}
	a.emptied()
	nats.StoredOnce()
	for _, c := range all {
		c.disorder = true
	}
	t.Logf("a Caddy stood still three times: %d repeats", a.tally(up, all...))
	a.Leave()
	b.Leave()
}

// When the server that leads the stream is cut off, the others go on, and so do the Caddys
// that were connected to it. When it is reachable again, it takes part again.
func TestNATSServerIsCutOff(t *testing.T) {
	nats := newCluster(t, 3)
	up := newUpstream(t, picky)
	a, b := nats.Edge("forward "+up.URL+quick, patient), nats.Edge("forward "+up.URL+quick, patient)
	all := []*callers{call(t, a.URL(), 4), call(t, b.URL(), 4)}
	var longest time.Duration
	for range 2 {
		all[0].AwaitAnswers(t, 20)
		all[1].AwaitAnswers(t, 20)
		node := nats.Leader()
		cut := time.Now()
		nats.Cut(node)
		for _, c := range all {
			c.AwaitAnswers(t, 20) // more than can be under way
		}
		longest = max(longest, time.Since(cut))
		mended := time.Now()
		nats.Mend(node)
		require.NoError(t, nats.AwaitHealthy(t.Context()))
		t.Logf("server %d: cut off for %s, %s until all was well again", node, mended.Sub(cut), time.Since(mended))
	}
	for _, c := range all {
		c.Stop()
	}
	a.emptied()
	nats.StoredOnce()
	repeats := a.tally(up, all...)
	a.Leave()
	b.Leave()
	t.Logf("2 servers cut off, %d repeats; callbacks were taken again within %s", repeats, longest)
}
