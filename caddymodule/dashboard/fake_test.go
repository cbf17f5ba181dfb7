package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// fakeGateway is a handler, with an inbox that has dead deliveries to app, and callbacks in
// quarantine. It records what it is asked to change.
type fakeGateway struct {
	control.Gateway

	mu       sync.Mutex
	dead     []*inbox.Record
	suspects []*inbox.Suspect
	asked    []string
	err      error            // of changes
	change   func(n int)      // called on each change
	tried    []netip.AddrPort // with the size of the body as the port
	found    inbox.Found      // by the beginning of an id
	holds    []control.Hold
}

// fakeInbox is its inbox.
type fakeInbox struct {
	inbox.Inbox
	*fakeGateway
}

// newFakeGateway returns a handler with that many dead deliveries that failed alike, and as
// many callbacks in quarantine that are wrong alike.
func newFakeGateway(n int) *fakeGateway {
	g := new(fakeGateway)
	for i := range n {
		g.dead = append(g.dead, deadRecord(fmt.Sprintf("e%05d", i), 500, fmt.Sprintf("HTTP 500: worker %d died", i)))
		g.suspects = append(g.suspects, &inbox.Suspect{
			ID: int64(i + 1), Status: 422, Count: 1, SourceIP: "192.0.2.1", Last: time.Unix(int64(i), 0), ReceivedAt: time.Unix(int64(i), 0),
			Problems: fmt.Appendf(nil, `[{"pointer":"/avatarResult/%d","detail":"must be an object"}]`, i),
		})
	}
	return g
}

func deadRecord(id string, status int, reason string) *inbox.Record {
	last := inbox.Attempt{At: time.Unix(9, 0), Status: status, Reason: reason}
	progress := inbox.Progress{State: inbox.Dead, Attempts: 5, Last: last}
	return &inbox.Record{
		Event:    &inbox.Event{ID: id, TaskID: id, Type: "avatar", Body: []byte(`{}`)},
		Progress: progress, Deliveries: []inbox.Delivery{{Destination: "app", Progress: progress}},
	}
}

func (g *fakeGateway) Inbox() inbox.Inbox     { return fakeInbox{fakeGateway: g} }
func (g *fakeGateway) Destinations() []string { return []string{"app", "staging"} }
func (g *fakeGateway) Close() error           { return nil }

func (g *fakeGateway) Holds() control.Holds { return control.Holds{Holds: g.holds} }

func (g *fakeGateway) Copy(*inbox.Event, string) map[string]string { return nil }

func (g *fakeGateway) record(format string, args ...any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	g.asked = append(g.asked, fmt.Sprintf(format, args...))
	if g.change != nil {
		g.change(len(g.asked))
	}
	return nil
}

func (g *fakeGateway) Hold(_ context.Context, destination, reason string, until time.Time) error {
	return g.record("hold %q %q %v", destination, reason, !until.IsZero())
}

func (g *fakeGateway) Resume(_ context.Context, destination string) error {
	return g.record("resume %q", destination)
}

func (g *fakeGateway) Release(_ context.Context, id int64) (control.Released, error) {
	return control.Released{ID: "e1"}, g.record("release %d", id)
}

func (g *fakeGateway) Try(_ context.Context, client netip.Addr, body []byte) control.Tried {
	g.tried = append(g.tried, netip.AddrPortFrom(client, uint16(len(body))))
	return control.Tried{Status: 422, Body: []byte(`{"title":"Not a Fotor callback","errors":[{"pointer":"/a","detail":"is odd"}]}`)}
}

func (fakeInbox) Close() error { return nil }

func (g fakeInbox) Replay(ctx context.Context, id, destination string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return g.record("replay %s %q", id, destination)
}

func (g fakeInbox) Move(_ context.Context, id, from, to string) error {
	return g.record("move %s %q %q", id, from, to)
}

func (g fakeInbox) Purge(_ context.Context, id, destination string) error {
	return g.record("purge %s %q", id, destination)
}

