package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const anEvent = "628b49d96dcde97a178c29c13f82470a721ad37bb80f838f"

func TestActionsChangeAndAreLogged(t *testing.T) {
	for name, c := range map[string]struct {
		leaf   string
		fields []string
		asked  string
		text   string
		to     string
		logged map[string]any
	}{
		"replay":            {"replay", []string{"id", anEvent}, "replay " + anEvent + ` ""`, "Replayed: the event is due now.", "./event?", map[string]any{"event_id": anEvent}},
		"replay of one":     {"replay", []string{"id", anEvent, "destination", "old"}, "replay " + anEvent + ` "old"`, "Replayed: the event is due now at old.", "./event?", map[string]any{"destination": "old"}},
		"move":              {"move", []string{"id", anEvent, "destination", "old", "to", "app"}, "move " + anEvent + ` "old" "app"`, "Replayed: the event is due now at app.", "./event?", map[string]any{"destination": "old", "to": "app"}},
		"one more":          {"move", []string{"id", anEvent, "to", "app"}, "move " + anEvent + ` "" "app"`, "Replayed: the event is due now at app.", "./event?", map[string]any{"to": "app"}},
		"purge":             {"purge", []string{"id", anEvent}, "purge " + anEvent + ` ""`, "Purged: the event is gone.", "./events?", map[string]any{"event_id": anEvent}},
		"purge of one":      {"purge", []string{"id", anEvent, "destination", "app"}, "purge " + anEvent + ` "app"`, "Purged: the delivery to app is gone.", "./events?", map[string]any{"destination": "app"}},
		"hold":              {"hold", nil, `hold "" "ops" false`, "Held: nothing is delivered to all destinations until somebody resumes it. (Handler shop.)", "./?", map[string]any{"destination": "", "reason": "ops"}},
		"hold of one":       {"hold", []string{"destination", "app", "reason", "a\nb", "for", "2d"}, `hold "app" "ops: a\nb" true`, "Held: nothing is delivered to app for 2d. (Handler shop.)", "./?", map[string]any{"destination": "app", "reason": "ops: a\nb"}},
		"resume":            {"resume", []string{"destination", ""}, `resume ""`, "Resumed: deliveries to all destinations go on. (Handler shop.)", "./?", nil},
		"release":           {"release", []string{"id", "7"}, "release 7", "Released: it is an event now.", "./event?", map[string]any{"quarantine_id": int64(7), "event_id": "e1"}},
		"discard":           {"discard", []string{"id", "7"}, "discard 7", "Purged: callback No. 7 is gone.", "./problems?", map[string]any{"quarantine_id": int64(7)}},
		"a group of events": {"replay-group", []string{"destination", "app", "status", "500", "reason", "HTTP #: worker # died"}, `replay e00000 "app"`, "Replayed 1 delivery to app.", "./problems?", map[string]any{"destination": "app", "changed": int64(1), "group": "HTTP #: worker # died"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, other := newFakeGateway(1), newFakeGateway(1)
			b := newBench(t, fakeProvider{"shop": g, "another": other})
			w := b.post(c.leaf, append(c.fields, "handler", "shop")...)
			n := b.notice(w)
			require.Equal(t, c.text, n.Text)
			require.Equal(t, []string{c.asked}, g.asked)
			require.Empty(t, other.asked)
			require.True(t, strings.HasPrefix(w.Header().Get("Location"), c.to), w.Header().Get("Location"))
			require.Equal(t, 1, b.logs.Len())
			line := b.logs.All()[0]
			require.Equal(t, zap.InfoLevel, line.Level)
			require.Subset(t, line.ContextMap(), map[string]any{
				"action": c.leaf, "handler": "shop", "user": "ops", "client_ip": "192.0.2.9", "result": c.text,
			})
			require.Subset(t, line.ContextMap(), c.logged)
		})
	}
}

