package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// acceptMany sends callbacks of n tasks, several at a time.
func (g *gateway) acceptMany(n int, body func(i int) string) {
	g.t.Helper()
	const senders = 16
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := s; i < n; i += senders {
				answer := g.Post(body(i))
				assert.Equal(g.t, http.StatusOK, answer.Status, answer.Body)
			}
		})
	}
	wg.Wait()
}

func TestReplayOfTenThousandDeadEvents(t *testing.T) {
	const n = 10_000
	up := refusing(t)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", silent)
	g.acceptMany(n, func(i int) string { return notice(fmt.Sprint("task-", i), 1) })
	await(t, func() bool { return g.Events("dead") == n }, "all to be dead")
	up.Answer(nil)
	seen := len(up.Deliveries())

	dry := ask[control.Bulk](g, http.MethodPost, "default/replay?state=dead&dry_run=true", "")
	assert.Equal(t, control.Bulk{Matched: n, Changed: n, DryRun: true, Done: true}, dry)
	assert.Equal(t, n, g.Events("dead"), "a dry run changes nothing")

	some := ask[control.Bulk](g, http.MethodPost, "default/replay?state=dead&limit=10", "")
	assert.Equal(t, control.Bulk{Matched: 10, Changed: 10, Done: true}, some)

	reply := g.API(http.MethodPost, "default/replay?state=dead", "", "Accept", "application/x-ndjson")
	require.Equal(t, http.StatusOK, reply.Status)
	assert.Equal(t, "application/x-ndjson", reply.Header.Get("Content-Type"))
	lines := bytes.Split(bytes.TrimSpace(reply.Body), []byte("\n"))
	var last, before control.Bulk
	for i, line := range lines {
		require.NoError(t, json.Unmarshal(line, &last), "%s", line)
		assert.Equal(t, i == len(lines)-1, last.Done)
		assert.GreaterOrEqual(t, last.Changed, before.Changed, "it only grows")
		before = last
	}
	assert.Equal(t, control.Bulk{Matched: n - 10, Changed: n - 10, Done: true}, last)

	g.delivered(n)
	replayed := up.Deliveries()[seen:]
	for _, d := range replayed {
		assert.Equal(t, "2", d.Header.Get("Fotor-Webhook-Attempt"), "attempts are numbered on")
	}
	counts := countByID(replayed)
	assert.Len(t, counts, n)
	for id, times := range counts {
		assert.Equal(t, 1, times, id)
	}
	assert.Zero(t, g.Events("dead"))
}

// Events of a task that are replayed together are delivered in order.
func TestReplayKeepsTheOrderOfATask(t *testing.T) {
	const tasks, each = 20, 10
	up := refusing(t)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", silent)
	for n := range each {
		g.acceptMany(tasks, func(i int) string {
			return fmt.Sprintf(`{"taskId":"task-%d","status":1,"type":"text2img","businessId":"%d"}`, i, n)
		})
	}
	await(t, func() bool { return g.Events("dead") == tasks*each }, "all to be dead")
	up.Answer(nil)
	seen := len(up.Deliveries())
	answer := ask[control.Bulk](g, http.MethodPost, "default/replay?type=text2img", "")
	assert.EqualValues(t, tasks*each, answer.Changed)
	g.delivered(tasks * each)
	last := make(map[string]int)
	for _, d := range up.Deliveries()[seen:] {
		var n int
		_, err := fmt.Sscan(d.Event.BusinessID, &n)
		require.NoError(t, err)
		assert.Equal(t, last[d.Event.TaskID], n, "of %s", d.Event.TaskID)
		last[d.Event.TaskID] = n + 1
	}
}

func TestReplayAndPurgeByHand(t *testing.T) {
	up := refusing(t)
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", quiet)
	first, second := g.Accept(notice("first", 1)), g.Accept(notice("second", 1))
	await(t, func() bool { return g.Events("dead") == 2 }, "both to be dead")

	up.Answer(status(http.StatusTeapot))
	done := ask[control.Done](g, http.MethodPost, "default/events/"+first+"/replay", "")
	assert.Equal(t, control.Done{ID: first, State: "pending"}, done)
	done = ask[control.Done](g, http.MethodPost, "default/events/"+first+"/replay", "")
	assert.Equal(t, control.Done{ID: first, State: "pending"}, done, "though it is pending already")

	// pending events are not changed unless the filter names them
	purge := ask[control.Bulk](g, http.MethodPost, "default/purge?all=true", "")
	assert.Equal(t, control.Bulk{Matched: 1, Changed: 1, Done: true}, purge)
	assert.Equal(t, []string{first}, eventIDs(g.list(url.Values{})))
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodPost, "default/events/"+second+"/replay", "").Status)

	for _, dry := range []string{"true", "false"} {
		replay := ask[control.Bulk](g, http.MethodPost, "default/replay?state=pending,dead&dry_run="+dry, "")
		assert.Equal(t, control.Bulk{Matched: 1, Changed: 1, DryRun: dry == "true", Done: true}, replay)
	}
	await(t, func() bool {
		return ask[control.Bulk](g, http.MethodPost, "default/purge?state=pending", "").Changed == 1
	}, "a moment in which it is not being delivered")
	assert.Empty(t, g.list(url.Values{}))
}

func TestReplayOfPendingEventsDeliversThemAtOnce(t *testing.T) {
	for _, how := range []string{"one", "many"} {
		t.Run(how, func(t *testing.T) {
			up := newUpstream(t, status(http.StatusTeapot))
			g := newGateway(t)
			g.Start("forward "+up.URL+"\nretry {\nfirst 24h\nmax 24h\n}", "", quiet)
			id := g.Accept(notice("task", 1))
			await(t, func() bool {
				events := g.list(url.Values{})
				return len(events) == 1 && events[0].Due != nil
			}, "the event to wait for its next attempt")

			up.Answer(nil)
			skipped := ask[control.Bulk](g, http.MethodPost, "default/replay?all=true", "")
			assert.Equal(t, control.Bulk{Done: true}, skipped, "pending events have to be named")
			if how == "one" {
				done := ask[control.Done](g, http.MethodPost, "default/events/"+id+"/replay", "")
				assert.Equal(t, control.Done{ID: id, State: "pending"}, done)
			} else {
				many := ask[control.Bulk](g, http.MethodPost, "default/replay?state=pending", "")
				assert.Equal(t, control.Bulk{Matched: 1, Changed: 1, Done: true}, many)
			}
			g.delivered(1)
			deliveries := up.Deliveries()
			require.Len(t, deliveries, 2)
			assert.Equal(t, "2", deliveries[1].Header.Get("Fotor-Webhook-Attempt"), "the first attempt still counts")
		})
	}
}
