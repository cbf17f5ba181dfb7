package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// cluster is real NATS servers, and a stream on them.
type cluster struct {
	*natstest.Cluster
	t        *testing.T
	stream   string
	replicas int
}

// newCluster starts servers in processes of their own, so that they can be killed.
func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	servers := natstest.New(t, natstest.Config{Nodes: nodes, Separate: true, Cuttable: true, MaxPayload: 4 << 20})
	return &cluster{Cluster: servers, t: t, stream: "E2E", replicas: nodes}
}

// Inbox returns the option for an inbox on the cluster, with those options instead of the
// tests' defaults.
func (c *cluster) Inbox(options string) string {
	settings := []string{"stream " + c.stream, fmt.Sprint("replicas ", c.replicas)}
	for name, value := range map[string]string{"lease": "5s", "max_size": "64MiB", "publish_timeout": "2s"} {
		if !strings.Contains(options, name+" ") {
			settings = append(settings, name+" "+value)
		}
	}
	return fmt.Sprintf("\ninbox nats %s {\n%s\n%s\n}\n", strings.Join(c.URLs(), " "), strings.Join(settings, "\n"), options)
}

// edge is one of several Caddys that share an inbox.
type edge struct {
	*gateway
	*process
	config string
}

// For returns the cluster with another stream, for another test.
func (c *cluster) For(t *testing.T, stream string) *cluster {
	t.Helper()
	return &cluster{Cluster: c.Cluster, t: t, stream: stream, replicas: c.replicas}
}

// Edge starts a Caddy whose inbox is on the cluster. All handlers have the same name.
func (c *cluster) Edge(options, inbox string) *edge {
	c.t.Helper()
	g := newGateway(c.t)
	e := &edge{gateway: g, config: g.Caddyfile(options+c.Inbox(inbox), "", quiet)}
	e.Again()
	return e
}

// Again starts the Caddy, also after it has ended, and waits until the gateway works, which
// may be after the Caddy listens.
func (e *edge) Again() {
	e.gateway.t.Helper()
	e.process = e.Run(e.config)
	await(e.gateway.t, func() bool {
		return !e.Running() || e.API(http.MethodGet, "default", "").Status == http.StatusOK
	}, "the gateway to work")
	require.True(e.gateway.t, e.Running(), "Caddy ended: %s", e.Output)
}

// Leave ends the Caddy with SIGTERM.
func (e *edge) Leave() {
	e.gateway.t.Helper()
	e.Terminate()
	assert.Zero(e.gateway.t, e.ExitCode(), "%s", e.Output)
}

// Leader returns which server leads the stream of events.
func (c *cluster) Leader() int {
	c.t.Helper()
	leader, err := c.StreamLeader(c.t.Context(), c.stream)
	require.NoError(c.t, err)
	return leader
}

// StoredOnce checks that no id is in the stream twice.
func (c *cluster) StoredOnce() {
	c.t.Helper()
	stream, err := c.operator().Stream(c.t.Context(), c.stream)
	require.NoError(c.t, err)
	info, err := stream.Info(c.t.Context(), jetstream.WithSubjectFilter(">"))
	require.NoError(c.t, err)
	require.NotEmpty(c.t, info.State.Subjects)
	for subject, times := range info.State.Subjects {
		assert.EqualValues(c.t, 1, times, "messages on %s", subject)
	}
}

// Heal restarts a killed server and waits until another one may be killed.
func (c *cluster) Heal(node int) {
	c.t.Helper()
	require.NoError(c.t, c.Restart(c.t.Context(), node))
	require.NoError(c.t, c.AwaitHealthy(c.t.Context()))
}

// emptied waits until no event is pending.
func (e *edge) emptied() {
	e.gateway.t.Helper()
	e.drained(func() int { return e.Events("pending") }, url.Values{"state": {"pending"}})
}

// emptiedAt waits until no delivery to a destination is pending.
func (e *edge) emptiedAt(destination string) {
	e.gateway.t.Helper()
	e.drained(func() int { return e.pendingAt(destination) }, url.Values{"state": {"pending"}, "destination": {destination}})
}