func (g fakeInbox) Unquarantine(_ context.Context, id int64) error {
	return g.record("discard %d", id)
}

func (g fakeInbox) Get(_ context.Context, id string) (*inbox.Record, error) {
	for _, r := range g.dead {
		if r.Event.ID == id {
			return r, nil
		}
	}
	return nil, inbox.ErrNotFound
}

func (g fakeInbox) Find(context.Context, inbox.Prefix, int) (inbox.Found, error) {
	return g.found, nil
}

func (g fakeInbox) List(ctx context.Context, f inbox.Filter, p inbox.Page) (records []*inbox.Record, next string, err error) {
	if f.TaskID != "" {
		for _, r := range g.dead {
			if r.Event.TaskID == f.TaskID {
				records = append(records, r)
			}
		}
		return records, "", nil
	}
	past, limit, err := p.Start()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return nil, "", err
	}
	for n := int(past); n < len(g.dead); n++ {
		if len(records) == limit {
			return records, p.Next(int64(n)), nil
		}
		records = append(records, g.dead[n])
	}
	return records, "", nil
}

func (g fakeInbox) Suspects(_ context.Context, p inbox.Page) (suspects []*inbox.Suspect, next string, err error) {
	past, limit, err := p.Start()
	for _, s := range slices.Backward(g.suspects) {
		if s.ID >= past {
			continue
		}
		if len(suspects) == limit {
			return suspects, p.Next(suspects[limit-1].ID), nil
		}
		suspects = append(suspects, s)
	}
	return suspects, "", err
}

// fakeProvider has handlers by name.
type fakeProvider map[string]*fakeGateway

func (p fakeProvider) Names() (names []string) {
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (p fakeProvider) Open(name string) (control.Gateway, error) {
	if g := p[name]; g != nil {
		return g, nil
	}
	return nil, control.ErrNoHandler
}

func (fakeProvider) Unattended(context.Context) ([]control.Unattended, bool) { return nil, false }

// bench is a dashboard with actions and what it logs.
type bench struct {
	t    *testing.T
	site *site
	logs *observer.ObservedLogs
}

// newBench lets the dashboard find those handlers until the test ends.
func newBench(t *testing.T, handlers fakeProvider) *bench {
	t.Helper()
	control.Provide(handlers)
	t.Cleanup(func() { control.Provide(fakeProvider{}) })
	core, logs := observer.New(zap.InfoLevel)
	h := &Handler{AllowActions: true, logger: zap.New(core)}
	h.stopped, h.stop = context.WithCancel(t.Context())
	return &bench{t: t, site: newSite(h), logs: logs}
}

// serve answers a request by the user "ops" at 192.0.2.9.
func (b *bench) serve(r *http.Request) *httptest.ResponseRecorder {
	b.t.Helper()
	w := httptest.NewRecorder()
	repl := caddy.NewReplacer()
	repl.Set("http.auth.user.id", "ops")
	r = caddyhttp.PrepareRequest(r, repl, w, new(caddyhttp.Server))
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.9")
	require.NoError(b.t, b.site.serve(w, r))
	return w
}

// page returns a page.
func (b *bench) page(path string) string {
	b.t.Helper()
	w := b.serve(httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, path, nil))
	require.Equal(b.t, http.StatusOK, w.Code, w.Body.String())
	return w.Body.String()
}

// post sends a form: names and values.
func (b *bench) post(leaf string, pairs ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	form := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequestWithContext(b.t.Context(), http.MethodPost, "/"+leaf, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.serve(r)
}

// notice returns what the page after an action tells.
func (b *bench) notice(w *httptest.ResponseRecorder) *notice {
	b.t.Helper()
	require.Equal(b.t, http.StatusSeeOther, w.Code, w.Body.String())
	to, err := url.Parse(w.Header().Get("Location"))
	require.NoError(b.t, err)
	n, _ := told.take(&http.Request{URL: to})
	require.NotNil(b.t, n)
	return n
}
