package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
)

// gateway is a server for callbacks that remembers them.
type gateway struct {
	mu     sync.Mutex
	bodies [][]byte
	seen   map[string]bool
	answer func(w http.ResponseWriter, n int, body []byte) bool // reports whether it answered
}

func startGateway(t *testing.T, answer func(http.ResponseWriter, int, []byte) bool) (*gateway, string) {
	t.Helper()
	g := &gateway{seen: make(map[string]bool), answer: answer}
	url, _ := serve(t, g)
	return g, url
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bodies = append(g.bodies, body)
	if g.answer != nil && g.answer(w, len(g.bodies), body) {
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"id": id(len(g.bodies)), "duplicate": g.seen[string(body)]}) //nolint:errcheck // the test would fail
	g.seen[string(body)] = true
}

// steps gives an environment a clock that advances each time it is read.
func steps(env *environment, step time.Duration) {
	var mu sync.Mutex
	now := testNow
	env.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(step)
		return now
	}
}

func refusal(w http.ResponseWriter, n int, _ []byte) bool {
	if n%2 == 1 {
		return false
	}
	w.Header().Set("Content-Type", mediaProblem)
	w.WriteHeader(http.StatusUnprocessableEntity)
	writeBody(w, `{"title":"Not a Fotor callback","status":422,"errors":[{"pointer":"/status","detail":"is required"},{"pointer":"","detail":"is odd"}]}`)
	return true
}

// always answers every callback the same.
func always(status int, media, body string) func(http.ResponseWriter, int, []byte) bool {
	return func(w http.ResponseWriter, _ int, _ []byte) bool {
		w.Header()["Content-Type"] = nil
		if media != "" {
			w.Header().Set("Content-Type", media)
		}
		w.WriteHeader(status)
		writeBody(w, body)
		return true
	}
}

func TestSendGolden(t *testing.T) {
	for _, c := range []struct {
		name, args string
		answer     func(http.ResponseWriter, int, []byte) bool
	}{
		{name: "send", args: "send URL"},
		{name: "send_color", args: "send URL --repeat 2 --color always", answer: refusal},
		{name: "send_json", args: "send URL --repeat 2 --json", answer: refusal},
		{name: "send_problems", args: "send URL --status 0,completed,failed", answer: refusal},
		{name: "send_repeats", args: "send URL --file - --repeat 3"},
		{name: "send_quiet", args: "send URL --repeat 250 --concurrency 1 --quiet"},
		{name: "send_other_server", args: "send URL", answer: func(w http.ResponseWriter, _ int, _ []byte) bool {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
			return true
		}},
		{name: "send_empty", args: "send URL", answer: always(200, "", "")},
		{name: "send_html", args: "send URL --repeat 2", answer: always(200, "text/html; charset=utf-8", "<title>\x1b[31mWelcome")},
		{name: "send_created", args: "send URL --json", answer: always(201, "application/json", `{"id":"`+id(1)+`","duplicate":false}`)},
		{name: "send_wrong_id", args: "send URL", answer: always(200, "application/json", `{"id":"\u001b[31m7","duplicate":true}`)},
		{name: "send_odd_json", args: "send URL", answer: always(200, "application/json", `{"id":{"a":1},"title":"OK"}`)},
		{name: "send_not_found", args: "send URL --quiet", answer: always(404, "", "")},
		{name: "send_forbidden", args: "send URL", answer: always(403, mediaProblem, `{"title":"Not whitelisted","status":403}`)},
		{name: "send_url_bad", args: "send ftp://example.com"},
		{name: "send_url_no_host", args: "send http:///callback"},
		{name: "send_status_bad", args: "send URL --status done"},
		{name: "send_rate_bad", args: "send URL --rate 5/d"},
		{name: "send_repeat_bad", args: "send URL --repeat 0"},
		{name: "send_concurrency_bad", args: "send URL --concurrency 2000"},
		{name: "send_timeout_bad", args: "send URL --timeout 0s"},
		{name: "send_file_and_type", args: "send URL --file - --type avatar"},
		{name: "send_file_missing", args: "send URL --file testdata/none.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url := startGateway(t, c.answer)
			env := testEnvironment()
			env.stdin = strings.NewReader(`{"status":3}`)
			steps(env, 1500*time.Microsecond)
			args := strings.Fields(c.args)
			given := strings.Fields(strings.ReplaceAll(c.args, "URL", url))
			golden(t, c.name, args, run(t, env, given...), url, "URL")
		})
	}
}

