package e2e

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// destination returns the option for a destination that leads to a URL.
func destination(name, url, options string) string {
	return fmt.Sprintf("\ndestination %s {\nforward %s\n%s\n}", name, url, options)
}

// At returns how many events are in a state at a destination, from the metrics.
func (g *gateway) At(destination, state string) int {
	g.t.Helper()
	return int(g.Metric(fmt.Sprintf("caddy_fotor_webhook_destination_events{destination=%q,handler=%q,state=%q}", destination, "default", state)))
}

// moody reports whether moodily answers 500 to the first attempts at an event: at a third
// of them.
func moody(d delivery) bool {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(d.Event.ID))
	attempt := d.Header.Get("Fotor-Webhook-Attempt")
	return sum.Sum32()%3 == 0 && (attempt == "1" || attempt == "2")
}

func moodily(w http.ResponseWriter, d delivery) {
	if moody(d) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// One destination is well, one answers 500 to a third of the events, and one is down: the
// well one gets everything at once, in order and once, and in the end all of them do.
func TestDestinationsDoNotHoldEachOtherUp(t *testing.T) {
	address := steadyAddress(t)
	well, moods, down := newUpstream(t, nil), newUpstream(t, moodily), newStoppedUpstream(nil)
	g := newGateway(t)
	g.Start(quick+destination("well", well.URL, "")+destination("moods", moods.URL, "")+
		destination("down", "http://"+address, ""), "", silent)
	c := call(t, g.URL(), 8)
	c.AwaitAnswers(t, 3000)
	c.Stop()
	await(t, func() bool { return g.At("well", "pending") == 0 }, "the well one to have all")
	await(t, func() bool { return g.At("moods", "pending") == 0 }, "the moody one to have all")
	assert.Zero(t, c.Check(t, well.Deliveries(), func(delivery) bool { return true }), "none came twice")
	assert.Zero(t, c.Check(t, moods.Deliveries(), func(d delivery) bool { return !moody(d) }))
	assert.NotEmpty(t, moods.Deliveries())

	waiting := g.At("down", "pending")
	assert.Greater(t, waiting, 1000)
	assert.Equal(t, waiting, g.Events("pending"), "an event is pending while it is at one of them")
	h := ask[control.Handler](g, http.MethodGet, "default", "")
	require.Len(t, h.Holds, 1)
	assert.Equal(t, "down", h.Holds[0].Destination)
	require.Len(t, h.Destinations, 3)
	for i, name := range []string{"down", "moods", "well"} {
		assert.Equal(t, name, h.Destinations[i].Name)
		assert.True(t, h.Destinations[i].Configured)
	}
	assert.Equal(t, 1, h.Destinations[0].Pressure.Limit)
	assert.Empty(t, h.Destinations[2].Holds)

	down.restart(t, address)
	await(t, func() bool { return g.At("down", "pending") == 0 }, "what was down to have all")
	assert.Zero(t, c.Check(t, down.Deliveries(), func(delivery) bool { return true }))
	assert.Zero(t, g.Events("pending")+g.Events("dead")+g.At("down", "dead")+g.At("moods", "dead"))
}

// Under load, and with a backlog, reloads add one destination and remove another, again
// and again. Each gets what was accepted while it was configured, in order and once, and
// what waits for one that is gone waits until it is back.
func TestReloadsChangeDestinationsUnderLoad(t *testing.T) {
	stays, comes, goes := newUpstream(t, nil), newUpstream(t, nil), newUpstream(t, askToWait("3600"))
	g := newGateway(t)
	config := func(i int) string {
		options := quick + destination("stays", stays.URL, "")
		if i%2 == 0 {
			options += destination("goes", goes.URL, "")
		} else {
			options += destination("comes", comes.URL, "match status completed failed")
		}
		return g.Caddyfile(options, "", silent)
	}
	c := reloadUnderLoad(t, g, config) // ends with "goes", as it began
	all := func(delivery) bool { return true }
	await(t, func() bool { return g.At("stays", "pending") == 0 }, "the one that stays to have all")
	assert.Zero(t, c.Check(t, stays.Deliveries(), all), "none came twice")
	backlog, superseded := g.At("goes", "pending"), g.At("goes", "superseded")
	assert.Positive(t, backlog)

	require.NoError(t, g.Load(config(1)))
	h := ask[control.Handler](g, http.MethodGet, "default", "")
	require.Len(t, h.Destinations, 3)
	left := h.Destinations[1]
	assert.Equal(t, "goes", left.Name)
	assert.False(t, left.Configured)
	assert.EqualValues(t, backlog, left.Deliveries.Pending)
	assert.Nil(t, left.Pressure)
	assert.InDelta(t, -1, g.Metric(`caddy_fotor_webhook_held{by="operator",destination="goes",handler="default"}`), 0)
	assert.InDelta(t, -1, g.Metric(`caddy_fotor_webhook_deliveries_total{destination="goes",handler="default",outcome="released"}`), 0)
	quiet := len(goes.Deliveries())
	goes.Answer(nil)
	last := g.Accept(notice("after", 1))
	await(t, func() bool { return comes.Counts()[last] == 1 }, "the new one to get it")
	assert.Len(t, goes.Deliveries(), quiet, "nothing goes to the old one")

	require.NoError(t, g.Load(config(2)))
	await(t, func() bool { return g.At("goes", "pending") == 0 }, "the backlog to go out")
	taken := make(map[string]int)
	for _, d := range goes.Deliveries()[quiet:] {
		taken[d.Event.ID]++
	}
	assert.Equal(t, backlog, len(taken)+g.At("goes", "superseded")-superseded, "nothing is lost")
	assert.Zero(t, repeated(taken))
	assert.Zero(t, disorder(t, goes.Deliveries(), all))
	assert.Zero(t, repeated(comes.Counts()))
	for _, d := range comes.Deliveries() {
		assert.NotEqual(t, "in_progress", d.Event.Status)
	}
	assert.Zero(t, g.Events("dead"))
}