// drained waits until none of a list is left, for as long as their number goes down. If some
// stay, it logs what is known about them, and fails. The number comes from several
// streams that are read one after the other, so the list has the last word.
func (e *edge) drained(count func() int, query url.Values) {
	t := e.gateway.t
	t.Helper()
	least, since := math.MaxInt, time.Now()
	for ; time.Since(since) < patience; time.Sleep(100 * time.Millisecond) { // each look takes the servers some work
		n := count()
		if n == 0 && e.none(query) {
			return
		}
		if n > 0 && n < least {
			least, since = n, time.Now()
		}
	}
	for _, event := range e.list(query) {
		t.Logf("pending: %s", e.API(http.MethodGet, "default/events/"+event.ID, "").Body)
	}
	require.Fail(t, "the backlog does not go out", "%s: %s", query.Encode(), e.API(http.MethodGet, "default", "").Body)
}

// none reports whether a list of events could be read, and is empty. A page of it may be
// empty although there are more.
func (e *edge) none(query url.Values) bool {
	query = maps.Clone(query)
	for {
		reply := e.API(http.MethodGet, "default/events?"+query.Encode(), "")
		var page control.Events
		if reply.Status != http.StatusOK || json.Unmarshal(reply.Body, &page) != nil || len(page.Events) > 0 {
			return false
		}
		if page.Next == "" {
			return true
		}
		query.Set("cursor", page.Next)
	}
}

// tally compares the answers to callers with the deliveries to the upstream, and returns how
// many were repeats of events that it had taken. It logs what the edge knows about events
// that are missing.
func (e *edge) tally(up *upstream, all ...*callers) (repeats int) {
	t := e.gateway.t
	t.Helper()
	deliveries := up.Deliveries()
	for _, c := range all {
		unavailable := c.Unavailable()
		again := c.Check(t, deliveries, takes)
		for _, id := range c.lost {
			t.Logf("lost: %s", e.API(http.MethodGet, "default/events/"+id, "").Body)
		}
		t.Logf("%d events answered 200, %d requests answered 503, %d without an answer; %d attempts of all at the upstream, %d repeats of events that it had taken",
			len(c.accepted), unavailable, c.Broken(), len(deliveries), again)
		repeats += again
	}
	return repeats
}

func TestNATSIsShared(t *testing.T) {
	nats := newCluster(t, 3)
	for name, test := range map[string]func(*testing.T, *cluster){
		"deliveries": testDeliveriesAreShared,
		"dedupe":     testSameCallbackAtOnce,
		"hold":       testHoldIsShared,
		"trouble":    testTroubleIsShared,
		"slow":       testSlowUpstream,
	} {
		t.Run(name, func(t *testing.T) { test(t, nats.For(t, name)) })
	}
}

// Several Caddys deliver from one inbox: each event once, in the order of its task,
// whichever of them received the task's callbacks.
func testDeliveriesAreShared(t *testing.T, nats *cluster) {
	t.Helper()
	up := newUpstream(t, picky)
	a, b := nats.Edge("forward "+up.URL+quick, ""), nats.Edge("forward "+up.URL+quick, "")
	everywhere := call(t, a.URL(), 4, b.URL())
	elsewhere := call(t, b.URL(), 4, a.URL())
	everywhere.AwaitAnswers(t, 200)
	elsewhere.AwaitAnswers(t, 200)
	everywhere.Stop()
	elsewhere.Stop()
	a.emptied()
	nats.StoredOnce()
	assert.Zero(t, a.tally(up, everywhere, elsewhere), "repeats though nothing died")
	a.Leave()
	b.Leave()
}

