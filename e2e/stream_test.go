package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// sse is one server-sent event.
type sse struct {
	Kind, ID string
	control.Notice
}

// tail reads a stream of server-sent events.
type tail struct {
	t      *testing.T
	events chan sse
	cancel context.CancelFunc
	status int
	last   string // id
}

// Tail opens a stream; the query goes on after the question mark.
func (g *gateway) Tail(query, lastEventID string) *tail {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	g.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.apiURL("default/events/stream?"+query), nil)
	require.NoError(g.t, err)
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := roundTrip(client, r) //nolint:bodyclose // its reader does
	require.NoError(g.t, err)
	tl := &tail{t: g.t, events: make(chan sse, 10_000), cancel: cancel, status: response.StatusCode}
	if tl.status == http.StatusOK {
		require.Equal(g.t, "text/event-stream", response.Header.Get("Content-Type"))
	}
	go func() {
		defer close(tl.events)
		defer response.Body.Close()
		var e sse
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "event":
				e.Kind = value
			case "id":
				e.ID = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e.Notice); err != nil {
					g.t.Errorf("data %q: %v", value, err)
				}
			case "":
				if e.Kind != "" {
					tl.events <- e
				}
				e = sse{}
			}
		}
	}()
	return tl
}

// Next returns the next event; ok is false at the stream's end.
func (tl *tail) Next() (e sse, ok bool) {
	tl.t.Helper()
	select {
	case e, ok = <-tl.events:
		if ok {
			tl.last = e.ID
			assert.Equal(tl.t, e.Kind, e.Notice.Kind)
			assert.Equal(tl.t, "default", e.Handler)
			assert.WithinDuration(tl.t, time.Now(), e.At, time.Minute)
		}
		return e, ok
	case <-time.After(patience):
		require.FailNow(tl.t, "nothing comes on the stream")
		return e, false
	}
}

// Expect returns the next events, which must be of these kinds.
func (tl *tail) Expect(kinds ...string) []sse {
	tl.t.Helper()
	events := make([]sse, 0, len(kinds))
	for _, kind := range kinds {
		e, ok := tl.Next()
		require.True(tl.t, ok, "the stream ended; expected %s", kind)
		require.Equal(tl.t, kind, e.Kind)
		events = append(events, e)
	}
	return events
}

func TestStreamTellsWhatHappens(t *testing.T) {
	up := newUpstream(t, failTimes(1, status(http.StatusTeapot)))
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", quiet)
	tl := g.Tail("", "")
	id := g.Accept(notice("task", 2))
	events := tl.Expect(control.Accepted, control.Retried, control.Delivered)
	for _, e := range events {
		assert.Equal(t, id, e.Notice.ID)
		assert.Equal(t, "task", e.TaskID)
		assert.Equal(t, "text2img", e.Type)
		assert.Equal(t, "failed", e.Status)
	}
	assert.Equal(t, "127.0.0.1", events[0].SourceIP)
	assert.Equal(t, 1, events[1].Attempt)
	assert.Equal(t, http.StatusTeapot, events[1].UpstreamStatus)
	assert.Equal(t, "HTTP 418", events[1].Reason)
	assert.NotNil(t, events[1].Due)
	assert.Equal(t, 2, events[2].Attempt)
	assert.Equal(t, http.StatusOK, events[2].UpstreamStatus)
	assert.Positive(t, events[2].DurationMS)

	assert.True(t, g.Post(notice("task", 2)).Duplicate, "a repeat is not told")
	g.Post("{}")
	quarantined := tl.Expect(control.InQuarantine)[0]
	assert.Positive(t, quarantined.QuarantineID)
	assert.Equal(t, 3, quarantined.Problems)

	up.Answer(status(http.StatusGone))
	g.Accept(notice("other", 1))
	tl.Expect(control.Accepted, control.Dead)

	up.Answer(askToWait("1"))
	g.Accept(notice("asks", 1)) // for itself, since others were taken a moment ago
	tl.Expect(control.Accepted, control.Retried)
	g.Accept(notice("held", 1))
	kinds := make(map[string]sse)
	gather := func(wanted ...string) { // a hold is told by another goroutine than its attempt, before or after
		for _, kind := range wanted {
			for kinds[kind].Kind == "" {
				e, ok := tl.Next()
				require.True(t, ok)
				kinds[e.Kind] = e
				if e.Kind == control.GivenBack {
					assert.Contains(t, kinds, control.Accepted, "what became of an event is told after it")
				}
			}
		}
	}
	gather(control.Accepted, control.GivenBack, control.Held)
	assert.Equal(t, control.ByUpstream, kinds[control.Held].By)
	assert.NotNil(t, kinds[control.Held].Until)
	up.Answer(nil)
	gather(control.Resumed, control.Delivered)
}

