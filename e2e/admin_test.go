package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func TestOperatorSeesTheHandlers(t *testing.T) {
	up := refusing(t)
	g := newGateway(t)
	host := strings.TrimPrefix(up.URL, "http://")
	t.Setenv("E2E_SIGN", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	g.Start("forward http://user:hunter2@"+host+"/hook/s3cret?token=s3cret\nsign {env.E2E_SIGN}\nkeep 24h\nretry {\ngive_up 48h\n}", "", quiet)
	g.Accept(notice("dead", 1))
	await(t, func() bool { return g.Events("dead") == 1 }, "the event to be dead")
	require.Equal(t, http.StatusUnprocessableEntity, g.Post("{}").Status)

	reply := g.API(http.MethodGet, "", "")
	for _, secret := range []string{"hunter2", "s3cret", "MfKQ9r8"} {
		assert.NotContains(t, string(reply.Body), secret)
	}
	var all control.Handlers
	require.NoError(t, json.Unmarshal(reply.Body, &all))
	require.Len(t, all.Handlers, 1)
	h := all.Handlers[0]
	assert.Equal(t, "default", h.Name)
	assert.Equal(t, control.Config{
		Allow: []string{"127.0.0.1"}, AllowFrom: []string{}, MaxBody: 1 << 20, Inbox: "sqlite", Storage: "sqlite:" + g.DB,
		Keep: "24h0m0s", Quarantine: 1000, Forward: up.URL, SignSecrets: 1, Timeout: "30s", Concurrency: 32,
		RetryFirst: "5s", RetryMax: "1h0m0s", GiveUp: "48h0m0s", Destinations: []control.DestinationConfig{},
	}, h.Config)
	assert.Equal(t, &control.Counts{Dead: 1}, h.Events)
	assert.EqualValues(t, 1, *h.Quarantined)
	assert.Nil(t, h.OldestPending)
	assert.Positive(t, *h.InboxBytes)
	assert.EqualValues(t, 10<<30, *h.InboxLimit)
	assert.Empty(t, h.Holds)
	assert.Empty(t, h.Refusals)
	assert.Empty(t, h.Error)

	assert.NotEmpty(t, all.Process.Caddy)
	one := ask[control.Handler](g, http.MethodGet, "default", "")
	h.Process = &all.Process
	assert.Equal(t, h, one)
}

func TestOperatorSeesWhoWasRefused(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nallow 192.0.2.1", "", "servers {\ntrusted_proxies static 127.0.0.1\ntrusted_proxies_strict\n}\n"+quiet)
	for i := range control.MaxRefusals + 20 {
		for range 1 + i%2 {
			require.Equal(t, http.StatusForbidden, g.Post("{}", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i)).Status)
		}
	}
	refusals := ask[control.Handler](g, http.MethodGet, "default", "").Refusals
	require.Len(t, refusals, control.MaxRefusals, "they are bounded")
	for i, r := range refusals {
		n := control.MaxRefusals + 19 - i
		assert.Equal(t, fmt.Sprintf("198.51.100.%d", n), r.Address, "the latest first")
		assert.EqualValues(t, 1+n%2, r.Count)
		assert.True(t, strings.HasPrefix(r.Peer, "127.0.0.1:"), r.Peer)
		assert.Equal(t, "address is not whitelisted", r.Reason)
		assert.False(t, r.Last.Before(r.First))
		assert.WithinDuration(t, time.Now(), r.Last, time.Minute)
	}
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL, "", quiet)))
	assert.Equal(t, refusals, ask[control.Handler](g, http.MethodGet, "default", "").Refusals, "a reload forgets none")
}

// Paging returns every event once that is there from beginning to end, whatever arrives
// and is settled meanwhile.
func TestPagingIsStable(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	var before []string
	for i := range 100 {
		before = append(before, g.Accept(notice(fmt.Sprint("before-", i), 1)))
	}
	callers := call(t, g.URL(), 4)
	callers.AwaitAnswers(t, 100)
	for _, order := range []string{"desc", "asc"} {
		for _, limit := range []string{"1", "7", "1000"} {
			seen := make(map[string]int)
			query := url.Values{"limit": {limit}, "order": {order}}
			until := time.Now()
			if order == "asc" { // or it would go on for as long as events arrive
				query.Set("until", until.Format(time.RFC3339Nano))
			}
			for _, e := range g.list(query) {
				seen[e.ID]++
			}
			for id, times := range seen {
				require.Equal(t, 1, times, "%s in order %s", id, order)
			}
			for _, id := range before {
				require.Contains(t, seen, id, "order %s, limit %s", order, limit)
			}
		}
	}
	callers.Stop()
}

