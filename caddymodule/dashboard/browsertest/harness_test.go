// Package browsertest tests the dashboard as people use it: the real Caddy, as a process of
// its own, and a real Chromium without a window.
//
// Read harness_test.go first. chromium_test.go finds and drives the browser; the other
// files are tests by subject, and screenshots_test.go makes pictures to look at.
package browsertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must happen before it fails.
const patience = 30 * time.Second

// root is the path of the repository from this package.
const root = "../../.."

// built is the path of Caddy with the gateway, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	name := "caddy"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	path := filepath.Join(binaries, name)
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", path, "./cmd/caddy")
	cmd.Dir = root
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, output)
	}
	return path, nil
})

// binaries is the folder of built.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dashboard")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	if chromium() == "" {
		fmt.Fprintln(os.Stderr, needChromium)
		return 1
	}
	return m.Run()
}

// journal is what Caddy logs.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// gateway is Caddy with a gateway and its dashboard.
type gateway struct {
	t *testing.T

	// Site is the URL of the site, and Dashboard that of the dashboard there.
	Site, Dashboard string

	// Service is the URL of the service that events go to. It answers what Answer says.
	Service string

	upstream *upstream
	dir      string
	admin    string
	cmd      *exec.Cmd
	log      *journal
}

// config is a Caddyfile's parts; empty ones have defaults.
type config struct {
	Handler   string // options of the handler
	Site      string // more in the site's block, before the handler
	Dashboard string // options of the dashboard
	Allow     string // who may call
}

// start starts Caddy, and stops it when the test ends.
func start(t *testing.T, c config) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), upstream: newUpstream(t), log: new(journal)}
	g.Service = g.upstream.URL
	g.Site = "http://" + freeAddress(t)
	g.admin = freeAddress(t)
	g.Dashboard = g.Site + "/admin/"
	g.configure(c)
	caddy, err := built()
	require.NoError(t, err)
	started, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer started.Close()
	g.cmd = exec.Command(caddy, "run", "--config", filepath.Join(g.dir, "Caddyfile"), //nolint:noctx // it is stopped below
		"--pingback", started.Addr().String()) // as `caddy start` does
	g.cmd.Stdin = strings.NewReader("started")
	g.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	require.NoError(t, g.cmd.Start())
	t.Cleanup(func() {
		_ = g.cmd.Process.Signal(os.Interrupt)
		_ = g.cmd.Wait()
		if t.Failed() {
			t.Log(g.log.String())
		}
	})
	// it listens before all of it has started
	require.NoError(t, started.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	conn, err := started.Accept()
	require.NoError(t, err, "Caddy does not start")
	defer conn.Close()
	told, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "started", string(told))
	return g
}

// configure writes the Caddyfile.
func (g *gateway) configure(c config) {
	g.t.Helper()
	inside := strings.NewReplacer("{$SERVICE}", g.Service+"/more", "{$DIR}", g.dir)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(g.Site, "http://"))
	require.NoError(g.t, err)
	text := fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	log dashboard {
		output stderr
		format json
		include http.handlers.fotor_webhook_dashboard
	}
}
%s, http://gateway.test:%s {
	%s
	handle_path /admin/* {
		fotor_webhook_dashboard {
			%s
		}
	}
	fotor_webhook /callback {
		allow %s
		inbox sqlite %s
		forward %s/default
		retry {
			first 10ms
			max 50ms
			give_up 150ms
		}
		%s
	}
}
`, g.admin, g.Site, port, inside.Replace(c.Site), cmp.Or(c.Dashboard, "image_hosts "+strings.TrimPrefix(g.Service, "http://")),
		cmp.Or(c.Allow, "127.0.0.1"), filepath.Join(g.dir, "events.db"), g.Service, inside.Replace(c.Handler))
	require.NoError(g.t, os.WriteFile(filepath.Join(g.dir, "Caddyfile"), []byte(text), 0o600))
}

// reload has Caddy load another config.
func (g *gateway) reload(c config) {
	g.t.Helper()
	g.configure(c)
	caddy, err := built()
	require.NoError(g.t, err)
	cmd := exec.CommandContext(g.t.Context(), caddy, "reload", "--force", "--address", g.admin, "--config", filepath.Join(g.dir, "Caddyfile"))
	output, err := cmd.CombinedOutput()
	require.NoError(g.t, err, string(output))
}

// post sends a callback and returns the answer.
func (g *gateway) post(callback any) (status int, body string) {
	g.t.Helper()
	content, ok := callback.(string)
	if !ok {
		encoded, err := json.Marshal(callback)
		require.NoError(g.t, err)
		content = string(encoded)
	}
	r, err := http.Post(g.Site+"/callback", "application/json", strings.NewReader(content)) //nolint:noctx // on this machine
	require.NoError(g.t, err)
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	require.NoError(g.t, err)
	return r.StatusCode, string(answer)
}

// accept sends a callback that must be accepted, and returns its event's id.
func (g *gateway) accept(callback any) string {
	g.t.Helper()
	status, body := g.post(callback)
	require.Equal(g.t, http.StatusOK, status, body)
	var answer struct {
		ID string `json:"id"`
	}
	require.NoError(g.t, json.Unmarshal([]byte(body), &answer))
	return answer.ID
}

// events returns how many events are in a state, from the admin API.
func (g *gateway) events(state string) int {
	g.t.Helper()
	r, err := http.Get("http://" + g.admin + "/fotor_webhook/default") //nolint:noctx // on this machine
	require.NoError(g.t, err)
	defer r.Body.Close()
	var answer struct {
		Events map[string]int `json:"events"`
	}
	require.NoError(g.t, json.NewDecoder(r.Body).Decode(&answer))
	return answer.Events[state]
}

// await waits until that many events are in a state.
func (g *gateway) await(state string, n int) {
	g.t.Helper()
	require.Eventually(g.t, func() bool { return g.events(state) == n }, patience, 20*time.Millisecond, "%d events %s", n, state)
}

type object = map[string]any

// task is a callback about a task.
func task(id, taskType string, status int, more ...object) object {
	callback := object{"taskId": id, "type": taskType, "status": status}
	for _, m := range more {
		maps.Copy(callback, m)
	}
	return callback
}

// freeAddress returns an address at which nobody listens. Its port is below those of outgoing
// connections, which others take until it is used.
func freeAddress(t *testing.T) string {
	t.Helper()
	const lowest, highest = 15000, 32000
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", lowest+rand.IntN(highest-lowest))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	require.FailNow(t, "no free port")
	return ""
}
