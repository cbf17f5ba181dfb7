package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// operator is somebody with a client of the servers.
func (c *cluster) operator() jetstream.JetStream {
	c.t.Helper()
	conn, err := nats.Connect(strings.Join(c.URLs(), ","))
	require.NoError(c.t, err)
	c.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(c.t, err)
	return js
}

// A stream that somebody removes is 503 at once, with the reason, until a reload
// makes it anew, also one of the same config. What was pending is told of.
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
	reload := command(t, "reload", "--force", "--adapter", "caddyfile", "--config", configFile(t, a.config), "--address", fmt.Sprint("127.0.0.1:", a.Admin))
	said, err := reload.CombinedOutput()
	require.NoError(t, err, "%s", said)
	up.Answer(nil)
	ids := []string{a.resume("after"), b.resume("after at the other")}
	up.requireDelivered(t, ids)
	await(t, func() bool { return b.Metric(`caddy_fotor_webhook_lost_events{handler="default"}`) == 1 }, "the loss to be told of")
	assert.Regexp(t, `Lost +1, the last seen `, b.CLI("status").Out)
	assert.Contains(t, b.CLI("status", "--check").Out, "1 lost event")
	a.Leave()
	b.Leave()
}

// A stream that somebody changes so that it throws events away takes none until
// it is changed back, without a reload.
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
	nats.Heal(0) // the streams are looked at when the connection is there again
	await(t, func() bool { return e.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`) == 0 }, "the change to be seen")
	e.isRefusal(e.Post(avatar("meanwhile")))
	assert.True(t, e.Output.Contains("nats stream edit E2E --discard=new --max-msgs=-1 --force"), "%s", e.Output)
	edit(func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, -1 })
	up.requireDelivered(t, []string{e.resume("after")})
	e.Leave()
}
