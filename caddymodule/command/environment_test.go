package command

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testNow is the time in tests.
var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return testNow.Add(-d) }

// id makes the id of an event.
func id(n int) string { return fmt.Sprintf("%048x", n) }

// counting is a source of random bytes that counts.
type counting uint64

func (c *counting) Read(p []byte) (int, error) {
	*c++
	binary.BigEndian.PutUint64(p[len(p)-8:], uint64(*c))
	return len(p), nil
}

// testEnvironment is an environment with a fixed clock, and without terminals.
func testEnvironment() *environment {
	return &environment{
		stdin: strings.NewReader(""),

		terminalWidth: func() int { return 0 },

		getenv: func(string) string { return "" },
		now:    func() time.Time { return testNow },
		zone:   time.FixedZone("CET", 3600),
		random: new(counting),
		pause:  pause,
	}
}

// ran is the result of a command.
type ran struct {
	stdout, stderr string
	code           int
}

// run runs caddy fotor-webhook with arguments in the environment.
func run(t *testing.T, env *environment, args ...string) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env.stdout, env.stderr = &output{w: &stdout}, &stderr
	code := runTo(t, env, args...)
	return ran{stdout.String(), stderr.String(), code}
}

// runTo is run with the environment's outputs. It returns the exit code.
func runTo(t *testing.T, env *environment, args ...string) int {
	t.Helper()
	root := &cobra.Command{Use: "caddy", SilenceUsage: true}
	cmd := &cobra.Command{Use: "fotor-webhook"}
	addCommands(cmd, env)
	root.AddCommand(cmd)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetArgs(append([]string{"fotor-webhook"}, args...))
	err := root.ExecuteContext(t.Context())
	if err == nil {
		return exitDone
	}
	// Caddy's error with a code is not exported; TestBinary checks the real exit
	code := exitFailed
	if _, scanErr := fmt.Sscanf(err.Error(), "exiting with status %d", &code); scanErr != nil {
		return exitFailed
	}
	return code
}

// serve starts a server that stops when the test ends, and returns its URL and address.
func serve(t *testing.T, handler http.Handler) (url, address string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, server.Listener.Addr().String()
}

// writeBody writes an answer. Errors are ignored: the test fails anyway if the client does
// not get it.
func writeBody(w io.Writer, text string) { _, _ = io.WriteString(w, text) }

// roundTrip is a server without a network, so that tests can use synthetic time.
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering returns an answer 200 with that body.
func answering(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}
}

