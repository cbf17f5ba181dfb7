package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// destination returns what the admin API says of a destination; nil if it is not listed.
func (g *gateway) destination(name string) *control.Destination {
	g.t.Helper()
	h := ask[control.Handler](g, http.MethodGet, "default", "")
	for i := range h.Destinations {
		if h.Destinations[i].Name == name {
			return &h.Destinations[i]
		}
	}
	return nil
}

// awaitDeliveries waits until that many deliveries to a destination are pending and dead.
func (g *gateway) awaitDeliveries(name string, pending, dead int64) {
	g.t.Helper()
	await(g.t, func() bool {
		d := g.destination(name)
		return d != nil && d.Deliveries.Pending == pending && d.Deliveries.Dead == dead
	}, "%s to have %d pending and %d dead", name, pending, dead)
}

// sideBySide starts a gateway with the destinations default, which takes events, and
// staging, which refuses them for good. The first event is dead at staging.
func sideBySide(t *testing.T) (g *gateway, app, staging *upstream, id string) {
	t.Helper()
	app, staging = newUpstream(t, nil), refusing(t)
	g = newGateway(t)
	g.Start("forward "+app.URL+"\ndestination staging {\nforward "+staging.URL+"\n}", "", silent)
	id = g.Accept(notice("first", 1))
	g.awaitDeliveries("default", 0, 0)
	g.awaitDeliveries("staging", 0, 1)
	return g, app, staging, id
}

func TestOperatorSeesEachDestination(t *testing.T) {
	g, _, _, id := sideBySide(t)
	h := ask[control.Handler](g, http.MethodGet, "default", "")
	assert.Equal(t, control.Counts{Dead: 1}, *h.Events, "an event is dead if it is at any destination")
	require.Len(t, h.Destinations, 2)
	assert.Equal(t, control.Counts{Delivered: 1}, *h.Destinations[0].Deliveries)
	assert.True(t, h.Destinations[1].Configured)

	assert.Equal(t, []string{id}, eventIDs(g.list(url.Values{"destination": {"staging"}, "state": {"dead"}})))
	assert.Empty(t, g.list(url.Values{"destination": {"default"}, "state": {"dead"}}))
	listed := g.list(url.Values{"destination": {"default"}})
	require.Len(t, listed, 1)
	assert.Equal(t, "delivered", listed[0].State)
	assert.Equal(t, 1, listed[0].Attempts)

	detail := ask[control.EventDetail](g, http.MethodGet, "default/events/"+id, "")
	assert.Equal(t, "dead", detail.State)
	assert.Len(t, detail.AttemptRecords, 2)
	require.Len(t, detail.Deliveries, 2)
	assert.Equal(t, http.StatusNoContent, detail.Deliveries[0].AttemptRecords[0].Status)
	assert.Equal(t, http.StatusGone, detail.Deliveries[1].AttemptRecords[0].Status)

	assert.Regexp(t, `\bstaging: dead \(HTTP 410\)`, g.requireCLI("list"))
	assert.Regexp(t, `(?m)^staging\tdead\t1\t`, g.requireCLI("show", id))
	check := g.CLI("status", "--check")
	assert.Equal(t, 5, check.Code)
	assert.Contains(t, check.Out, "needs attention: default: 1 dead event at staging\n")
	assert.Zero(t, g.CLI("status", "--check", "--destination", "default").Code)
}

// A hold of one destination holds up no other.
func TestHoldOfOneDestination(t *testing.T) {
	g, app, staging, _ := sideBySide(t)
	held := ask[control.Holds](g, http.MethodPost, "default/hold?destination=staging", `{"reason": "new release"}`)
	require.Len(t, held.Holds, 1)
	assert.Equal(t, "staging", held.Holds[0].Destination)
	assert.Equal(t, []string{"default", "staging"}, held.Destinations)
	tail := g.Tail("destination=staging", "")

	for i := range 5 {
		g.Accept(notice(fmt.Sprint("held-", i), 1))
	}
	g.awaitDeliveries("staging", 5, 1)
	g.awaitDeliveries("default", 0, 0)
	assert.Len(t, app.Deliveries(), 6)
	assert.Len(t, staging.Deliveries(), 1)

	unknown := g.API(http.MethodPost, "default/resume?destination=stagin", "")
	assert.Equal(t, http.StatusNotFound, unknown.Status)
	assert.Contains(t, string(unknown.Body), "expected default, staging")
	assert.Empty(t, ask[control.Holds](g, http.MethodPost, "default/resume?destination=staging", "").Holds)
	g.awaitDeliveries("staging", 0, 6)

	for i := range 6 {
		kind := control.Dead
		if i == 0 {
			kind = control.Resumed
		}
		told, open := tail.Next()
		require.True(t, open)
		assert.Equal(t, kind, told.Notice.Kind, "a stream of one destination tells of no other")
		assert.Equal(t, "staging", told.Destination)
	}
}

