package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// listening is a listener in synthetic time. The requests to the gateway and to the
// service are answered by functions.
type listening struct {
	*listener
	stdout, stderr strings.Builder
	pauses         []time.Duration
	asked, sent    int
}

const sampleCopy = `{"id":"x","destination":"default","header":{"Webhook-Id":"x"},"body":"{}","bodyEncoding":"utf-8"}`

func newListening(t *testing.T, gateway, app answerer) *listening {
	t.Helper()
	g, env := new(listening), testEnvironment()
	env.now = time.Now
	env.stdout, env.stderr = &output{w: &g.stdout}, &g.stderr
	env.pause = func(ctx context.Context, d time.Duration) error {
		g.pauses = append(g.pauses, d)
		return pause(ctx, d)
	}
	env.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "app.test" {
			g.sent++
			return app.answer(g.sent)
		}
		g.asked++
		return gateway.answer(g.asked)
	})
	plan := &listenPlan{to: &outgoing{url: "http://me:password@app.test", timeout: time.Minute}}
	g.listener = newListener(tailSession(t, env), "default", plan)
	return g
}

// answerer makes the answer to the nth request: its status and its body.
type answerer func(n int) (code int, body string, err error)

func (f answerer) answer(n int) (*http.Response, error) {
	code, body, err := f(n)
	if err != nil {
		return nil, err
	}
	content := io.Reader(strings.NewReader(body))
	if body == breaksOff {
		content = iotest.ErrReader(io.ErrUnexpectedEOF)
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(content)}, nil
}

// breaksOff is a body that does not arrive.
const breaksOff = "breaks off"

func copies(int) (int, string, error) { return 200, sampleCopy, nil }

// takes is a service that takes everything.
func takes(int) (int, string, error) { return 200, "", nil }

// handle has the listener handle that many events.
func (g *listening) handle(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		require.NoError(t, g.event(t.Context(), &control.Notice{Kind: control.Accepted, At: time.Now(), ID: id(i + 1), Status: "completed", Type: "avatar"}))
	}
}

// TestListenServiceDown has a service that answers once, is down, hangs, and is back. Each
// change is told once, without the password of the URL.
func TestListenServiceDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newListening(t, copies, func(n int) (int, string, error) {
			switch n {
			case 2, 3:
				return 0, "", errors.New("connection refused")
			case 4:
				time.Sleep(30 * time.Second) // synthetic
				return 0, "", context.DeadlineExceeded
			case 6:
				return 200, breaksOff, nil
			}
			return 204, "", nil
		})
		g.handle(t, 7)
		require.Equal(t, 7, g.sent, "none is sent twice")
		require.Equal(t, `http://app.test does not answer: connection refused. What it misses is not sent again.
http://app.test does not answer: context deadline exceeded. What it misses is not sent again.
http://app.test answers again.
http://app.test does not answer: HTTP 200, but its body broke off: unexpected EOF. What it misses is not sent again.
http://app.test answers again.
`, g.stderr.String())
		require.Equal(t, 3, strings.Count(g.stdout.String(), "→ 204 in "))
		require.Contains(t, g.stdout.String(), "→ no answer in 30s\n")
		g.stderr.Reset()
		g.end()
		require.Equal(t, "Copies: 3 answered 204, 4 without an answer.\n", g.stderr.String())
	})
}

// TestListenAsksAgain has a gateway that is away, does not know the event yet, has an
// error, does not deliver the event to this destination, or has it no more.
func TestListenAsksAgain(t *testing.T) {
	// so many times first, then the copy
	answers := func(code, times int) answerer {
		return func(n int) (int, string, error) {
			switch {
			case n > times:
				return copies(n)
			case code == 0:
				return 0, "", errors.New("connection refused")
			}
			return code, `{"error":"so it is"}`, nil
		}
	}
	for name, c := range map[string]struct {
		gateway answerer
		pauses  int
		sent    int
		out     string
	}{
		"at once":        {answers(0, 0), 0, 1, "→ 200"},
		"away for long":  {answers(0, 100), 100, 1, "→ 200"},
		"not there yet":  {answers(404, 3), 3, 1, "→ 200"},
		"never there":    {answers(404, 1<<30), 3, 0, "→ not copied"},
		"in trouble":     {answers(503, 7), 7, 1, "→ 200"},
		"always so":      {answers(503, 1<<30), 7, 0, "→ not copied"},
		"goes elsewhere": {answers(409, 1<<30), 0, 0, ""},
		"asked badly":    {answers(400, 1<<30), 0, 0, "→ not copied"},
		"odd answer":     {func(int) (int, string, error) { return 200, "[]", nil }, 7, 0, "→ not copied"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newListening(t, c.gateway, takes)
				g.handle(t, 1)
				require.Len(t, g.pauses, c.pauses)
				require.Equal(t, c.sent, g.sent)
				require.Contains(t, g.stdout.String(), c.out)
				require.Equal(t, c.out == "", g.stdout.String() == "")
				if strings.Contains(c.out, "not copied") {
					g.handle(t, 1)
					require.Equal(t, 1, strings.Count(g.stderr.String(), "Events are not copied: "), "told once")
				}
			})
		})
	}
}

// TestListenInterrupted checks that nothing is printed about a copy that was interrupted.
func TestListenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newListening(t, copies, func(int) (int, string, error) {
		cancel()
		return 0, "", context.Canceled
	})
	require.NoError(t, g.event(ctx, &control.Notice{Kind: control.Accepted, ID: id(1)}))
	require.Empty(t, g.stdout.String())
	require.Empty(t, g.stderr.String())
}

// TestListenLeavesOut has more arrive than a service takes: what arrives never waits, and
// it is told how many events were left out, once.
func TestListenLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newListening(t, copies, takes)
		g.waiting = make(chan control.Notice, 3)
		for i := range 10 {
			require.NoError(t, g.arrived(&control.Notice{Kind: control.Accepted, ID: id(i)}, nil))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var worker sync.WaitGroup
		worker.Go(func() { assert.NoError(t, g.work(ctx)) })
		synctest.Wait()
		cancel()
		worker.Wait()
		require.Equal(t, 3, g.sent)
		require.Equal(t, 1, strings.Count(g.stdout.String(), "7 events left out"), g.stdout.String())
		g.end()
		require.Equal(t, "Copies: 3 answered 200, 7 left out.\n", g.stderr.String())
	})
}

// TestRecentIDs checks that the last ids are known and the memory is bounded.
func TestRecentIDs(t *testing.T) {
	var r recentIDs
	for n := range 5 * maxWaiting {
		r.add(id(n))
		require.True(t, r.has(id(n)))
		require.True(t, r.has(id(max(0, n-maxWaiting+1))))
	}
	require.LessOrEqual(t, len(r.now)+len(r.before), 2*maxWaiting)
	require.False(t, r.has(id(0)))
}

// TestListenJSONLine checks the members of a line.
func TestListenJSONLine(t *testing.T) {
	g := newListening(t, copies, takes)
	g.json = true
	g.handle(t, 1)
	var line struct {
		control.Notice
		Copy *copied `json:"copy"`
	}
	require.NoError(t, json.Unmarshal([]byte(g.stdout.String()), &line))
	require.Equal(t, id(1), line.ID)
	require.Equal(t, http.StatusOK, line.Copy.HTTPStatus)
}
