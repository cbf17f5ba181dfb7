package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// fakeGateway is a handler whose config has the destinations app and staging, and whose
// inbox lists some events. It records what it is asked to change.
type fakeGateway struct {
	control.Gateway
	feed *control.Feed

	mu           sync.Mutex
	destinations []string
	events       int
	asked        []string
	filters      []inbox.Filter
	change       func() // called on each change
}

func newFakeGateway(events int) *fakeGateway {
	return &fakeGateway{destinations: []string{"app", "staging"}, events: events, feed: control.NewFeed("shop"), change: func() {}}
}

// fakeInbox is its inbox.
type fakeInbox struct {
	inbox.Inbox
	*fakeGateway
}

func (g *fakeGateway) Inbox() inbox.Inbox   { return fakeInbox{fakeGateway: g} }
func (g *fakeGateway) Feed() *control.Feed  { return g.feed }
func (g *fakeGateway) Holds() control.Holds { return control.Holds{Holds: []control.Hold{}} }

func (g *fakeGateway) Destinations() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.destinations
}

func (g *fakeGateway) record(format string, args ...any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.change()
	g.asked = append(g.asked, fmt.Sprintf(format, args...))
	return nil
}

func (g *fakeGateway) Hold(_ context.Context, destination, reason string, _ time.Time) error {
	return g.record("hold %q: %s", destination, reason)
}

func (g *fakeGateway) Resume(_ context.Context, destination string) error {
	return g.record("resume %q", destination)
}

func (g fakeInbox) Replay(_ context.Context, id, destination string) error {
	return g.record("replay %s %q", id, destination)
}

func (g fakeInbox) Move(_ context.Context, id, from, to string) error {
	return g.record("move %s %q %q", id, from, to)
}

func (g fakeInbox) Purge(_ context.Context, id, destination string) error {
	return g.record("purge %s %q", id, destination)
}

func (g fakeInbox) List(_ context.Context, f inbox.Filter, p inbox.Page) (records []*inbox.Record, next string, err error) {
	g.filters = append(g.filters, f)
	past, limit, err := p.Start()
	for n := past + 1; err == nil && n <= int64(g.events); n++ {
		if len(records) == limit {
			return records, p.Next(n - 1), nil
		}
		records = append(records, &inbox.Record{Event: &inbox.Event{ID: fmt.Sprintf("e%d", n), TaskID: "t"}})
	}
	return records, "", err
}

var (
	sampleLog = []inbox.Attempt{
		{At: time.Unix(10, 0), Status: 503, Reason: "busy"},
		{At: time.Unix(30, 0), Status: 204},
	}
	sampleRecord = &inbox.Record{
		Event:    &inbox.Event{ID: "e1", Body: []byte(`{}`)},
		Progress: inbox.Progress{State: inbox.Pending, Attempts: 3},
		Deliveries: []inbox.Delivery{
			{Destination: "app", Progress: inbox.Progress{State: inbox.Delivered, Attempts: 2, Last: sampleLog[1]}, Log: sampleLog},
			{Destination: "new", Progress: inbox.Progress{State: inbox.Pending}},
			{Destination: "old", Progress: inbox.Progress{State: inbox.Dead, Attempts: 1}, Log: []inbox.Attempt{{At: time.Unix(20, 0), Status: 410, Reason: "gone"}}},
		},
	}
)

func (fakeInbox) Get(context.Context, string) (*inbox.Record, error) { return sampleRecord, nil }

// request makes a request to a route. It returns the answer and the fields of the log
// line about it.
func request(t *testing.T, g control.Gateway, method, path, query, body string) (status int, answer string, logged map[string]any) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, control.Root+path+"?"+query, strings.NewReader(body))
	for i := range routes {
		vars, ok := routes[i].match(path)
		if !ok {
			continue
		}
		c := &call{API: &API{ctx: ctx, logger: zap.New(core)}, w: w, r: r, gateway: g, id: vars["{id}"]}
		err := routes[i].methods[method](c)
		if failed, ok := errors.AsType[caddy.APIError](err); ok {
			return failed.HTTPStatus, failed.Err.Error(), nil
		}
		require.NoError(t, err)
		for _, entry := range logs.All() {
			logged = entry.ContextMap()
		}
		return w.Code, strings.TrimSpace(w.Body.String()), logged
	}
	t.Fatalf("no route %s", path)
	return 0, "", nil
}

