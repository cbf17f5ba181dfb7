package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// The charts of a handler outlive a reload, and after a restart they have what the inbox
// knows.
func TestHistoryOutlivesReloadAndRestart(t *testing.T) {
	const events = 30
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+quick, "", quiet)
	history := func() (h control.History, accepted, invalid, delivered int64) {
		h = ask[control.History](g, http.MethodGet, "default/history?span=day", "")
		require.Len(t, h.Destinations, 1)
		for i := range h.Callbacks.Accepted {
			accepted += h.Callbacks.Accepted[i]
			invalid += h.Callbacks.Invalid[i]
			delivered += h.Destinations[0].Delivered[i]
		}
		return h, accepted, invalid, delivered
	}
	p := g.Run(config)
	for n := range events {
		g.Accept(notice(fmt.Sprint("task-", n), 1))
	}
	require.Equal(t, http.StatusUnprocessableEntity, g.Post(`{}`).Status)
	await(t, func() bool { return g.Events("delivered") == events }, "all to be delivered")
	for _, again := range []bool{false, true} {
		if again {
			reload(t, g, g.Caddyfile("forward "+up.URL+quick+"\nkeep 48h", "", quiet))
		}
		h, accepted, invalid, delivered := history()
		assert.Equal(t, []int64{events, 1, events}, []int64{accepted, invalid, delivered})
		assert.Positive(t, h.Callbacks.Answer.All.P50)
		assert.Positive(t, h.Destinations[0].Age.All.P50)
	}
	p.Terminate()
	require.Zero(t, p.ExitCode(), "%s", p.Output)
	g.Run(config)
	await(t, func() bool { return g.API(http.MethodGet, "default/history?span=day", "").Status == http.StatusOK }, "the handler to run")
	await(t, func() bool { h, _, _, _ := history(); return h.Complete }, "the inbox to be read")
	h, accepted, invalid, delivered := history()
	assert.Equal(t, []int64{events, 0, events}, []int64{accepted, invalid, delivered})
	assert.Nil(t, h.Callbacks.Answer.All)
	assert.Positive(t, h.Destinations[0].Age.All.P50)
}
