package e2e

import (
	"fmt"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// delivered waits until the gateway has delivered n events.
func (g *gateway) delivered(n int) {
	g.t.Helper()
	await(g.t, func() bool { return g.Events("delivered") == n }, "%d delivered events", n)
}

func TestForwardBlockTakesAnyDirectives(t *testing.T) {
	video, other := newUpstream(t, nil), newUpstream(t, nil)
	g := newGateway(t)
	g.Start(fmt.Sprintf(`forward {
	@video header Fotor-Task-Type videoEnhancer
	@gone header Fotor-Task-Type retired
	request_header X-Kind {http.request.header.Fotor-Task-Type}
	rewrite /in{http.request.header.Fotor-Task-Status}
	reverse_proxy @video %s
	respond @gone 410
	reverse_proxy %s {
		header_up X-Name {http.reverse_proxy.upstream.hostport}
	}
}`, video.URL, other.URL), "", "")

	g.Accept(`{"taskId":"v","status":1,"type":"videoEnhancer"}`)
	g.Accept(`{"taskId":"o","status":2,"type":"avatar"}`)
	g.Accept(`{"taskId":"r","status":1,"type":"retired"}`)
	g.delivered(2)
	await(t, func() bool { return g.Events("dead") == 1 }, "the retired one")
	require.Len(t, video.Deliveries(), 1)
	require.Len(t, other.Deliveries(), 1)
	assert.Equal(t, "v", video.Deliveries()[0].Event.TaskID)
	assert.Equal(t, "/incompleted", video.Deliveries()[0].Path)
	assert.Equal(t, "videoEnhancer", video.Deliveries()[0].Header.Get("X-Kind"))
	assert.Equal(t, "/infailed", other.Deliveries()[0].Path)
	assert.Equal(t, other.Listener.Addr().String(), other.Deliveries()[0].Header.Get("X-Name"))
}

func TestForwardBlockBalancesAndFailsOver(t *testing.T) {
	alive := newUpstream(t, nil)
	dead := freePorts(t, 1)[0]
	g := newGateway(t)
	g.Start(fmt.Sprintf(`forward {
	reverse_proxy 127.0.0.1:%d %s {
		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 10ms
	}
}`, dead, strings.TrimPrefix(alive.URL, "http://")), "", "")
	for i := range 6 {
		g.Accept(notice(fmt.Sprint("task-", i), 1))
	}
	g.delivered(6)
	for _, d := range alive.Deliveries() {
		assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"), "failing over spends no attempt")
		assert.NotEmpty(t, d.Body)
	}
}

func TestForwardBlockChecksHealth(t *testing.T) {
	sick := newUpstream(t, status(http.StatusInternalServerError))
	well := newUpstream(t, nil)
	g := newGateway(t)
	g.Start(fmt.Sprintf(`forward {
	reverse_proxy %s %s {
		lb_policy first
		fail_duration 1m
		max_fails 1
		unhealthy_status 500
	}
}`, strings.TrimPrefix(sick.URL, "http://"), strings.TrimPrefix(well.URL, "http://"))+quick, "", "")
	g.Accept(notice("a", 1))
	g.delivered(1)
	g.Accept(notice("b", 1))
	g.delivered(2)
	assert.Len(t, sick.Deliveries(), 1, "passive health checks keep later attempts away")
	assert.Len(t, well.Deliveries(), 2)
}

func TestForwardBlockReachesEveryKindOfUpstream(t *testing.T) {
	tests := map[string]struct {
		start   func(t *testing.T, u *upstream) string
		forward string
	}{
		"unix socket": {startUnix, "reverse_proxy %s"},
		"h2c":         {startH2C, "reverse_proxy %s"},
		"tls":         {startTLS, "reverse_proxy %s {\ntransport http {\ntls_insecure_skip_verify\n}\n}"},
		"fastcgi":     {startFastCGI, "root /srv\nrewrite /app.php\nreverse_proxy %s {\ntransport fastcgi\n}"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			up := newStoppedUpstream(nil)
			address := test.start(t, up)
			g := newGateway(t)
			g.Start("forward {\n"+fmt.Sprintf(test.forward, address)+"\n}"+quick, "", "")
			id := g.Accept(avatar("task"))
			g.delivered(1)
			require.Len(t, up.Deliveries(), 1)
			d := up.Deliveries()[0]
			assert.Equal(t, id, d.Event.ID)
			assert.Equal(t, id, d.Header.Get("Webhook-Id"))
		})
	}
}

