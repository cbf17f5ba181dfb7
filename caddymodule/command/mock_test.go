package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// sharedBuffer is a buffer that a test reads while a command writes.
type sharedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sharedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sharedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// playing is a mock that plays.
type playing struct {
	t              *testing.T
	url            string
	stdout, stderr sharedBuffer
	stop           context.CancelFunc
	ended          chan error
}

var playingAt = regexp.MustCompile(`Playing Fotor at (\S+)\. `)

// startMock starts the command, and waits until it listens.
func startMock(t *testing.T, env *environment, args ...string) *playing {
	t.Helper()
	p := &playing{t: t, ended: make(chan error, 1)}
	if env.stdout == nil {
		env.stdout = &output{w: &p.stdout}
	}
	env.stderr = &p.stderr
	root, cmd := &cobra.Command{Use: "caddy", SilenceUsage: true}, &cobra.Command{Use: "fotor-webhook"}
	addCommands(cmd, env)
	root.AddCommand(cmd)
	root.SetArgs(append([]string{"fotor-webhook", "mock", "--listen", "127.0.0.1:0"}, args...))
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	t.Cleanup(stop)
	go func() { p.ended <- root.ExecuteContext(ctx) }()
	require.Eventually(t, func() bool { return playingAt.MatchString(p.stderr.String()) }, time.Minute, time.Millisecond)
	p.url = playingAt.FindStringSubmatch(p.stderr.String())[1]
	return p
}

// request makes a request to the mock, and returns the answer.
func (p *playing) request(method, path, key string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader("{}"))
	require.NoError(p.t, err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return string(body)
}

// submit submits a task and returns its id.
func (p *playing) submit(product string) string {
	p.t.Helper()
	var answer struct{ Data struct{ TaskID string } }
	require.NoError(p.t, json.Unmarshal([]byte(p.request(http.MethodPost, "/v1/aiart/"+product, "any")), &answer))
	require.NotEmpty(p.t, answer.Data.TaskID)
	return answer.Data.TaskID
}

// waitForLines waits until so many lines are printed.
func (p *playing) waitForLines(n int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Count(p.stdout.String(), "\n") >= n }, time.Minute, time.Millisecond, "%d lines of %s", n, p.stdout.String())
}

// end interrupts the mock, and returns what it printed: the lines of what happened in the
// order of the alphabet, as callbacks are sent side by side.
func (p *playing) end() ran {
	p.t.Helper()
	p.stop()
	require.NoError(p.t, <-p.ended)
	lines := strings.SplitAfter(p.stdout.String(), "\n")
	happened := slices.IndexFunc(lines, func(line string) bool { return line == "\n" || strings.HasPrefix(line, `{"summary"`) })
	if happened > 0 {
		slices.Sort(lines[:happened])
	}
	return ran{stdout: strings.Join(lines, ""), stderr: p.stderr.String()}
}

// mockTimes finds what depends on how fast the machine is.
var mockTimes = regexp.MustCompile(`( in )[0-9.]+(?:µs|ms|s) *|("durationMs":)[0-9.]+|(at most )\d( in a second)|("mostQuestionsPerSecond":)\d`)

// TestMockGolden has the mock play a few tasks.
func TestMockGolden(t *testing.T) {
	for _, c := range []struct {
		name, args string
		callbacks  int // of the three tasks, also lost and forged ones
		setup      func(env *environment)
	}{
		{name: "mock", args: "--callback URL --seed 8", callbacks: 6},
		{name: "mock_chances", args: "--callback URL --seed 10 --lose 30% --duplicate 1/2 --fail 0.5 --forge 60% --429 40% --s3", callbacks: 9},
		{name: "mock_json", args: "--callback URL --seed 10 --lose 30% --duplicate 50% --fail 1/2 --forge 60% --429 2/5 --json", callbacks: 9},
		{name: "mock_color", args: "--callback URL --seed 10 --lose 30% --duplicate 50% --fail 50% --forge 60% --429 40% --color always", callbacks: 9},
		{name: "mock_quiet", args: "--seed 10 --quiet"},
		{name: "mock_no_callback", args: "--seed 8 --key secret"},
		{name: "mock_terminal_80", args: "--callback URL --seed 10 --lose 30% --duplicate 50% --fail 50% --forge 60% --429 40%", callbacks: 9, setup: func(env *environment) {
			env.stdoutTerminal, env.terminalWidth = true, func() int { return 80 }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url := startGateway(t, nil)
			env := testEnvironment()
			if c.setup != nil {
				c.setup(env)
			}
			args := strings.Fields(c.args)
			given := strings.Fields(strings.ReplaceAll(c.args, "URL", url))
			p := startMock(t, env, append(given, "--delay", "10ms")...)
			playSome(p, c.args, c.callbacks)
			r := p.end()
			r.stdout = mockTimes.ReplaceAllString(r.stdout, "${1}${2}${3}${5}3$4")
			r.stdout = strings.ReplaceAll(r.stdout, " in 3", " in 3ms  ")
			golden(t, c.name, append([]string{"mock"}, args...), r, url, "URL", p.url, "MOCK")
		})
	}
}

