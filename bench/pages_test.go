package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	_ "github.com/fotor-webhook/caddy-fotor-webhook"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// What the inbox of the benchmark has.
var (
	pageEvents  = flag.Int("events", 1_000_000, "events in the inbox of BenchmarkPages; a tenth of them is dead, eight tenths are delivered")
	pageSuspect = flag.Int("quarantined", 1000, "callbacks in its quarantine")
)

// BenchmarkPages shows each page of the dashboard as a browser asks for it, compressed. It
// reports the CPU time of all goroutines beside what one of them waited.
func BenchmarkPages(b *testing.B) {
	show := serveDashboard(b)
	event := between(show(b, "/events", ""), "./event?", `"`)
	suspect := between(show(b, "/problems", ""), "./quarantined?", `"`)
	chart := between(show(b, "/", ""), `<img src="./chart?`, `"`)
	for name, path := range map[string]string{
		"overview":    "/",
		"events":      "/events",
		"oldest":      "/events?order=asc",
		"delivered":   "/events?state=delivered",
		"dead":        "/events?state=dead",
		"pending":     "/events?state=pending",
		"no_type":     "/events?type=none-such",
		"no_task":     "/events?task=none-such",
		"long_ago":    "/events?until=48h",
		"200_rows":    "/events?limit=200",
		"event":       "/event?" + event,
		"problems":    "/problems",
		"quarantined": "/quarantined?" + suspect,
		"whitelist":   "/whitelist",
		"explain":     "/whitelist?ip=192.0.2.1",
		"chart":       "/chart?" + chart,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			began, size := processCPU(), 0
			for b.Loop() {
				size = len(show(b, path, "gzip"))
			}
			b.ReportMetric(float64((processCPU()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(size), "B/page")
		})
	}
}

// serveDashboard runs a gateway with a full inbox and a dashboard, and returns what shows
// one of its pages.
func serveDashboard(b *testing.B) (show func(b *testing.B, path, coding string) string) {
	b.Helper()
	home := b.TempDir()
	file := filepath.Join(home, "events.db")
	fillAll(b, file)
	b.Setenv("XDG_DATA_HOME", home)
	upstream := httptest.NewServer(upstreamHandler())
	b.Cleanup(upstream.Close)
	c := contender{browsers: 1, site: func(p places) string {
		return p.gateway("forward http://" + p.upstream + heldPath)
	}}
	text := c.caddyfile("127.0.0.1:0", "off", filepath.Join(home, "storage"), "ERROR", places{
		upstream: strings.TrimPrefix(upstream.URL, "http://"), inbox: file, dashboard: "localhost:0",
	})
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	require.NoError(b, err)
	require.NoError(b, caddy.Load(config, true))
	b.Cleanup(func() { require.NoError(b, caddy.Stop()) })

	app, err := caddy.ActiveContext().App("http")
	require.NoError(b, err)
	return func(b *testing.B, path, coding string) string {
		b.Helper()
		for _, server := range app.(*caddyhttp.App).Servers {
			request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, http.NoBody)
			request.Host = "localhost"
			request.Header.Set("Accept-Encoding", coding)
			answer := httptest.NewRecorder()
			server.ServeHTTP(answer, request)
			if answer.Header().Get("Content-Security-Policy") == "" {
				continue // it is that of the callbacks
			}
			require.Equal(b, http.StatusOK, answer.Code, path)
			return answer.Body.String()
		}
		b.Fatal("no server has a dashboard")
		return ""
	}
}

// fillAll makes an inbox of what has happened in a long time.
func fillAll(b *testing.B, file string) {
	b.Helper()
	ctx := context.Background()
	box, err := openInbox(ctx, file)
	require.NoError(b, err)
	defer func() { require.NoError(b, box.Close()) }()
	require.NoError(b, fill(ctx, box, fillSpec{Count: *pageEvents}))
	require.NoError(b, settle(ctx, box, *pageEvents/10*8, inbox.Deliver, inbox.Attempt{Status: http.StatusOK}))
	for part := range 10 { // of the dead, with reasons of their own
		attempt := inbox.Attempt{Status: http.StatusInternalServerError, Reason: fmt.Sprintf("reason %s of many", strings.Repeat("x", part))}
		require.NoError(b, settle(ctx, box, *pageEvents/100, inbox.GiveUp, attempt))
	}
	for n := range *pageSuspect {
		require.NoError(b, box.Quarantine(ctx, &inbox.Suspect{
			ReceivedAt: time.Now(), SourceIP: "127.0.0.1", Status: http.StatusUnprocessableEntity,
			Problems: []byte(`[{"pointer":"/status","detail":"expected an integer"},{"pointer":"/taskId","detail":"is missing"}]`),
			Body:     fmt.Appendf(nil, `{"status":"%d","type":"avatar"}`, n),
		}))
	}
}

// between returns what is between two texts, as the address of a link.
func between(text, begin, end string) string {
	_, rest, _ := strings.Cut(text, begin)
	link, _, _ := strings.Cut(rest, end)
	return strings.ReplaceAll(link, "&amp;", "&")
}

// processCPU returns the CPU time of the process so far.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