func TestAFailureIsSaidInWords(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("x: %w", inbox.ErrNotFound): "Not done: it is not there any more.",
		fmt.Errorf("x: %w", inbox.ErrState):    "Not done: it is being delivered just now",
		fmt.Errorf("x: %w", inbox.ErrFull):     "Not done: the inbox is full.",
		inbox.ErrBroken:                        "Not done: inbox is broken",
		inbox.ErrClosed:                        "Not done: the inbox does not do it: inbox is closed",
		context.DeadlineExceeded:               "The inbox has not answered in time, so it may be done or not.",
		errors.New("<b>disk</b>"):              "Not done: the inbox does not do it: <b>disk</b>",
	} {
		g := newFakeGateway(0)
		g.err = err
		b := newBench(t, fakeProvider{"shop": g})
		n := b.notice(b.post("replay", "handler", "shop", "id", anEvent))
		require.Equal(t, isBad, n.Class)
		require.Equal(t, "alert", n.Role())
		require.Contains(t, n.Text, want)
		require.Equal(t, 1, b.logs.FilterField(zap.Error(err)).Len())
	}
	b := newBench(t, fakeProvider{"shop": newFakeGateway(0)})
	require.Contains(t, b.notice(b.post("replay", "handler", "gone", "id", anEvent)).Text, "A reload may have removed it.")
	require.Contains(t, b.notice(b.post("hold", "handler", "shop", "destination", "gone")).Text, `the config has no destination "gone": expected app, staging`)

	g := newFakeGateway(0)
	g.err = &control.InvalidError{Problems: []control.Problem{{Pointer: "/a", Detail: "is odd"}, {}}}
	b = newBench(t, fakeProvider{"shop": g})
	require.Equal(t, "Not released: it is still not valid by today's rules: /a is odd, and 1 more problem.", b.notice(b.post("release", "handler", "shop", "id", "7")).Text)
}

// Who searches the log for what was done finds nothing that was not.
func TestWhatWasNotDoneIsNotLoggedAsDone(t *testing.T) {
	const not, unsure = "action not done", "action may be done or not"
	ofGroup := []string{"destination", "app", "status", "500", "reason", "HTTP #: worker # died"}
	for _, c := range []struct {
		leaf   string
		fields []string
		err    error
		want   string
	}{
		{"purge", []string{"id", anEvent}, inbox.ErrNotFound, not},
		{"purge", []string{"id", anEvent, "destination", "app"}, inbox.ErrState, not},
		{"purge", []string{"id", anEvent}, context.DeadlineExceeded, unsure},
		{"purge", []string{"id", anEvent}, context.Canceled, unsure},
		{"purge", []string{"id", anEvent}, nil, "event purged by hand"},
		{"replay", []string{"id", anEvent}, inbox.ErrNotFound, not},
		{"move", []string{"id", anEvent, "to", "gone"}, nil, not},
		{"hold", []string{"destination", "gone"}, nil, not},
		{"resume", []string{"destination", "gone"}, nil, not},
		{"release", []string{"id", "7"}, inbox.ErrNotFound, not},
		{"discard", []string{"id", "7"}, inbox.ErrNotFound, not},
		{"replay-group", ofGroup, inbox.ErrBroken, not},
	} {
		g := newFakeGateway(1)
		g.err = c.err
		b := newBench(t, fakeProvider{"shop": g})
		b.notice(b.post(c.leaf, append(c.fields, "handler", "shop")...))
		require.Equal(t, 1, b.logs.Len(), c.leaf)
		require.Equal(t, c.want, b.logs.All()[0].Message, c.leaf)
		require.Equal(t, c.leaf, b.logs.All()[0].ContextMap()["action"])
	}
}