// What one destination has taken is not delivered there again because another has not.
func TestReplayOfDeadEventsSparesOtherDestinations(t *testing.T) {
	g, app, staging, id := sideBySide(t)
	staging.Answer(nil)
	answer := ask[control.Bulk](g, http.MethodPost, "default/replay?state=dead", "")
	assert.Equal(t, control.Bulk{Matched: 1, Changed: 1, Done: true}, answer)
	g.awaitDeliveries("staging", 0, 0)
	assert.Len(t, staging.Deliveries(), 2)
	assert.Len(t, app.Deliveries(), 1)

	ask[control.Done](g, http.MethodPost, "default/events/"+id+"/replay?destination=default", "")
	app.Await(t, 2)
	assert.Len(t, staging.Deliveries(), 2)
}

// What a removed destination has left is shown, is counted by --check, and can be moved or
// purged.
func TestWhatARemovedDestinationHasLeft(t *testing.T) {
	g, app, _, id := sideBySide(t)
	ask[control.Holds](g, http.MethodPost, "default/hold?destination=staging", "")
	waiting := g.Accept(notice("waiting", 1))
	dropped := g.Accept(notice("dropped", 1))
	g.awaitDeliveries("staging", 2, 1)

	archive := newUpstream(t, nil)
	require.NoError(t, g.Load(g.Caddyfile("forward "+app.URL+"\ndestination archive {\nforward "+archive.URL+"\n}", "", silent)))
	left := g.destination("staging")
	require.NotNil(t, left)
	assert.False(t, left.Configured)
	assert.Nil(t, left.Pressure)
	check := g.CLI("status", "--check")
	assert.Equal(t, 5, check.Code)
	assert.Contains(t, check.Out, "needs attention: default: 2 pending and 1 dead event left behind for staging, which no config names\n")
	assert.Contains(t, check.Out, "\n  caddy fotor-webhook replay -n default --destination staging --to <destination>\n")

	assert.Equal(t, http.StatusNotFound, g.API(http.MethodPost, "default/events/"+id+"/replay?to=staging", "").Status)
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodPost, "default/hold?destination=staging", "").Status)
	assert.Equal(t, http.StatusNoContent, g.API(http.MethodDelete, "default/events/"+dropped+"?destination=staging", "").Status)
	detail := ask[control.EventDetail](g, http.MethodGet, "default/events/"+dropped, "")
	assert.Len(t, detail.Deliveries, 1, "that to the other destination stays")

	assert.Equal(t, "2 events replayed from staging to archive.\n", g.requireCLI("replay", "--destination", "staging", "--to", "archive", "--yes"))
	g.awaitDeliveries("archive", 0, 0)
	assert.Equal(t, map[string]int{id: 1, waiting: 1}, archive.Counts())
	assert.Len(t, app.Deliveries(), 3, "and nothing is sent again to others")
	assert.Nil(t, g.destination("staging"))
	assert.Zero(t, g.CLI("status", "--check").Code)
}

// A new destination gets what was accepted before by a replay.
func TestReplayToOneMoreDestination(t *testing.T) {
	const n = 300
	app, archive := newUpstream(t, nil), newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+app.URL, "", quiet)
	g.acceptMany(n, func(i int) string { return notice(fmt.Sprint("task-", i), 1) })
	g.awaitDeliveries("default", 0, 0)
	require.NoError(t, g.Load(g.Caddyfile("forward "+app.URL+"\ndestination archive {\nforward "+archive.URL+"\n}", "", quiet)))
	assert.Equal(t, fmt.Sprintf("%d events would be replayed to archive.\n", n), g.requireCLI("replay", "--all", "--to", "archive", "--dry-run"))
	answer := ask[control.Bulk](g, http.MethodPost, "default/replay?all=true&to=archive", "")
	assert.EqualValues(t, n, answer.Changed)
	g.awaitDeliveries("archive", 0, 0)
	assert.Len(t, archive.Counts(), n)
	assert.Len(t, app.Deliveries(), n, "nothing is sent again to the other")
}

// An event that fits no destination is kept, and can be delivered by hand.
func TestSkippedEvents(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("destination failures {\nmatch status failed\nforward "+up.URL+"\n}", "", quiet)
	id := g.Accept(notice("fine", 1))
	assert.True(t, g.Post(notice("fine", 1)).Duplicate)
	assert.Equal(t, []string{id}, eventIDs(g.list(url.Values{"state": {"skipped"}})))
	assert.Equal(t, 1, g.Events("skipped"))
	assert.Contains(t, g.requireCLI("show", id), "skipped, because it fits no destination")
	assert.Equal(t, http.StatusConflict, g.API(http.MethodPost, "default/events/"+id+"/replay", "").Status)
	ask[control.Done](g, http.MethodPost, "default/events/"+id+"/replay?to=failures", "")
	up.Await(t, 1)
	await(t, func() bool { return g.Events("skipped") == 0 && g.Events("delivered") == 1 }, "it to be delivered")
}
