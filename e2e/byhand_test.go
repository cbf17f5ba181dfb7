package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// A hold by hand stops deliveries and nothing else until it is ended, despite a reload, a
// restart and a kill -9.
func TestHoldByHand(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, nil)
		g := newGateway(t)
		config := g.Caddyfile(forward(up.URL)+quick, "", "")
		p := g.Run(config)
		g.Accept(notice("before", 1))
		up.Await(t, 1)

		began := time.Now().Add(-time.Second)
		held := ask[control.Holds](g, http.MethodPost, "default/hold", `{"reason":"new database"}`)
		require.Len(t, held.Holds, 1)
		assert.Equal(t, control.ByOperator, held.Holds[0].By)
		assert.Equal(t, "new database", held.Holds[0].Reason)
		assert.Nil(t, held.Holds[0].Until)
		assert.WithinRange(t, held.Holds[0].Since, began, time.Now())

		var want []string
		accept := func(phase string) {
			for i := range 10 {
				want = append(want, g.Accept(notice(fmt.Sprint(phase, i), 1)))
			}
			now := ask[control.Handler](g, http.MethodGet, "default", "")
			assert.Equal(t, held.Holds, now.Holds, phase)
			assert.EqualValues(t, len(want), now.Events.Pending, phase)
			assert.InDelta(t, 1, g.held(), 0)
		}
		accept("held")
		reload(t, g, config+"# another config\n")
		accept("reloaded")
		p.Terminate()
		assert.Zero(t, p.ExitCode())
		p = g.Run(config)
		accept("restarted")
		p.Kill()
		g.Run(config)
		accept("killed")
		require.Len(t, up.Deliveries(), 1, "nothing was forwarded")

		resumed := ask[control.Holds](g, http.MethodPost, "default/resume", "")
		assert.Empty(t, resumed.Holds)
		g.delivered(1 + len(want))
		for _, d := range up.Deliveries() {
			assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"), "no attempt was spent")
		}
		for _, id := range want {
			assert.Equal(t, 1, up.Counts()[id])
		}
		assert.InDelta(t, 0, g.held(), 0)
	})
}

// reload loads another config into the built Caddy, through its admin endpoint.
func reload(t *testing.T, g *gateway, caddyfile string) {
	t.Helper()
	out, err := command(t, "reload", "--force", "--adapter", "caddyfile", "--config", configFile(t, caddyfile),
		"--address", fmt.Sprintf("127.0.0.1:%d", g.Admin)).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// A hold may end by itself, and its end may be changed.
func TestHoldByHandEndsByItself(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	first := ask[control.Holds](g, http.MethodPost, "default/hold", `{"for":"1h","reason":"one"}`)
	g.Accept(notice("task", 1))
	second := ask[control.Holds](g, http.MethodPost, "default/hold", `{"for":"1s","reason":"two"}`)
	assert.Equal(t, first.Holds[0].Since, second.Holds[0].Since, "it goes on")
	assert.Equal(t, "two", second.Holds[0].Reason)
	up.Await(t, 1)
	assert.False(t, time.Now().Before(*second.Holds[0].Until), "not before its end")
	assert.Empty(t, ask[control.Handler](g, http.MethodGet, "default", "").Holds)
}

// A resume without a hold changes nothing.
func TestResumeWithoutHold(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	for range 2 {
		assert.Empty(t, ask[control.Holds](g, http.MethodPost, "default/resume", "").Holds)
	}
	g.Accept(notice("task", 1))
	g.delivered(1)
}

// After a resume an upstream in trouble is tried at once.
func TestResumeTriesAnUpstreamInTroubleAtOnce(t *testing.T) {
	up := newUpstream(t, askToWait("3600"))
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	g.Accept(notice("task", 1))
	holds := func() []control.Hold { return ask[control.Handler](g, http.MethodGet, "default", "").Holds }
	await(t, func() bool { return len(holds()) == 1 }, "deliveries to be held")
	assert.Equal(t, control.ByUpstream, holds()[0].By)
	assert.WithinDuration(t, time.Now().Add(time.Hour), *holds()[0].Until, time.Minute)
	up.Answer(nil)
	ask[control.Holds](g, http.MethodPost, "default/resume", "")
	g.Accept(notice("probe", 1))
	await(t, func() bool { return len(holds()) == 0 }, "deliveries to go on")
}