func TestEventsAreFoundByFilter(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, d delivery) {
		if d.Event.Type == "avatar" {
			w.WriteHeader(http.StatusGone)
		}
	})
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	dead := g.Accept(avatar("portrait & co"))
	fine := g.Accept(notice("painting", 0))
	await(t, func() bool { return g.Events("dead") == 1 && g.Events("delivered") == 1 }, "both ends")
	middle := time.Now()
	late := g.Accept(notice("painting", 1))
	await(t, func() bool { return g.Events("delivered") == 2 }, "the third")

	for query, want := range map[string][]string{
		"":                                {late, fine, dead},
		"order=asc":                       {dead, fine, late},
		"state=dead":                      {dead},
		"state=dead,delivered":            {late, fine, dead},
		"state=superseded":                {},
		"task=painting":                   {late, fine},
		"task=paint":                      {},
		"task=portrait+%26+co":            {dead},
		"type=avatar":                     {dead},
		"type=text2img&state=delivered":   {late, fine},
		"since=1h":                        {late, fine, dead},
		"until=1h":                        {},
		"since=" + stamp(middle):          {late},
		"until=" + stamp(middle):          {fine, dead},
		"limit=2":                         {late, fine, dead},
		"task=painting&limit=1&order=asc": {fine, late},
		"state=dead&limit=1&order=asc":    {dead},
		"type=avatar&limit=1&until=" + stamp(middle): {dead},
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		assert.Equal(t, want, eventIDs(g.list(values)), query)
	}
}

func stamp(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339Nano)) }

func TestEventIsShownWhole(t *testing.T) {
	answers := make(chan int, 3)
	up := newUpstream(t, func(w http.ResponseWriter, _ delivery) {
		w.WriteHeader(<-answers)
		fmt.Fprint(w, "not today")
	})
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", quiet)
	answers <- http.StatusTeapot
	answers <- http.StatusNotFound
	answers <- http.StatusOK
	id := g.Accept(avatar("task"))
	g.delivered(1)

	e := ask[control.EventDetail](g, http.MethodGet, "default/events/"+id, "")
	assert.Equal(t, id, e.ID)
	assert.Equal(t, "task", e.TaskID)
	assert.Equal(t, "avatar", e.Type)
	assert.Equal(t, "completed", e.Status)
	assert.Equal(t, "delivered", e.State)
	assert.Equal(t, 3, e.Attempts)
	assert.WithinDuration(t, time.Now(), *e.SettledAt, time.Minute)
	assert.JSONEq(t, string(up.Deliveries()[0].Body), string(e.Body))
	require.Len(t, e.AttemptRecords, 3)
	for i, want := range []control.Attempt{
		{Number: 1, Status: http.StatusTeapot, Reason: "HTTP 418: not today"},
		{Number: 2, Status: http.StatusNotFound, Reason: "HTTP 404: not today"},
		{Number: 3, Status: http.StatusOK},
	} {
		got := e.AttemptRecords[i]
		assert.WithinDuration(t, up.Deliveries()[i].At, got.At, time.Minute)
		assert.Positive(t, got.DurationMS)
		got.At, got.DurationMS = time.Time{}, 0
		assert.Equal(t, want, got)
	}
	assert.Equal(t, e.AttemptRecords[2], *e.LastAttempt)

	require.Equal(t, http.StatusNoContent, g.API(http.MethodDelete, "default/events/"+id, "").Status)
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodGet, "default/events/"+id, "").Status)
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodDelete, "default/events/"+id, "").Status)
}