func startUnix(t *testing.T, u *upstream) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fotor") // the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "app.sock")
	require.NoError(t, u.Listener.Close())
	u.Listener = listenUnix(t, path)
	u.Start()
	t.Cleanup(u.Close)
	return "unix/" + path
}

func startH2C(t *testing.T, u *upstream) string {
	t.Helper()
	u.Config.Protocols = new(http.Protocols)
	u.Config.Protocols.SetUnencryptedHTTP2(true) // and no HTTP/1
	u.Start()
	t.Cleanup(u.Close)
	return "h2c://" + u.Listener.Addr().String()
}

func startTLS(t *testing.T, u *upstream) string {
	t.Helper()
	u.StartTLS()
	t.Cleanup(u.Close)
	return u.Server.URL
}

func startFastCGI(t *testing.T, u *upstream) string {
	t.Helper()
	t.Cleanup(u.Close)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = fcgi.Serve(u.Listener, http.HandlerFunc(u.serve)) // ends when the listener is closed
	}()
	t.Cleanup(func() {
		_ = u.Listener.Close()
		<-done
	})
	return u.Listener.Addr().String()
}

func TestForwardBlockRunsPHP(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "index.php"), []byte("<?php // the stand-in does not read it"), 0o600))
	up := newStoppedUpstream(nil)
	g := newGateway(t)
	g.Start(fmt.Sprintf("forward {\nroot %s\nphp_fastcgi %s\n}", root, startFastCGI(t, up))+quick, "", "")
	id := g.Accept(notice("task", 1))
	g.delivered(1)
	assert.Equal(t, id, up.Deliveries()[0].Event.ID)
}

func TestH2CURL(t *testing.T) {
	up := newStoppedUpstream(nil)
	url := startH2C(t, up)
	g := newGateway(t)
	g.Start("forward "+url+"/events"+quick, "", "")
	g.Accept(notice("task", 1))
	g.delivered(1)
	assert.Equal(t, "/events", up.Deliveries()[0].Path)
}

// A panic in a handler of the routes is a failed attempt, not a crash.
func TestPanicInForwardIsRetried(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward {\nfotor_e2e_panic\nreverse_proxy "+up.URL+"\n}"+quick, "", "")
	panics.Store(2)
	g.Accept(notice("task", 1))
	g.delivered(1)
	assert.Equal(t, int64(0), panics.Load())
}

func TestForwardThatAnswersNothingIsNoDelivery(t *testing.T) {
	g := newGateway(t)
	g.Start("forward {\nrequest_header X-Y z\n}"+quick, "", "")
	g.Accept(notice("task", 1))
	await(t, func() bool {
		return g.Metric(`caddy_fotor_webhook_deliveries_total{destination="default",handler="default",outcome="retry"}`) >= 2
	}, "failed attempts")
	assert.Equal(t, 0, g.Events("delivered"))
}

// The backlog is delivered after a start, before any request has arrived.
func TestBacklogGoesOutAfterRestart(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, status(http.StatusServiceUnavailable))
		g := newGateway(t)
		g.Start(forward(up.URL)+quick, "", "")
		ids := map[string]bool{}
		for i := range 20 {
			ids[g.Accept(notice(fmt.Sprint("task-", i), 1))] = true
		}
		up.Await(t, 1)
		g.Stop()
		up.Answer(nil)
		before := len(up.Deliveries())
		require.NoError(t, g.Load(g.Caddyfile(forward(up.URL)+quick, "", "")))
		g.delivered(20)
		for _, d := range up.Deliveries()[before:] {
			delete(ids, d.Event.ID)
		}
		assert.Empty(t, ids)
	})
}

func TestAttemptsAreSigned(t *testing.T) {
	secret := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	t.Setenv("FOTOR_E2E_SECRET", secret)
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, nil)
		g := newGateway(t)
		g.Start(forward(up.URL)+"\nsign {env.FOTOR_E2E_SECRET}", "", "")
		g.Accept(avatar("task"))
		d := up.Await(t, 1)[0]
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, wh.Verify(d.Body, d.Header))
	})
}

func TestWorkStartsAtOnce(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", "")
	const ages = `caddy_fotor_webhook_delivery_age_seconds_sum{destination="default",handler="default"}`
	before := g.Metric(ages) // earlier tests in this process count too
	for i := range 20 {
		g.Accept(notice(fmt.Sprint("task-", i), 1))
		up.Await(t, i+1)
	}
	// polling, however often, would show with twenty in a row
	assert.Less(t, g.Metric(ages)-before, (20 * time.Second).Seconds())
}
