// Package e2e tests the gateway as users run it: a real Caddy, real sockets, a real
// upstream, a real SQLite file or NATS servers.
//
// Read harness_test.go first: Caddy in this process, and requests to it; upstream_test.go
// is where it delivers to. process_test.go runs the built binary, nats_test.go several of
// them on NATS, callers_test.go the load, api_test.go and command_test.go the admin API
// and the command line. The other files are tests by subject.
package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	_ "github.com/fotor-webhook/caddy-fotor-webhook"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// patience is how long a test waits for what must happen before it fails. It is longer
// than two pauses of a destination that is away, and than three rounds of an inbox's
// maintenance, as what a test waits for may have to wait for those.
const patience = 3 * time.Minute

// answerPatience is how long a caller waits for an answer.
const answerPatience = 30 * time.Second

// quick is a retry schedule with which tests take less time.
const quick = "\nretry {\nfirst 20ms\nmax 200ms\n}"

// quiet keeps ordinary log lines out of the tests' output.
const quiet = "log {\nlevel ERROR\n}"

// silent also keeps errors out, for tests with thousands of them.
const silent = "log {\nlevel FATAL\n}"

// gateway is Caddy in this process with one gateway in it.
type gateway struct {
	t *testing.T

	// Port is the port for callbacks, Admin that of Caddy's admin endpoint.
	Port, Admin int

	// DB is the path of the inbox file.
	DB string

	path string // of the callback; "callback" by default
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	ports := freePorts(t, 2)
	return &gateway{t: t, Port: ports[0], Admin: ports[1], DB: filepath.Join(t.TempDir(), "inbox.db")}
}

// Caddyfile returns a config with the gateway at /callback. options are those of its block,
// to which the inbox DB and the caller's address are added if they are missing. site is
// added to the site block, global to the global options.
func (g *gateway) Caddyfile(options, site, global string) string {
	if !strings.Contains(options, "inbox ") {
		options += "\ninbox sqlite " + g.DB
	}
	if !strings.Contains(options, "allow ") && !strings.Contains(options, "allow_from ") {
		options += "\nallow 127.0.0.1"
	}
	return g.Globals(global) + g.Site(site+"\nfotor_webhook /callback {\n"+options+"\n}")
}

// Globals returns the block of global options; more stands at its end.
func (g *gateway) Globals(more string) string {
	return fmt.Sprintf("{\nadmin 127.0.0.1:%d\nauto_https off\npersist_config off\n%s\n}\n", g.Admin, more)
}

// Site returns a site block at the gateway's port.
func (g *gateway) Site(body string) string {
	return fmt.Sprintf("http://127.0.0.1:%d {\n%s\n}\n", g.Port, body)
}

// Sized returns the option that makes the gateway's inbox that large.
func (g *gateway) Sized(maxSize string) string {
	return "\ninbox sqlite " + g.DB + " {\nmax_size " + maxSize + "\n}"
}

// Load loads a Caddyfile as `caddy reload` would, and returns Caddy's error.
func (g *gateway) Load(caddyfile string) error {
	g.t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	require.NoError(g.t, err, "adapting:\n%s", caddyfile)
	return caddy.Load(adapted, true)
}

// Start loads a config and stops Caddy when the test ends.
func (g *gateway) Start(options, site, global string) {
	g.t.Helper()
	g.t.Cleanup(g.Stop)
	require.NoError(g.t, g.Load(g.Caddyfile(options, site, global)))
}

// Stop stops Caddy; stopping it again does nothing.
func (g *gateway) Stop() {
	g.t.Helper()
	require.NoError(g.t, caddy.Stop())
}

func (g *gateway) URL() string {
	return fmt.Sprintf("http://127.0.0.1:%d/%s", g.Port, cmp.Or(g.path, "callback"))
}