// Bad input is an error that names it, and changes nothing.
func TestAdminAPIRefusesBadInput(t *testing.T) {
	up := refusing(t)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	id := g.Accept(notice("task", 1))
	await(t, func() bool { return g.Events("dead") == 1 }, "the event to be dead")
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "default/events?limit=0", "", 400, `parameter "limit": it is "0": expected a number from 1 to 1000`},
		{"GET", "default/events?limit=-1", "", 400, `parameter "limit"`},
		{"GET", "default/events?limit=999999999999999999999999", "", 400, `parameter "limit"`},
		{"GET", "default/events?limit=", "", 400, `parameter "limit"`},
		{"GET", "default/events?cursor=nonsense", "", 400, `parameter "cursor"`},
		{"GET", "default/events?cursor=", "", 400, `parameter "cursor"`},
		{"GET", "default/events?cursor=-1", "", 400, `parameter "cursor"`},
		{"GET", "default/events?cursor=99999999999999999999999", "", 400, `parameter "cursor"`},
		{"GET", "default/events?cursor=1%27%20OR%201=1", "", 400, `parameter "cursor"`},
		{"GET", "default/events?state=gone", "", 400, `parameter "state": it has "gone": expected pending, delivered, superseded, dead`},
		{"GET", "default/events?state=", "", 400, `parameter "state"`},
		{"GET", "default/events?state=dead&state=pending", "", 400, `parameter "state": it is given 2 times`},
		{"GET", "default/events?sate=dead", "", 400, `parameter "sate": it is unknown here`},
		{"GET", "default/events?order=up", "", 400, `parameter "order"`},
		{"GET", "default/events?order=asc,desc", "", 400, `parameter "order"`},
		{"GET", "default/events?since=yesterday", "", 400, `parameter "since": it is "yesterday": expected a time`},
		{"GET", "default/events?since=-5m", "", 400, `parameter "since"`},
		{"GET", "default/events?since=1h&until=2h", "", 400, `parameter "until": it is no later than since`},
		{"GET", "default/events?since=0000-01-01T00:00:00Z", "", 400, `parameter "since"`},
		{"GET", "default/events?task=", "", 400, `parameter "task"`},
		{"GET", "default/events?task=" + long, "", 400, `parameter "task": it has 5000 bytes`},
		{"GET", "default/events?" + long + "=1", "", 400, "unknown here"},
		{"GET", "default/events?%zz", "", 400, "the query cannot be read"},
		{"GET", "default/events/nonsense", "", 404, "event id"},
		{"GET", "default/events/" + strings.Repeat("0", 48), "", 404, "not found"},
		{"GET", "default/events/" + id + "?x=1", "", 400, `parameter "x"`},
		{"GET", "default/events/..%2f..%2fconfig", "", 404, ""},
		{"GET", "default/events/stream?kind=all", "", 400, `parameter "kind"`},
		{"GET", "default/events/stream?last_event_id=1", "", 400, "is no id of a notice"},
		{"POST", "default/replay", "", 400, "there is no filter"},
		{"POST", "default/replay?dry_run=yes&state=dead", "", 400, `parameter "dry_run"`},
		{"POST", "default/replay?state=dead&limit=0", "", 400, `parameter "limit"`},
		{"POST", "default/replay?state=dead&cursor=1", "", 400, `parameter "cursor": it is unknown here`},
		{"POST", "default/purge", "", 400, "there is no filter"},
		{"POST", "default/purge?all=1", "", 400, `parameter "all"`},
		{"POST", "default/events/" + strings.Repeat("0", 48) + "/replay", "", 404, "not found"},
		{"POST", "default/hold", "{", 400, "the body"},
		{"POST", "default/hold", `{"reson":"x"}`, 400, "reson"},
		{"POST", "default/hold", `{"for":"soon"}`, 400, "for is no duration"},
		{"POST", "default/hold", `{"for":"-1m"}`, 400, "in the past"},
		{"POST", "default/hold", `{"until":"2020-01-01T00:00:00Z"}`, 400, "in the past"},
		{"POST", "default/hold", `{"until":"2090-01-01T00:00:00Z"}`, 400, "later than in a year"},
		{"POST", "default/hold", `{"for":"1m","until":"2090-01-01T00:00:00Z"}`, 400, "both until and for"},
		{"POST", "default/hold", `{"reason":"` + long + `"}`, 400, "reason"},
		{"POST", "default/hold", strings.Repeat(" ", 20_000), 400, "larger than"},
		{"GET", "default/quarantine?limit=1001", "", 400, `parameter "limit"`},
		{"GET", "default/quarantine?cursor=x", "", 400, `parameter "cursor"`},
		{"GET", "default/quarantine?order=asc", "", 400, `parameter "order": it is unknown here`},
		{"GET", "default/quarantine/0", "", 404, "no id of a quarantined callback"},
		{"GET", "default/quarantine/01", "", 404, "no id"},
		{"GET", "default/quarantine/99", "", 404, "not found"},
		{"DELETE", "default/quarantine/99", "", 404, "not found"},
		{"POST", "default/quarantine/99/release", "", 404, "not found"},
		{"GET", "default/history?span=month", "", 400, `parameter "span": it is "month": expected one of hour, day, week`},
		{"GET", "default/explain", "", 400, `parameter "ip"`},
		{"GET", "default/explain?ip=example.com", "", 400, `parameter "ip": it is "example.com": expected an IPv4 or IPv6 address`},
		{"GET", "default/explain?ip=1.2.3.4&forwarded_for=a%0d%0ab", "", 400, `parameter "forwarded_for"`},
		{"GET", "other", "", 404, "no running fotor_webhook handler has this name"},
		{"GET", "n%00pe/events", "", 404, "no handler's name"},
		{"GET", strings.Repeat("n", 65), "", 404, "no handler's name"},
		{"GET", "default/nothing", "", 404, "no such path"},
		{"GET", "default/", "", 404, ""},
		{"POST", "default/events", "", 405, "expected GET"},
		{"PUT", "default/events/" + id, "", 405, "expected DELETE, GET"},
		{"GET", "default/replay", "", 405, "expected POST"},
		{"HEAD", "default/purge", "", 405, ""},
	} {
		reply := g.API(c.method, c.path, c.body)
		name := fmt.Sprintf("%s %.80s %.40s", c.method, c.path, c.body)
		assert.Equal(t, c.status, reply.Status, "%s: %s", name, reply.Body)
		assert.Contains(t, strings.ReplaceAll(string(reply.Body), `\"`, `"`), c.want, name)
		assert.Less(t, len(reply.Body), 1000, name)
		if c.status == http.StatusMethodNotAllowed {
			assert.NotEmpty(t, reply.Header.Get("Allow"), name)
		}
	}
	assert.Equal(t, 1, g.Events("dead"), "nothing happened")
	assert.Empty(t, ask[control.Handler](g, http.MethodGet, "default", "").Holds)
}