func TestDestinationsOfOneRequest(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, query string
		status              int
		asked               []string
		answer              string // the end of it
		logged              map[string]any
	}{
		"replay":              {"POST", "shop/events/e1/replay", "", 200, []string{`replay e1 ""`}, `{"id":"e1","state":"pending"}`, map[string]any{}},
		"replay to one":       {"POST", "shop/events/e1/replay", "destination=old", 200, []string{`replay e1 "old"`}, "", map[string]any{"destination": "old"}},
		"replay to another":   {"POST", "shop/events/e1/replay", "destination=old&to=app", 200, []string{`move e1 "old" "app"`}, "", map[string]any{"destination": "old", "to": "app"}},
		"replay to one more":  {"POST", "shop/events/e1/replay", "to=app", 200, []string{`move e1 "" "app"`}, "", map[string]any{"to": "app"}},
		"replay to the same":  {"POST", "shop/events/e1/replay", "destination=app&to=app", 400, nil, "it is the destination itself: expected another one, or no such parameter", nil},
		"replay to unknown":   {"POST", "shop/events/e1/replay", "to=old", 404, nil, `the config has no destination "old": expected app, staging`, nil},
		"bad name":            {"POST", "shop/events/e1/replay", "destination=a/b", 400, nil, `destination "a/b": expected 1 to 64 letters, digits, '_' or '-'`, nil},
		"no name":             {"POST", "shop/events/e1/replay", "to=", 400, nil, "it is empty: expected a value, or no such parameter", nil},
		"purge":               {"DELETE", "shop/events/e1", "", 204, []string{`purge e1 ""`}, "", map[string]any{}},
		"purge of one":        {"DELETE", "shop/events/e1", "destination=old", 204, []string{`purge e1 "old"`}, "", map[string]any{"destination": "old"}},
		"purge to":            {"DELETE", "shop/events/e1", "to=app", 400, nil, "it is unknown here: expected destination", nil},
		"hold":                {"POST", "shop/hold", "", 200, []string{`hold "": `}, `"destinations":["app","staging"]}`, map[string]any{"reason": ""}},
		"hold of one":         {"POST", "shop/hold", "destination=app", 200, []string{`hold "app": `}, "", map[string]any{"destination": "app", "reason": ""}},
		"hold of unknown":     {"POST", "shop/hold", "destination=old", 404, nil, `the config has no destination "old": expected app, staging`, nil},
		"resume":              {"POST", "shop/resume", "", 200, []string{`resume ""`}, "", map[string]any{}},
		"resume of one":       {"POST", "shop/resume", "destination=staging", 200, []string{`resume "staging"`}, "", map[string]any{"destination": "staging"}},
		"resume of unknown":   {"POST", "shop/resume", "destination=App", 404, nil, `the config has no destination "App": expected app, staging`, nil},
		"stream with no name": {"GET", "shop/events/stream", "destination=", 400, nil, "it is empty: expected a value, or no such parameter", nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGateway(1)
			status, answer, logged := request(t, g, c.method, c.path, c.query, "")
			require.Equal(t, c.status, status, answer)
			require.Equal(t, c.asked, g.asked)
			require.True(t, strings.HasSuffix(answer, c.answer), answer)
			for _, name := range []string{"handler", "remote", "event_id"} {
				delete(logged, name)
			}
			require.Equal(t, c.logged, logged)
		})
	}
}