// reply is an answer to a caller.
type reply struct {
	Status int
	Header http.Header
	Body   string

	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
	Errors    []struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

// Post sends a callback, with more headers as pairs of name and value.
func (g *gateway) Post(body string, headers ...string) reply {
	g.t.Helper()
	r := newRequest(g.t, g.URL(), strings.NewReader(body), headers...)
	return do(g.t, r)
}

// Accept sends a callback that must be accepted, and returns its event's id.
func (g *gateway) Accept(body string) string {
	g.t.Helper()
	answer := g.Post(body)
	require.Equal(g.t, http.StatusOK, answer.Status, answer.Body)
	require.NotEmpty(g.t, answer.ID)
	return answer.ID
}

func newRequest(t *testing.T, url string, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// client makes a connection for each request: a reload might close a kept connection just
// then, which is not what most tests are about.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	answer, err := try(r)
	require.NoError(t, err)
	return answer
}

// try sends a request. It may be called from any goroutine.
func try(r *http.Request) (answer reply, err error) { return tryWith(client, r) }

func tryWith(client *http.Client, r *http.Request) (answer reply, err error) {
	response, err := roundTrip(client, r)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	answer = reply{Status: response.StatusCode, Header: response.Header, Body: string(body)}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(body, &answer); err != nil {
			return answer, fmt.Errorf("%w: %s", err, body)
		}
	}
	return answer, nil
}

// roundTrip sends a request, again if its connection was closed before an answer: for a moment
// after a reload Caddy closes new connections too, as its old socket still has some that it
// has not accepted. A request whose body can be read once only is sent once.
func roundTrip(client *http.Client, r *http.Request) (*http.Response, error) {
	response, err := client.Do(r)
	for tries := 0; tries < 10 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)); tries++ {
		if r.Body != nil && r.Body != http.NoBody {
			if r.GetBody == nil {
				return nil, err
			}
			var again error
			if r.Body, again = r.GetBody(); again != nil {
				return nil, again
			}
		}
		response, err = client.Do(r)
	}
	return response, err
}

// Metric returns the value of a metric with its labels, such as
// `caddy_fotor_webhook_events{handler="default",state="dead"}`; -1 if there is none.
func (g *gateway) Metric(name string) float64 {
	g.t.Helper()
	for line := range strings.Lines(g.get("/metrics")) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var value float64
			_, err := fmt.Sscan(rest, &value)
			require.NoError(g.t, err)
			return value
		}
	}
	return -1
}

func (g *gateway) get(path string) string {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", g.Admin, path), nil)
	require.NoError(g.t, err)
	response, err := roundTrip(client, r)
	require.NoError(g.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(g.t, err)
	return string(body)
}

// Events returns how many events are in a state, from the metrics.
func (g *gateway) Events(state string) int {
	g.t.Helper()
	return int(g.Metric(fmt.Sprintf("caddy_fotor_webhook_events{handler=%q,state=%q}", "default", state)))
}

// freePorts returns ports on which nothing listens.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports, err := natstest.FreePorts(t.Context(), n)
	require.NoError(t, err)
	return ports
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	return listener
}

// await waits until a condition holds.
func await(t *testing.T, condition func() bool, format string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, patience, 10*time.Millisecond, append([]any{"waiting for " + format}, args...)...)
}

// forwards runs a test for both ways of forwarding.
func forwards(t *testing.T, test func(t *testing.T, forward func(url string) string)) {
	t.Helper()
	t.Run("url", func(t *testing.T) {
		test(t, func(url string) string { return "forward " + url })
	})
	t.Run("routes", func(t *testing.T) {
		test(t, func(url string) string { return "forward {\nreverse_proxy " + url + "\n}" })
	})
}

// notice is a minimal callback of a task with Fotor's status number.
func notice(task string, taskStatus int) string {
	return fmt.Sprintf(`{"taskId":%q,"status":%d,"type":"text2img"}`, task, taskStatus)
}

// avatar is a callback of the usual size, 1.1 KB.
func avatar(task string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"taskId":%q,"status":1,"businessId":"75f15294e55540e198bb19cc0a068fd2","type":"avatar","resultUrl":"","avatarResult":[`, task)
	for i := range 3 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"templateId":"d691196a-6daa-4bf9-a011-5422d95ce03%d","images":[{"id":"4a19223cef7b4094a4f66c7de57f7ef%d",`+
			`"url":"https://static.fotor.com.cn/aigc/business/75f15294e55540e198bb19cc0a068fd2/avatar/20241126/%s-%d.jpg","hasHsfw":false}]}`, i, i, task, i)
	}
	b.WriteString(`]}`)
	return b.String()
}

func listenUnix(t *testing.T, path string) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	return listener
}