func TestFormsAreChecked(t *testing.T) {
	g := newFakeGateway(1)
	b := newBench(t, fakeProvider{"shop": g})
	for _, c := range []struct {
		leaf   string
		fields []string
		status int
		want   string
	}{
		{"replay", []string{"handler", "shop"}, 400, "it is missing: expected the id of an event"},
		{"replay", []string{"id", anEvent}, 400, "it is missing: expected the name of a handler"},
		{"replay", []string{"handler", "shop", "id", anEvent, "id", anEvent}, 400, "it is given 2 times: expected once"},
		{"replay", []string{"handler", "shop", "id", anEvent, "all", "true"}, 400, "it is unknown here: expected handler, id, destination"},
		{"replay", []string{"handler", "shop", "id", anEvent, "destination", "a/b"}, 400, "expected 1 to 64 letters"},
		{"move", []string{"handler", "shop", "id", anEvent}, 400, "expected the name of a destination"},
		{"hold", []string{"handler", "shop", "for", "-1h"}, 400, "expected a duration of at most a year"},
		{"hold", []string{"handler", "shop", "for", "800d"}, 400, "expected a duration of at most a year"},
		{"hold", []string{"handler", "shop", "reason", strings.Repeat("x", 252)}, 400, "with the user&#39;s name it has 257 bytes: expected at most 256"},
		{"release", []string{"handler", "shop", "id", "x"}, 400, "expected the number of a quarantined callback"},
		{"replay-group", []string{"handler", "shop", "destination", "app"}, 400, "expected the status of the group"},
		{"replay-group", []string{"handler", "shop", "status", "500"}, 400, "expected the name of a destination"},
		{"replay-group", []string{"handler", "shop", "status", "500", "destination", "app", "cursor", "x"}, 400, "not a cursor of this list"},
		{"try", []string{"handler", "shop", "status", "done"}, 400, "expected in_progress, completed, failed, or a number"},
		{"try", []string{"handler", "shop", "body", "a", "body", "b"}, 400, "it is given 2 times"},
		{"try", []string{"handler", "shop", "body", strings.Repeat("x", mostText+1)}, 400, "expected at most 4194304"},
		{"hold", []string{"handler", "shop", "reason", strings.Repeat("x", mostForm)}, 413, "the form has more than 65536 bytes"},
	} {
		w := b.post(c.leaf, c.fields...)
		require.Equal(t, c.status, w.Code, c.want)
		require.Contains(t, w.Body.String(), c.want)
		require.Contains(t, w.Body.String(), "That cannot be done")
	}
	send := func(path, media, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", media)
		return b.serve(r)
	}
	require.Equal(t, http.StatusUnsupportedMediaType, send("/hold", "text/plain", "handler=shop").Code)
	require.Equal(t, http.StatusBadRequest, send("/hold?handler=shop", "application/x-www-form-urlencoded", "").Code)
	require.Equal(t, http.StatusBadRequest, send("/hold", "application/x-www-form-urlencoded", "a=%zz").Code)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hold", io.MultiReader(strings.NewReader("handler=shop"), errReader{}))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, http.StatusBadRequest, b.serve(r).Code)
	require.Empty(t, g.asked, "nothing was done")
	require.Empty(t, b.logs.All())
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Where the client is sent back to is a page beside the form, whatever it sends.
func TestTheWayBackIsOurs(t *testing.T) {
	b := newBench(t, fakeProvider{"shop": newFakeGateway(0), "another": newFakeGateway(0)})
	for _, id := range []string{"//evil.example", "https://evil.example/", "\\\\evil", "x\r\nSet-Cookie: a=b", "../../a?b#c"} {
		to, err := url.Parse(b.post("replay", "handler", "shop", "id", id).Header().Get("Location"))
		require.NoError(t, err)
		require.Empty(t, to.Host)
		require.Equal(t, "./event", to.Path)
		require.Equal(t, id, to.Query().Get("id"))
		require.Equal(t, "shop", to.Query().Get("handler"))
	}
}

func TestRequestsOfOtherOriginsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		site, origin, host string
		done               bool
	}{
		"the dashboard":                   {"same-origin", "https://a.example", "a.example", true},
		"behind a proxy that ends TLS":    {"same-origin", "https://a.example", "127.0.0.1:8080", true},
		"the address bar":                 {"none", "", "a.example", true},
		"plain http":                      {"", "http://a.example:8080", "a.example:8080", true},
		"no browser":                      {"", "", "a.example", true},
		"another site":                    {"cross-site", "https://evil.example", "a.example", false},
		"a sibling":                       {"same-site", "https://b.example", "a.example", false},
		"plain http, another site":        {"", "http://evil.example", "a.example", false},
		"plain http, another port":        {"", "http://a.example:81", "a.example:80", false},
		"plain http, no referrer":         {"", "null", "a.example", false},
		"plain http, Host is not the one": {"", "http://a.example", "127.0.0.1:8080", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGateway(0)
			b := newBench(t, fakeProvider{"shop": g})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/some/prefix/resume", strings.NewReader("handler=shop"))
			r.Host = c.host
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for header, value := range map[string]string{"Sec-Fetch-Site": c.site, "Origin": c.origin} {
				if value != "" {
					r.Header.Set(header, value)
				}
			}
			w := b.serve(r)
			if c.done {
				require.Equal(t, http.StatusSeeOther, w.Code)
				require.Len(t, g.asked, 1)
				return
			}
			require.Equal(t, http.StatusForbidden, w.Code)
			require.Contains(t, w.Body.String(), "Nothing was done")
			require.Empty(t, g.asked)
			line := b.logs.All()[0]
			require.Equal(t, zap.WarnLevel, line.Level)
			require.Equal(t, c.origin, line.ContextMap()["origin"])
			require.Equal(t, "resume", line.ContextMap()["action"])
		})
	}
}