// Two Caddys that receive the same callback at the same moment store it once.
func testSameCallbackAtOnce(t *testing.T, nats *cluster) {
	t.Helper()
	up := newUpstream(t, nil)
	edges := []*edge{nats.Edge("forward "+up.URL+quick, ""), nats.Edge("forward "+up.URL+quick, "")}
	const tasks, copies = 100, 4
	want := make(map[string]int)
	for task := range tasks {
		var answers [copies]reply
		var errs [copies]error
		var posts sync.WaitGroup
		start := make(chan struct{})
		for i := range copies {
			r := newRequest(t, edges[i%2].URL(), strings.NewReader(avatar(fmt.Sprint("task-", task))))
			posts.Go(func() {
				<-start
				answers[i], errs[i] = try(r)
			})
		}
		close(start)
		posts.Wait()
		accepted := 0
		for i, answer := range answers {
			require.NoError(t, errs[i])
			require.Equal(t, http.StatusOK, answer.Status, answer.Body)
			if !answer.Duplicate {
				accepted++
			}
			want[answer.ID] = 1
		}
		require.Equal(t, 1, accepted, "answers that do not say duplicate")
	}
	require.Len(t, want, tasks)
	edges[1].delivered(tasks)
	assert.Equal(t, want, up.Counts())
	nats.StoredOnce()
}

// A hold by hand applies to all Caddys, whichever of them it is set at.
func testHoldIsShared(t *testing.T, nats *cluster) {
	t.Helper()
	up := newUpstream(t, nil)
	a, b := nats.Edge("forward "+up.URL+quick, ""), nats.Edge("forward "+up.URL+quick, "")
	ask[control.Holds](a.gateway, http.MethodPost, "default/hold", `{"reason":"new database"}`)
	await(t, func() bool { return b.held() == 1 }, "the hold at the other")
	var ids []string
	for i := range 20 {
		ids = append(ids, []*edge{a, b}[i%2].Accept(notice(fmt.Sprint("task-", i), 1)))
	}
	await(t, func() bool { return a.Events("pending") == len(ids) && b.Events("pending") == len(ids) }, "both to count")
	assert.Empty(t, up.Deliveries())

	ask[control.Holds](b.gateway, http.MethodPost, "default/resume", "")
	up.requireDelivered(t, ids)
	a.delivered(len(ids))
	assert.Zero(t, repeated(up.Counts()), "repeats though nothing died")
	assert.Zero(t, a.held())
}

// If one Caddy finds the destination in trouble, the others make no attempts either.
func testTroubleIsShared(t *testing.T, nats *cluster) {
	t.Helper()
	up := newUpstream(t, askToWait("3600"))
	options := "forward " + up.URL + "\nretry {\nfirst 20ms\nmax 1h\n}"
	a, b := nats.Edge(options, ""), nats.Edge(options, "")
	a.Accept(notice("before", 1))
	held := func() bool { return a.held() == 1 && b.held() == 1 }
	await(t, held, "the hold at both")
	attempts := len(up.Deliveries())
	for i := range 20 {
		[]*edge{a, b}[i%2].Accept(notice(fmt.Sprint("task-", i), 1))
	}
	await(t, func() bool { return a.Events("pending") == 21 && b.Events("pending") == 21 }, "both to count")
	assert.Len(t, up.Deliveries(), attempts, "attempts at a destination that is known to be in trouble")
}

// If an attempt takes longer than a lease, the lease is extended, and no other Caddy makes
// the same attempt.
func testSlowUpstream(t *testing.T, nats *cluster) {
	t.Helper()
	const events = 48
	up := newUpstream(t, func(w http.ResponseWriter, _ delivery) {
		time.Sleep(3500 * time.Millisecond) // three and a half leases
		w.WriteHeader(http.StatusNoContent)
	})
	a, b := nats.Edge("forward "+up.URL+quick, "lease 1s"), nats.Edge("forward "+up.URL+quick, "lease 1s")
	for i := range events {
		[]*edge{a, b}[i%2].Accept(avatar(fmt.Sprint("task-", i)))
	}
	a.delivered(events)
	for id, times := range up.Counts() {
		assert.Equal(t, 1, times, "attempts of %s", id)
	}
	for _, d := range up.Deliveries() {
		assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"))
	}
	a.Leave()
	b.Leave()
}
