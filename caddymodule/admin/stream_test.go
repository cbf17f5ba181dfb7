package admin

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// connection is the client's end of a stream.
type connection struct{ bytes.Buffer }

func (c *connection) Header() http.Header              { return http.Header{} }
func (c *connection) WriteHeader(int)                  {}
func (c *connection) SetWriteDeadline(time.Time) error { return nil }
func (c *connection) FlushError() error                { return nil }

// lastID returns the id that an EventSource would give back.
func (c *connection) lastID() (id string) {
	for line := range strings.Lines(c.String()) {
		if given, ok := strings.CutPrefix(line, "id: "); ok {
			id = strings.TrimSpace(given)
		}
	}
	return id
}

// streamed follows a feed for some time, while publish is called 20 times a second.
func streamed(t *testing.T, feed *control.Feed, wanted selection, length time.Duration, publish func()) *connection {
	t.Helper()
	follower, err := feed.Follow("")
	require.NoError(t, err)
	defer follower.Close()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	go func() {
		for sleep.For(ctx, time.Second/20) {
			publish()
		}
	}()
	c := new(connection)
	s := &stream{w: c, out: http.NewResponseController(c), wanted: wanted}
	require.ErrorIs(t, s.run(ctx, follower), context.DeadlineExceeded)
	return c
}

// Pings come whatever happens: on a silent stream, on one that all notices go to, and on one
// that none of them goes to.
func TestStreamPings(t *testing.T) {
	accepted := func(f *control.Feed) func() {
		return func() { f.Publish(control.Notice{Kind: control.Accepted}) }
	}
	for name, c := range map[string]struct {
		wanted  selection
		publish func(*control.Feed) func()
		events  bool
	}{
		"silent":  {publish: func(*control.Feed) func() { return func() {} }},
		"busy":    {publish: accepted, events: true},
		"skipped": {wanted: selection{kinds: []string{control.Dead}}, publish: accepted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				feed := control.NewFeed("b")
				got := streamed(t, feed, c.wanted, 40*time.Second, c.publish(feed)).String()
				require.Equal(t, 2, strings.Count(got, ": ping\n"), got)
				require.Equal(t, c.events, strings.Contains(got, "event: "), got)
			})
		})
	}
}

// A client that comes back is told of a gap only if it has missed what it asked for, however
// many other notices there were since its last one.
func TestStreamGoesOnAfterWhatItSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := control.NewFeed("b")
		got := streamed(t, feed, selection{kinds: []string{control.Dead}}, time.Minute, func() {
			for range control.FeedLength / 20 {
				feed.Publish(control.Notice{Kind: control.Accepted})
			}
		})
		require.NotContains(t, got.String(), "event: ")
		for range control.FeedLength / 2 {
			feed.Publish(control.Notice{Kind: control.Accepted})
		}
		follower, err := feed.Follow(got.lastID())
		require.NoError(t, err)
		defer follower.Close()
		entries, err := follower.Next(t.Context(), nil, 1)
		require.NoError(t, err)
		require.Equal(t, control.Accepted, entries[0].Kind)
	})
}