// golden compares the result of a command with a file.
func golden(t *testing.T, name string, args []string, r ran, replace ...string) {
	t.Helper()
	shown := make([]string, len(args))
	for i, arg := range args {
		shown[i] = arg
		if strings.ContainsAny(arg, " ,") {
			shown[i] = fmt.Sprintf("%q", arg)
		}
	}
	got := fmt.Sprintf("$ caddy fotor-webhook %s\n%s--- stderr\n%s--- exit %d\n",
		strings.Join(shown, " "), r.stdout, r.stderr, r.code)
	got = strings.NewReplacer(replace...).Replace(got)
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// sampleHandler is a handler with an example of everything.
func sampleHandler(name string) *fakeHandler {
	h := &fakeHandler{
		Handler: control.Handler{
			Name: name,
			Config: control.Config{
				Allow: []string{"fotor", "192.0.2.0/24"}, AllowFrom: []string{"static"}, MaxBody: 1 << 20, Inbox: "sqlite",
				Storage: "sqlite:/var/lib/fotor/" + name + ".db", Keep: "168h0m0s", Quarantine: 1000,
				Forward: "https://app.example.com", SignSecrets: 1, Timeout: "30s", Concurrency: 32,
				RetryFirst: "5s", RetryMax: "1h0m0s", GiveUp: "72h0m0s", Destinations: []control.DestinationConfig{},
			},
			Events:        &control.Counts{Pending: 2, Delivered: 1034, Superseded: 3, Dead: 1},
			OldestPending: new(ago(3*time.Minute + 20*time.Second)), Quarantined: new(int64(3)),
			InboxBytes: new(int64(5 << 20)), InboxLimit: new(int64(10 << 30)), UnderWay: 4,
			Pressure: control.Pressure{Limit: 32, Concurrency: 32, Attempts: 1240, Delivered: 1240},
			Bodies:   control.Bodies{Reading: 3, Bytes: 1 << 20, Limit: 65 << 20},
			Recent:   control.Recent{From: ago(10 * time.Minute), Accepted: 12, Duplicates: 2, Refused: 1},

			ConfigLoaded: ago(2 * time.Hour),
			LastMinute:   control.Recent{From: ago(time.Minute), Accepted: 7, Duplicates: 1, Refused: 1},
			LastCallback: new(ago(12 * time.Second)),

			Holds: []control.Hold{}, Refusals: []control.Refusal{
				{Address: "203.0.113.9", Peer: "203.0.113.9", Reason: "not in allow or allow_from", Count: 12, First: ago(time.Hour), Last: ago(time.Minute)},
				{Address: "", Peer: "10.0.0.1", Reason: "no client address", Count: 1, First: ago(26 * time.Hour), Last: ago(26 * time.Hour)},
			},
		},
		leased:  map[string]bool{id(4): true},
		valid:   map[int64]control.Released{7: {ID: id(70)}, 9: {ID: id(1), Duplicate: true}},
		allowed: map[string]control.Explanation{},
	}
	h.allowed["54.212.95.175"] = control.Explanation{
		ClientIP: "54.212.95.175", Allowed: true,
		Rule:     &control.Rule{Option: "allow", Value: "fotor", Range: "54.212.95.175/32"},
		Steps:    []string{"the peer 54.212.95.175 is no trusted proxy, so it is the client", "allow fotor has 54.212.95.175/32"},
		Warnings: []string{"trusted_proxies trusts every address"},
	}
	h.Destinations = []control.Destination{{
		Name: "default", Configured: true, Deliveries: h.Events, OldestPending: h.OldestPending, UnderWay: 4, Pressure: &h.Pressure, Holds: []control.Hold{},
		LastDelivery: new(ago(11 * time.Second)),
	}}
	h.addEvents()
	h.addQuarantine()
	return h
}

func (h *fakeHandler) addEvents() {
	failed := control.Attempt{At: ago(50 * time.Minute), DurationMS: 30000, Reason: "timeout awaiting response headers"}
	refused := control.Attempt{At: ago(40 * time.Minute), DurationMS: 12.5, Status: 503, Reason: "upstream answered 503"}
	took := control.Attempt{At: ago(2 * time.Hour), DurationMS: 1.25, Status: 204}
	add := func(n int, task, kind, status, state string, received time.Duration, attempts ...control.Attempt) *control.EventDetail {
		for i := range attempts {
			attempts[i].Number = i + 1
		}
		e := &control.EventDetail{
			Event: control.Event{
				ID: id(n), TaskID: task, Type: kind, Status: status, State: state,
				ReceivedAt: ago(received), Attempts: len(attempts),
			},
			AttemptRecords: append([]control.Attempt{}, attempts...),
			Body:           json.RawMessage(fmt.Sprintf(`{"id":%q,"taskId":%q,"extra":{"n":9007199254740993}}`, id(n), task)),
		}
		if len(attempts) > 0 {
			e.LastAttempt = &attempts[len(attempts)-1]
		}
		if state != "pending" {
			e.SettledAt = new(ago(received - time.Minute))
		}
		e.Deliveries = []control.Delivery{{
			Destination: "default", State: state, Attempts: len(attempts), SettledAt: e.SettledAt, LastAttempt: e.LastAttempt, AttemptRecords: attempts,
		}}
		h.events = append(h.events, e)
		return e
	}
	add(1, "39371b3800cc4a7e9e24867b0dfdf25b", "avatar", "completed", "delivered", 2*time.Hour, took)
	dead := add(2, "6cf0082eba5044f1a9495e0eaf5e35ca", "videoEnhancer", "failed", "dead", time.Hour, failed, refused)
	dead.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	add(3, "0c0b3f6f7d0e4a0c8d1b5e9f2a3c4d5e", "text2img", "in_progress", "superseded", 30*time.Minute)
	retried := add(4, "任务-1", "ecommercelistingset", "completed", "pending", 200*time.Second, refused)
	retried.Due = new(testNow.Add(90 * time.Second))
	retried.Deliveries[0].Due = retried.Due
	add(5, "9f4f0a6d0e9f41e4a87ad862cda3c9ad", "avatar", "completed", "pending", time.Second)
}

func (h *fakeHandler) addQuarantine() {
	add := func(n int64, status int, body, encoding string, problems ...control.Problem) {
		h.quarantine = append(h.quarantine, &control.QuarantinedDetail{
			Quarantined: control.Quarantined{
				ID: n, ReceivedAt: ago(time.Duration(100-n) * time.Minute), LastAt: ago(time.Duration(100-n) * time.Minute), Count: 1, SourceIP: "54.212.95.175", Status: status,
				Size: len(body), Problems: append([]control.Problem{}, problems...), ProblemCount: len(problems),
			},
			Body: body, BodyEncoding: encoding,
		})
	}
	add(7, 422, `{"taskId":"t","status":3}`, control.BodyText,
		control.Problem{Pointer: "/status", Detail: "must be the integer 0 (in progress), 1 (completed) or 2 (failed)"},
		control.Problem{Pointer: "/type", Detail: "is required"})
	add(8, 400, "not JSON\nat all", control.BodyText, control.Problem{Detail: "is not JSON"})
	add(9, 400, "/w4baFsy", control.BodyBase64, control.Problem{Pointer: "", Detail: "is not UTF-8"})
	h.quarantine[2].Count, h.quarantine[2].LastAt = 12_345, ago(time.Minute)
}

// safe checks that a text is safe for a terminal. It may have tabs between columns.
func safe(t *testing.T, text string) {
	t.Helper()
	require.NotRegexp(t, `[^\P{C}\n\t]`, text, "control or format characters")
	require.True(t, printable(strings.NewReplacer("\n", "", "\t", "").Replace(text)), "not printable: %q", text)
}

// failingWriter fails after that many bytes.
type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, w.err
	}
	w.left -= len(p)
	return len(p), nil
}

var (
	_           io.Writer = (*failingWriter)(nil)
	errDiskFull           = errors.New("no space left on device")
)
