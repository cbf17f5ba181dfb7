package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// operator returns a client of the servers, as an operator may have one.
func (c *cluster) operator() jetstream.JetStream {
	c.t.Helper()
	conn, err := nats.Connect(strings.Join(c.URLs(), ","))
	require.NoError(c.t, err)
	c.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(c.t, err)
	return js
}

// If the stream is removed, callbacks are answered 503 at once until a reload, even of the
// same config, creates it again. The reason is shown, and how many events were lost.
func TestNATSStreamIsRemoved(t *testing.T) {
	nats := newCluster(t, 3)
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	a, b := nats.Edge("forward "+up.URL+quick, patient), nats.Edge("forward "+up.URL+quick, patient)
	for range 7 {
		a.Accept(avatar("before"))
	}
	await(t, func() bool { return b.Events("pending") == 1 }, "the one event to be pending")
	require.NoError(t, nats.operator().DeleteStream(t.Context(), nats.stream))
	for _, e := range []*edge{a, b} {
		e.isRefusal(e.Post(avatar("meanwhile")))
		began := time.Now()
		e.isRefusal(e.Post(avatar("meanwhile")))
		assert.Less(t, time.Since(began), quickly, "with a publish_timeout of 10 s")
		assert.Contains(t, string(e.API(http.MethodGet, "default", "").Body), "stream E2E is gone")
		assert.Zero(t, e.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`))
	}
	reload(t, a.gateway, a.config)
	up.Answer(nil)
	ids := []string{a.resume("after"), b.resume("after at the other")}
	up.requireDelivered(t, ids)
	await(t, func() bool { return b.Metric(`caddy_fotor_webhook_lost_events{handler="default"}`) == 1 }, "the loss to be told of")
	assert.Regexp(t, `Lost\t1, the last seen `, b.CLI("status").Out)
	assert.Contains(t, b.CLI("status", "--check").Out, "1 lost event")
	a.Leave()
	b.Leave()
}

// A reload also creates the stream of states again. What waited in the inbox is delivered.
func TestNATSStreamOfStatesIsRemoved(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	e := nats.Edge("forward "+up.URL+quick, "")
	id := e.Accept(avatar("before"))
	require.NoError(t, nats.operator().DeleteStream(t.Context(), nats.stream+"_STATE"))
	reload(t, e.gateway, e.config)
	up.Answer(nil)
	up.requireDelivered(t, []string{id, e.resume("after")})
	e.Leave()
}

// If the stream is changed such that it discards events, no callback is accepted until it
// is changed back. That needs no reload.
func TestNATSStreamIsChanged(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, nil)
	e := nats.Edge("forward "+up.URL+quick, "")
	edit := func(change func(*jetstream.StreamConfig)) {
		js := nats.operator()
		stream, err := js.Stream(t.Context(), nats.stream)
		require.NoError(t, err)
		config := stream.CachedInfo().Config
		change(&config)
		_, err = js.UpdateStream(t.Context(), config)
		require.NoError(t, err)
	}
	edit(func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 10 })
	require.NoError(t, nats.Kill(0))
	nats.Heal(0) // the streams are checked after a reconnect
	await(t, func() bool { return e.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`) == 0 }, "the change to be seen")
	e.isRefusal(e.Post(avatar("meanwhile")))
	assert.True(t, e.Output.Contains("nats stream edit E2E --discard=new --max-msgs=-1 --force"), "%s", e.Output)
	edit(func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, -1 })
	up.requireDelivered(t, []string{e.resume("after")})
	e.Leave()
}