// playSome submits tasks, waits until all of their callbacks are sent, and asks for them.
func playSome(p *playing, args string, callbacks int) {
	p.t.Helper()
	if strings.Contains(args, "--key") {
		for _, key := range []string{"", "other", "secret"} {
			p.request(http.MethodGet, "/v1/aiart/tasks/none", key)
		}
		p.waitForLines(3)
		return
	}
	ids := make([]string, 0, 3)
	for _, product := range []string{"avatar", "text2img", "some_other_product_of_Fotor_with_a_long_name"} {
		ids = append(ids, p.submit(product))
	}
	if strings.Contains(args, "--quiet") {
		return
	}
	p.waitForLines(3 + callbacks)
	for i := range 6 {
		p.request(http.MethodGet, "/v1/aiart/tasks/"+ids[i%3], "any")
		p.waitForLines(3 + callbacks + i + 1)
	}
}

func TestMockErrorsGolden(t *testing.T) {
	for name, args := range map[string]string{
		"mock_lose_bad":         "--lose 10 --callback http://localhost:1",
		"mock_429_bad":          "--429 1/0",
		"mock_fail_bad":         "--fail NaN%",
		"mock_listen_bad":       "--listen 9300",
		"mock_callback_bad":     "--callback localhost:8080",
		"mock_without_callback": "--lose 10%",
		"mock_limit_bad":        "--limit 5/d",
		"mock_key_unset":        "--key {env.FOTOR_MOCK_UNSET}",
		"mock_key_empty":        "--key=",
		"mock_delay_bad":        "--delay -2s",
		"mock_retry_after_bad":  "--retry-after -2s",
	} {
		t.Run(name, func(t *testing.T) {
			fields := append([]string{"mock"}, strings.Fields(args)...)
			golden(t, name, fields, run(t, testEnvironment(), fields...))
		})
	}
}

func TestMockOfATakenPort(t *testing.T) {
	_, address := serve(t, http.NotFoundHandler())
	r := run(t, testEnvironment(), "mock", "--listen", address)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, fmt.Sprintf("Error: --listen %s: listen tcp %s: bind: ", address, address))
	require.Empty(t, r.stdout)
}

func TestMockSaysThatOthersReachIt(t *testing.T) {
	for listen, told := range map[string]bool{"127.0.0.1:0": false, "localhost:0": false, ":0": true, "0.0.0.0:0": true} {
		p := startMock(t, testEnvironment(), "--listen", listen)
		require.Equal(t, told, strings.Contains(p.end().stderr, "Note that other machines can reach it"), listen)
	}
}

// TestMockEscapes has requests with control characters, and a body that never comes.
func TestMockEscapes(t *testing.T) {
	p := startMock(t, testEnvironment())
	p.request(http.MethodGet, "/v1/aiart/tasks/%1b%5b31m%0a"+strings.Repeat("x", 10_000), "any")
	p.request(http.MethodPost, "/v1/aiart/%1b", "any")
	p.request(http.MethodGet, "/%1b", "\u009b31m")
	r := p.end()
	require.NotContains(t, r.stdout, "\x1b")
	require.Contains(t, r.stdout, `"\x1b[31m\nxxx`)
	for line := range strings.Lines(r.stdout) {
		require.Less(t, len(line), 200)
	}
}

// TestMockEndsWithItsReader ends quietly when nobody reads what it prints.
func TestMockEndsWithItsReader(t *testing.T) {
	env := testEnvironment()
	read, write := io.Pipe()
	env.stdout = &output{w: write}
	p := startMock(t, env)
	require.NoError(t, read.Close())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/", http.NoBody)
	require.NoError(t, err)
	if resp, err := http.DefaultClient.Do(req); err == nil { // or the connection ends before the answer
		resp.Body.Close()
	}
	require.Error(t, <-p.ended)
	require.Contains(t, p.stderr.String(), "Error: writing the output: ")
}

// TestMockSendsHeaders checks the header of callbacks.
func TestMockSendsHeaders(t *testing.T) {
	header := make(chan http.Header, 1)
	url, _ := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header <- r.Header }))
	p := startMock(t, testEnvironment(), "--callback", url, "--delay", "0s", "--no-progress", "-H", "X-Forwarded-For: 54.212.95.175")
	p.submit("avatar")
	got := <-header
	require.Equal(t, "54.212.95.175", got.Get("X-Forwarded-For"))
	require.Equal(t, "application/json", got.Get("Content-Type"))
	p.waitForLines(2)
	require.Contains(t, p.end().stdout, "→ 200 in ")
}