// A replay or purge by filter changes the deliveries of the destination that is named. It
// touches what is pending only if that is asked for, or where it is to go elsewhere.
func TestDestinationsOfBulk(t *testing.T) {
	settled := []inbox.State{inbox.Delivered, inbox.Superseded, inbox.Dead}
	for name, c := range map[string]struct {
		path, query string
		asked       string // a change
		states      []inbox.State
		logged      map[string]any
	}{
		"replay":             {"replay", "type=avatar", `replay e1 ""`, settled, map[string]any{}},
		"replay of one":      {"replay", "destination=old", `replay e1 "old"`, settled, map[string]any{"destination": "old"}},
		"replay to another":  {"replay", "destination=old&to=app", `move e1 "old" "app"`, []inbox.State{inbox.Pending, inbox.Dead}, map[string]any{"destination": "old", "to": "app"}},
		"replay to one more": {"replay", "all=true&to=app", `move e1 "" "app"`, nil, map[string]any{"to": "app"}},
		"replay of skipped":  {"replay", "state=skipped&to=app", `move e1 "" "app"`, []inbox.State{inbox.Skipped}, map[string]any{"to": "app"}},
		"states of another":  {"replay", "destination=old&to=app&state=delivered", `move e1 "old" "app"`, []inbox.State{inbox.Delivered}, map[string]any{"destination": "old", "to": "app"}},
		"purge":              {"purge", "all=true", `purge e1 ""`, append(slices.Clone(settled), inbox.Skipped), map[string]any{}},
		"purge of one":       {"purge", "destination=old&state=pending,dead", `purge e1 "old"`, []inbox.State{inbox.Pending, inbox.Dead}, map[string]any{"destination": "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGateway(2)
			status, answer, logged := request(t, g, http.MethodPost, "shop/"+c.path, c.query, "")
			require.Equal(t, http.StatusOK, status, answer)
			require.JSONEq(t, `{"matched":2,"changed":2,"skipped":0,"dryRun":false,"done":true}`, answer)
			require.Equal(t, []string{c.asked, strings.Replace(c.asked, "e1", "e2", 1)}, g.asked)
			require.Equal(t, c.states, g.filters[0].States)
			require.Equal(t, c.logged["destination"], logged["destination"])
			require.Equal(t, c.logged["to"], logged["to"])
			require.Equal(t, c.query, logged["filter"])
		})
	}
}

func TestDestinationsThatBulkRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"to=app":                      "there is no filter: expected at least one of the parameters state, destination, task, type, since, until, or all=true",
		"state=skipped":               "expected the parameter to as well, or no such state",
		"state=dead,skipped&type=x":   "expected the parameter to as well, or no such state",
		"destination=app&to=app":      "it is the destination itself",
		"destination=old&to=nowhere":  `the config has no destination "nowhere": expected app, staging`,
		"destination=app,staging":     `destination "app,staging": expected 1 to 64 letters`,
		"destination=a&destination=b": "it is given 2 times: expected once",
	} {
		g := newFakeGateway(1)
		status, answer, _ := request(t, g, http.MethodPost, "shop/replay", query, "")
		require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, status)
		require.Contains(t, answer, want, query)
		require.Empty(t, g.asked)
	}
}

// A reload that removes the destination to which events are being moved ends that, so
// that no more is left behind there.
func TestBulkEndsWithItsDestination(t *testing.T) {
	g := newFakeGateway(10 * control.ChangePage)
	g.change = func() { g.destinations = []string{"app"} }
	status, answer, _ := request(t, g, http.MethodPost, "shop/replay", "destination=old&to=staging", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.JSONEq(t, `{"matched":256,"changed":256,"skipped":0,"dryRun":false,"done":false,"error":"the config has no destination \"staging\": expected app"}`, answer)
}

func TestFilterOfList(t *testing.T) {
	g := newFakeGateway(1)
	status, answer, _ := request(t, g, http.MethodGet, "shop/events", "destination=gone&state=dead&order=asc", "")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, []inbox.Filter{{Destination: "gone", States: []inbox.State{inbox.Dead}}}, g.filters)
}

// Each delivery has its attempts; those of the event are all of them, as they began.
func TestDeliveriesOfEvent(t *testing.T) {
	status, answer, _ := request(t, newFakeGateway(1), http.MethodGet, "shop/events/e1", "", "")
	require.Equal(t, http.StatusOK, status)
	var detail control.EventDetail
	require.NoError(t, json.Unmarshal([]byte(answer), &detail))
	statuses := func(attempts []control.Attempt) (all []int) {
		for _, a := range attempts {
			all = append(all, a.Status)
		}
		return all
	}
	require.Equal(t, []int{503, 410, 204}, statuses(detail.AttemptRecords))
	require.Len(t, detail.Deliveries, 3)
	require.Equal(t, []int{503, 204}, statuses(detail.Deliveries[0].AttemptRecords))
	require.Equal(t, control.Delivery{Destination: "new", State: "pending"}, detail.Deliveries[1])
	require.Equal(t, []int{410}, statuses(detail.Deliveries[2].AttemptRecords))
	require.NotContains(t, answer, "null")
}

func TestStreamOfDestination(t *testing.T) {
	wanted := selection{destination: "app"}
	for kind, want := range map[string]bool{"app": true, "staging": false, "": false} {
		require.Equal(t, want, wanted.has(&control.Notice{Kind: control.Retried, Destination: kind}), kind)
	}
	require.True(t, wanted.has(&control.Notice{Kind: control.Gap}), "what is missing may be of any destination")
}
