package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var running fakeProvider

func init() {
	control.Provide(&running)
	caddy.RegisterModule(new(fakeApp))
}

// fakeApp is the app of the fotor_webhook handlers.
type fakeApp struct {
	Names   []string `json:"names,omitempty"`
	Asking  []string `json:"asking,omitempty"` // default: all
	onStart []func() error
}

func (*fakeApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: caddymodule.AppID, New: func() caddy.Module { return new(fakeApp) }}
}

func (a *fakeApp) Handlers() []string     { return a.Names }
func (a *fakeApp) OnStart(f func() error) { a.onStart = append(a.onStart, f) }
func (*fakeApp) Stop() error              { return nil }

func (a *fakeApp) Asks(name string) bool { return a.Asking == nil || slices.Contains(a.Asking, name) }

func (a *fakeApp) Start() error {
	for _, f := range a.onStart {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// fakeProvider has the handler that runs.
type fakeProvider struct {
	control.Provider
	mu      sync.Mutex
	gateway *fakeGateway
}

func (p *fakeProvider) Open(name string) (control.Gateway, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gateway == nil || name != inbox.DefaultName {
		return nil, control.ErrNoHandler
	}
	p.gateway.open.Add(1)
	return p.gateway, nil
}

func (p *fakeProvider) set(g *fakeGateway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gateway = g
}

// fakeGateway tracks tasks, as the test says.
type fakeGateway struct {
	control.Gateway
	notAsking bool
	track     func(ctx context.Context) error // nil: it succeeds
	open      sync.WaitGroup
	got       chan string
}

func (g *fakeGateway) Asking() bool { return !g.notAsking }

func (g *fakeGateway) Close() error {
	g.open.Done()
	return nil
}

func (g *fakeGateway) Track(ctx context.Context, source inbox.TaskSource, ids ...string) (control.Tracked, error) {
	if source != inbox.FromSubmission {
		panic(source)
	}
	if err := control.CheckTaskIDs(ids); err != nil {
		return control.Tracked{}, err
	}
	if g.track != nil {
		if err := g.track(ctx); err != nil {
			return control.Tracked{}, err
		}
	}
	for _, id := range ids {
		g.got <- id
	}
	return control.Tracked{Added: len(ids)}, nil
}

// tracked returns what was tracked so far.
func (g *fakeGateway) tracked() (ids []string) {
	for {
		select {
		case id := <-g.got:
			ids = append(ids, id)
		default:
			return ids
		}
	}
}

// stand is a Caddy with two servers in front of one upstream: one with fotor_tasks, and
// one without.
type stand struct {
	t        *testing.T
	gateway  *fakeGateway
	upstream *httptest.Server
	folder   string // of the sockets and the log

	mu     sync.Mutex
	answer http.HandlerFunc
}

const (
	watched = "watched"
	plain   = "plain"
)

func newStand(t *testing.T) *stand {
	t.Helper()
	return newStandWith(t, `{"handler":"fotor_tasks"},`)
}

// newStandWith makes a stand with these handlers before the reverse_proxy.
func newStandWith(t *testing.T, handlers string) *stand {
	t.Helper()
	folder, err := os.MkdirTemp("", "tasks") // t.TempDir would be too long for a socket
	require.NoError(t, err)
	s := &stand{t: t, folder: folder, gateway: &fakeGateway{got: make(chan string, 10_000)}}
	s.upstream = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	s.upstream.Start()
	running.set(s.gateway)
	t.Cleanup(func() {
		s.upstream.CloseClientConnections()
		require.NoError(t, caddy.Stop())
		s.gateway.open.Wait() // what was opened is closed
		s.upstream.Close()
		running.set(nil)
		require.NoError(t, os.RemoveAll(folder))
	})
	s.load(handlers)
	return s
}

// load loads a config with more handlers before the reverse_proxy of the watched server.
func (s *stand) load(handlers string) {
	s.t.Helper()
	require.NoError(s.t, caddy.Load([]byte(s.config(handlers)), true))
}

func (s *stand) config(handlers string) string {
	server := func(name, handlers string) string {
		return fmt.Sprintf(`%q:{"listen":["unix/%s"],"protocols":["h1","h2c"],"automatic_https":{"disable":true},"routes":[{"handle":[%s
			{"handler":"reverse_proxy","upstreams":[{"dial":%q}]}]}]}`, name, s.socket(name), handlers, s.upstream.Listener.Addr())
	}
	return fmt.Sprintf(`{"admin":{"disabled":true,"config":{"persist":false}},
		"logging":{"logs":{"default":{"level":"DEBUG","writer":{"output":"file","filename":%q},"encoder":{"format":"json"}}}},
		"apps":{"fotor_webhook":{"names":["default"]},"http":{"servers":{%s,%s}}}}`,
		filepath.Join(s.folder, "log"), server(watched, handlers), server(plain, ""))
}

func (s *stand) socket(server string) string { return filepath.Join(s.folder, server) }

// answers sets what the upstream does.
func (s *stand) answers(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// dial connects to a server.
func (s *stand) dial(server string) net.Conn {
	s.t.Helper()
	conn, err := new(net.Dialer).DialContext(s.t.Context(), "unix", s.socket(server))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// client is a client of a server.
func (s *stand) client(server string, http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{
		Protocols: protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket(server))
		},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// lines returns the lines of the log with a message.
func (s *stand) lines(message string) (found []map[string]any) {
	s.t.Helper()
	log, err := os.ReadFile(filepath.Join(s.folder, "log"))
	require.NoError(s.t, err)
	for line := range bytes.Lines(log) {
		var entry map[string]any
		require.NoError(s.t, json.Unmarshal(line, &entry))
		if text, _ := entry["msg"].(string); strings.HasPrefix(text, message) {
			found = append(found, entry)
		}
	}
	return found
}

// documented is an answer as Fotor documents it.
func documented(id string) string {
	return `{"code":"000","msg":"success","data":{"taskId":"` + id + `"}}`
}

func answerJSON(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}