// TestSendBodies compares the callbacks of each type and status with a file, and validates
// them with the schema of a callback.
func TestSendBodies(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../schema/callback.schema.json")
	require.NoError(t, err)
	var all bytes.Buffer
	for _, kind := range append(sample.Types, "someThing") {
		for _, sensitive := range []string{"--sensitive=false", "--sensitive"} {
			g, url := startGateway(t, nil)
			r := run(t, testEnvironment(), "send", url, "--type", kind, sensitive, "--status", "in_progress", "--status", "1,failed")
			require.Zero(t, r.code, r.stdout)
			require.Len(t, g.bodies, 3)
			for _, body := range g.bodies {
				decoded, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
				require.NoError(t, err)
				require.NoError(t, schema.Validate(decoded))
				all.Write(body)
				all.WriteByte('\n')
			}
		}
	}
	golden(t, "send_bodies", []string{"send", "URL"}, ran{stdout: all.String()})
}

// TestSendTasks checks that each task has an id of its own and its callbacks are in the
// order that was asked for, however many are sent at once.
func TestSendTasks(t *testing.T) {
	g, url := startGateway(t, nil)
	r := run(t, testEnvironment(), "send", url, "--repeat", "200", "--concurrency", "16", "--status", "0,1", "-q")
	require.Zero(t, r.code, r.stdout)
	require.Len(t, g.bodies, 400)
	begun := make(map[string]bool)
	for _, body := range g.bodies {
		var c sample.Object
		require.NoError(t, json.Unmarshal(body, &c))
		require.Len(t, c.TaskID, 32)
		require.Equal(t, c.Status == 1, begun[c.TaskID], "completed before it was in progress, or twice")
		begun[c.TaskID] = c.Status == 0
	}
	require.Len(t, begun, 200)

	g, url = startGateway(t, nil)
	require.Zero(t, run(t, testEnvironment(), "send", url, "--task", "mine", "--repeat", "2").code)
	require.Len(t, g.seen, 2, "two callbacks of one task are not the same")
	for _, body := range g.bodies {
		require.Contains(t, string(body), `{"taskId":"mine",`)
	}
}

// TestSendFile checks that a file is sent unchanged, even if it is not JSON.
func TestSendFile(t *testing.T) {
	body := []byte("{\"taskId\": 1.0e0,\r\n\xff\x00}")
	name := filepath.Join(t.TempDir(), "body.json")
	require.NoError(t, os.WriteFile(name, body, 0o600))
	g, url := startGateway(t, nil)
	require.Zero(t, run(t, testEnvironment(), "send", url, "--file", name, "--repeat", "3").code)
	require.Equal(t, [][]byte{body, body, body}, g.bodies)

	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	g, url = startGateway(t, nil)
	require.Zero(t, run(t, testEnvironment(), "send", url, "--file", empty).code)
	require.Equal(t, [][]byte{{}}, g.bodies)
}

// TestSendRate sends at a rate, in synthetic time, to a server that takes 30 ms.
func TestSendRate(t *testing.T) {
	for _, c := range []struct {
		rate        string
		repeat      string
		concurrency string
		want        time.Duration
	}{
		{"25/s", "51", "1", 2*time.Second + 30*time.Millisecond},
		{"100/s", "101", "1", 101 * 30 * time.Millisecond}, // the server is slower
		{"100/s", "101", "8", time.Second + 30*time.Millisecond},
		{"120/m", "5", "2", 2*time.Second + 30*time.Millisecond},
		{"2", "5", "2", 2*time.Second + 30*time.Millisecond},
	} {
		t.Run(c.rate+" "+c.concurrency, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := testEnvironment()
				env.now = time.Now
				env.transport = roundTrip(func(*http.Request) (*http.Response, error) {
					time.Sleep(30 * time.Millisecond) // synthetic
					return answering(`{"id":"` + id(1) + `"}`), nil
				})
				begun := time.Now()
				r := run(t, env, "send", "http://fotor.test", "--rate", c.rate, "--repeat", c.repeat, "--concurrency", c.concurrency, "-q")
				require.Zero(t, r.code, r.stdout)
				require.Equal(t, c.want, time.Since(begun))
				require.Contains(t, r.stdout, "p50 30ms  p95 30")
			})
		})
	}
}