// A stream ends with its config; whoever comes again with the last id misses
// nothing of what was told meanwhile.
func TestStreamGoesOnAfterReload(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL, "", quiet)
	g.Start("forward "+up.URL, "", quiet)
	tl := g.Tail("kind=accepted", "")
	want := []string{g.Accept(notice("first", 1))}
	got := []string{tl.Expect(control.Accepted)[0].Notice.ID}
	for round := range 3 {
		require.NoError(t, g.Load(config))
		_, ok := tl.Next()
		require.False(t, ok, "it ends")
		for i := range 5 {
			want = append(want, g.Accept(notice(fmt.Sprint(round, "-", i), 1)))
		}
		tl = g.Tail("kind=accepted", tl.last)
		for range 5 {
			got = append(got, tl.Expect(control.Accepted)[0].Notice.ID)
		}
	}
	assert.Equal(t, want, got)
}

func TestStreamIsFiltered(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	byTask, byType := g.Tail("task=wanted&kind=accepted,delivered", ""), g.Tail("type=avatar", "")
	g.Accept(notice("other", 1))
	g.Accept(avatar("other avatar"))
	g.Accept(notice("wanted", 1))
	for _, e := range byTask.Expect(control.Accepted, control.Delivered) {
		assert.Equal(t, "wanted", e.TaskID)
	}
	for _, e := range byType.Expect(control.Accepted, control.Delivered) {
		assert.Equal(t, "other avatar", e.TaskID)
	}
}

// After a restart there is no telling what was missed, and that is said.
func TestStreamAfterRestartTellsOfTheGap(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	tl := g.Tail("", "")
	g.Accept(notice("before", 1))
	tl.Expect(control.Accepted, control.Delivered)
	g.Stop()
	// At another port: Caddy ends the admin endpoint that was before beside the new
	// one, and at the same port a connection may come to either.
	g.Admin = newGateway(t).Admin
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL, "", quiet)))
	tl = g.Tail("", tl.last)
	assert.EqualValues(t, -1, tl.Expect(control.Gap)[0].Missed)
	g.Accept(notice("after", 1))
	tl.Expect(control.Accepted, control.Delivered)
}

func TestStreamsAreBounded(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	tails := make([]*tail, 0, control.MaxFollowers)
	for len(tails) < control.MaxFollowers-1 { // Caddy's events are one
		tails = append(tails, g.Tail("", ""))
		require.Equal(t, http.StatusOK, tails[len(tails)-1].status)
	}
	require.Equal(t, http.StatusServiceUnavailable, g.Tail("", "").status)
	tails[0].cancel()
	await(t, func() bool { return g.Tail("", "").status == http.StatusOK }, "a place for another stream")
}

// Caddy's admin endpoint gives a request ten seconds to be read; a stream goes
// on beyond that, also when it is silent.
func TestStreamOutlivesTheReadTimeout(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	p := g.Run(g.Caddyfile("forward "+up.URL, "", ""))
	g.Accept(notice("first", 1)) // then it runs
	g.delivered(1)
	tl := g.Tail("", "")
	began := time.Now()
	await(t, func() bool { return time.Since(began) > 11*time.Second }, "the timeout to pass")
	g.Accept(notice("task", 1))
	tl.Expect(control.Accepted, control.Delivered)

	// and an open stream does not keep Caddy from ending
	began = time.Now()
	p.Terminate()
	assert.Zero(t, p.ExitCode(), "%s", p.Output)
	assert.Less(t, time.Since(began), 8*time.Second)
}
