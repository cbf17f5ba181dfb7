package ready

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// running are the handlers of the test.
var running = fakeProvider{byName: make(map[string]*fakeGateway)}

func init() { control.Provide(&running) }

type fakeProvider struct {
	control.Provider
	mu     sync.Mutex
	byName map[string]*fakeGateway
}

func (p *fakeProvider) Open(name string) (control.Gateway, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.byName[name]
	if g == nil {
		return nil, control.ErrNoHandler
	}
	g.open.Add(1)
	return g, nil
}

// set makes a handler run on an inbox; with nil it is gone.
func (p *fakeProvider) set(t *testing.T, name string, in inbox.Inbox) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byName, name)
	if in != nil {
		g := &fakeGateway{in: in}
		p.byName[name] = g
		t.Cleanup(func() {
			p.set(t, name, nil)
			require.Zero(t, g.open.Load(), "what was opened is closed")
		})
	}
}

type fakeGateway struct {
	control.Gateway
	in   inbox.Inbox
	open atomic.Int64
}

func (g *fakeGateway) Inbox() inbox.Inbox { return g.in }

func (g *fakeGateway) Close() error {
	g.open.Add(-1)
	return nil
}

// fakeInbox is an inbox whose probes do what the test says.
type fakeInbox struct {
	inbox.Inbox
	probes atomic.Int64
	under  atomic.Int64 // probes under way

	mu    sync.Mutex
	probe func(ctx context.Context) error // nil: it succeeds
}

func (f *fakeInbox) set(probe func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probe = probe
}

func (f *fakeInbox) fails(err error) { f.set(func(context.Context) error { return err }) }

// Probe implements inbox.Prober.
func (f *fakeInbox) Probe(ctx context.Context) error {
	f.probes.Add(1)
	f.under.Add(1)
	defer f.under.Add(-1)
	f.mu.Lock()
	probe := f.probe
	f.mu.Unlock()
	if probe == nil {
		return nil
	}
	return probe(ctx)
}

// stuck is a probe that does not end before its context.
func stuck(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// fakeApp has the names of the handlers.
type fakeApp []string

func (a fakeApp) Handlers() []string { return a }

func (a fakeApp) OnStart(func() error) {}

func (a fakeApp) Asks(string) bool { return false }

// started returns a module that has started in a config with those handlers.
func started(t *testing.T, handlers []string, names ...string) *Handler {
	t.Helper()
	h := &Handler{Names: names, logger: zap.NewNop(), app: fakeApp(handlers)}
	require.NoError(t, h.check())
	t.Cleanup(func() { require.NoError(t, h.Cleanup()) })
	return h
}

// get asks the module.
func get(t *testing.T, h *Handler) (*httptest.ResponseRecorder, problem) {
	t.Helper()
	return request(t, h, t.Context(), http.MethodGet)
}

func request(t *testing.T, h *Handler, ctx context.Context, method string) (*httptest.ResponseRecorder, problem) { //nolint:revive // t comes first
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, "/ready", nil), nil))
	var p problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	return w, p
}

// requireReason asks a module that is about one handler.
func requireReason(t *testing.T, h *Handler, want reason) {
	t.Helper()
	w, p := get(t, h)
	if want == isStoring {
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		return
	}
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
	require.Len(t, p.Handlers, 1)
	require.Equal(t, want, p.Handlers[0].Reason)
}