// TestSendTimeout has a server that never answers the second callback.
func TestSendTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := testEnvironment()
		env.now = time.Now
		calls := 0
		env.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if calls++; calls == 2 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return answering(`{"id":"` + id(1) + `"}`), nil
		})
		r := run(t, env, "send", "http://fotor.test", "--repeat", "3", "--timeout", "7s")
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stdout, "     2  -          7s  ")
		require.Contains(t, r.stdout, "deadline exceeded")
		require.Contains(t, r.stdout, "No answer\t1\nHTTP 200\t2\n")
	})
}

// TestSendInterrupted checks the summary if sending is interrupted.
func TestSendInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	env := testEnvironment()
	calls := 0
	env.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if calls++; calls == 3 {
			cancel()
			return nil, r.Context().Err()
		}
		return answering(`{"id":"` + id(1) + `"}`), nil
	})
	var stdout bytes.Buffer
	env.stdout = &output{w: &stdout}
	plan := &sendPlan{
		outgoing: &outgoing{url: "http://fotor.test", timeout: time.Minute}, kind: sample.Kind{Type: "avatar"}, statuses: []int{1}, repeat: 1 << 30,
		concurrency: 1, limit: 1e9,
	}
	require.NoError(t, newSender(&session{environment: env}, plan).send(ctx))
	require.Contains(t, stdout.String(), "Sent\t2 callbacks in ")
	require.NotContains(t, stdout.String(), "No answer")
}

// TestSendNobodyReads checks that sending stops when the reader of the output has gone.
func TestSendNobodyReads(t *testing.T) {
	g, url := startGateway(t, nil)
	env := testEnvironment()
	env.stdout, env.stderr = &output{w: &failingWriter{left: 200, err: errBrokenPipe}}, io.Discard
	require.Equal(t, exitDone, runTo(t, env, "send", url, "--repeat", "100000"))
	require.Less(t, len(g.bodies), 10)
}

func TestSendCodes(t *testing.T) {
	ok, no, none := reply{HTTPStatus: 200, Accepted: true}, reply{HTTPStatus: 503}, reply{}
	odd := reply{HTTPStatus: 200, foreign: true}
	for _, c := range []struct {
		replies []reply
		want    int
	}{
		{[]reply{ok, ok}, exitDone},
		{[]reply{ok, odd}, exitNo}, // Fotor would take it as accepted, but nothing is stored
		{[]reply{ok, no}, exitNo},
		{[]reply{no, none, ok}, exitFailed},
	} {
		s := newSummary()
		for i := range c.replies {
			s.add(&c.replies[i])
		}
		require.Equal(t, c.want, s.code(), c.replies)
	}
}

// TestHistogram compares quantiles with the exact ones.
func TestHistogram(t *testing.T) {
	var h histogram
	for n := 1; n <= 10_000; n++ {
		h.add(time.Duration(n*n) * time.Microsecond)
	}
	for q, want := range map[float64]float64{0.5: 5000 * 5000, 0.95: 9500 * 9500, 0.99: 9900 * 9900} {
		require.InEpsilon(t, want, float64(h.quantile(q).Microseconds()), 0.01)
	}
	require.Equal(t, time.Microsecond, h.quantile(0))
	require.Equal(t, 100*time.Second, h.quantile(1))
	for _, n := range []uint64{0, 1, 255, 256, 257, 511, 512, 1 << 40, 1<<63 - 1} {
		bucket := bucketOf(n)
		require.GreaterOrEqual(t, uint64(highest(bucket)), n)
		if bucket > 0 {
			require.Less(t, uint64(highest(bucket-1)), n)
		}
	}
	var one histogram
	one.add(-time.Second) // a clock that was set back
	require.Zero(t, one.quantile(0.5))
}

// TestRandomFails checks that nothing is sent without randomness.
func TestRandomFails(t *testing.T) {
	_, url := startGateway(t, nil)
	env := testEnvironment()
	env.random = iotest.ErrReader(errors.New("the machine has none"))
	r := run(t, env, "send", url)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "Error: making an id: ")
}