// Caddy's own protections of its admin endpoint apply to the gateway's part.
func TestAdminEndpointIsProtected(t *testing.T) {
	up := refusing(t)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	g.Accept(notice("task", 1))
	await(t, func() bool { return g.Events("dead") == 1 }, "the event to be dead")
	for name, headers := range map[string][]string{
		"another host":     {"Host", "attacker.example"},
		"another origin":   {"Origin", "http://attacker.example"},
		"the origin null":  {"Origin", "null"},
		"mode no-cors":     {"Sec-Fetch-Mode", "no-cors"},
		"a foreign script": {"Sec-Fetch-Mode", "cors", "Referer", "http://attacker.example/page"},
	} {
		reply := g.API(http.MethodPost, "default/purge?state=dead", "", headers...)
		assert.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, reply.Status, name)
	}
	assert.Equal(t, 1, g.Events("dead"))
	assert.Empty(t, g.API(http.MethodGet, "", "").Header.Get("Access-Control-Allow-Origin"))
}

// The API shows the handlers of the current config.
func TestAdminAPIFollowsReloads(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("name first\nforward "+up.URL, "", quiet)
	require.Equal(t, http.StatusOK, g.API(http.MethodGet, "first", "").Status)
	require.NoError(t, g.Load(g.Caddyfile("name second\nforward "+up.URL, "", quiet)))
	require.Equal(t, http.StatusNotFound, g.API(http.MethodGet, "first", "").Status)
	require.Equal(t, http.StatusOK, g.API(http.MethodGet, "second", "").Status)
	require.NoError(t, g.Load(fmt.Sprintf("{\nadmin 127.0.0.1:%d\npersist_config off\n}\n", g.Admin)))
	assert.Empty(t, ask[control.Handlers](g, http.MethodGet, "", "").Handlers)
}