// Pages do not tell what has not happened, and what is remembered is bounded.
func TestNoticesCannotBeMadeUp(t *testing.T) {
	b := newBench(t, fakeProvider{"shop": newFakeGateway(0)})
	get := func(path string) string {
		return b.serve(httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)).Body.String()
	}
	require.NotContains(t, get("/nothing?notice=Purged"), "Purged")
	require.Contains(t, get("/nothing?notice=Purged"), "is not known here any more")
	b.site.handler.AllowActions = false
	require.NotContains(t, get("/nothing?notice=Purged"), "is not known here any more")
	b.site.handler.AllowActions = true
	first := told.add(notice{Class: isWell, Text: "first"})
	require.Contains(t, get("/nothing?notice="+first), "first")
	for range maxNotices {
		told.add(notice{})
	}
	require.NotContains(t, get("/nothing?notice="+first), "first")
	require.LessOrEqual(t, len(told.all), maxNotices)
}

// A button that leads to a page which only takes what it sends says so.
func TestGetOfAnAction(t *testing.T) {
	b := newBench(t, fakeProvider{"shop": newFakeGateway(0)})
	w := b.serve(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/replay", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "POST", w.Header().Get("Allow"))
	require.Contains(t, w.Body.String(), "a button does that")
	require.Equal(t, "same-origin", w.Header().Get("Referrer-Policy"))
	b.site.handler.AllowActions = false
	require.Equal(t, http.StatusNotFound, (&bench{t: t, site: newSite(b.site.handler)}).serve(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/replay", nil)).Code)
}

func TestTriedCallbacks(t *testing.T) {
	g := newFakeGateway(0)
	b := newBench(t, fakeProvider{"shop": g})
	n := b.notice(b.post("try", "handler", "shop", "by_hand", "true", "body", "{\r\n}"))
	require.Equal(t, "Not accepted: HTTP 422 Unprocessable Entity.", n.Text)
	require.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:3")}, g.tried, "by the user's address, with line feeds as written")
	require.Equal(t, "{\n}", n.tried.Body)
	require.Equal(t, []control.Problem{{Pointer: "/a", Detail: "is odd"}}, n.tried.Problems)

	n = b.notice(b.post("try", "handler", "shop", "by_hand", "true"))
	require.Zero(t, g.tried[1].Port(), "an empty body too")
	require.Empty(t, n.tried.Body)
	n = b.notice(b.post("try", "handler", "shop", "by_hand", "true", "body", strings.Repeat("x", mostKept+1)))
	require.Empty(t, n.tried.Body, "what is kept is bounded")
	b.post("try", "handler", "shop", "type", "videoEnhancer", "status", "7")
	require.Greater(t, g.tried[3].Port(), uint16(100))
}

func TestLongFormsAtOnceAreBounded(t *testing.T) {
	g := newFakeGateway(0)
	b := newBench(t, fakeProvider{"shop": g})
	for range cap(longForms) {
		longForms <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/try", strings.NewReader("handler=shop"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b.serve(r)
	require.Empty(t, g.tried)
	for range cap(longForms) {
		<-longForms
	}
	b.post("try", "handler", "shop")
	require.Len(t, g.tried, 1)
	require.Empty(t, longForms)
}
