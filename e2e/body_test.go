package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// outcomes returns how many callbacks had that outcome since this process began.
func (g *gateway) outcomes(outcome string) int {
	g.t.Helper()
	return int(g.Metric(fmt.Sprintf("caddy_fotor_webhook_callbacks_total{handler=%q,outcome=%q}", "default", outcome)))
}

// A thousand callers that stall in the middle of a body do not keep others out.
func TestStalledBodiesKeepNobodyOut(t *testing.T) {
	const stalled, ordinary = 1000, 200
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nmax_body 64MiB", "", quiet)
	heads := []string{"Transfer-Encoding: chunked\r\n\r\n100000\r\n{\"taskId\":", "Content-Length: 67108864\r\n\r\n{", "Content-Length: 1000\r\n\r\n"}
	open := make([]net.Conn, stalled)
	for i := range open {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
		require.NoError(t, err)
		defer c.Close()
		_, err = fmt.Fprintf(c, "POST /callback HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n%s", heads[i%len(heads)])
		require.NoError(t, err)
		open[i] = c
	}
	bodies := func() control.Bodies { return ask[control.Handler](g, http.MethodGet, "default", "").Bodies }
	g.postAll(ordinary)
	now := bodies()
	assert.Positive(t, now.Reading, "they were still there")
	assert.Less(t, now.Bytes, now.Limit/8, "what has not come takes no room")
	assert.Equal(t, now.Limit, int64(g.Metric(`caddy_fotor_webhook_body_limit_bytes{handler="default"}`)))
	for _, c := range open {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusRequestTimeout, response.StatusCode, string(text))
		require.Contains(t, string(text), "no byte for 10s")
		require.True(t, response.Close)
	}
	await(t, func() bool { now := bodies(); return now.Reading == 0 && now.Bytes == 0 }, "an empty room")
	assert.GreaterOrEqual(t, g.outcomes("timeout"), stalled)
}

// postAll sends callbacks all of which must be accepted.
func (g *gateway) postAll(n int) {
	g.t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		r := newRequest(g.t, g.URL(), strings.NewReader(avatar(fmt.Sprint("ordinary-", i))))
		wg.Go(func() {
			answer, err := try(r)
			if err == nil && answer.Status != http.StatusOK {
				err = errors.New(answer.Body)
			}
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(g.t, err)
	}
}

// Exceeding the limit of a request_body directive is answered and counted like exceeding
// max_body, wherever the directive stands.
func TestRequestBodyLimitIsTheHandlersAnswer(t *testing.T) {
	up := newUpstream(t, nil)
	const limit = "request_body {\nmax_size 1KB\n}\n"
	large := notice(strings.Repeat("x", 2000), 1)
	for name, config := range map[string]func(g *gateway) string{
		"in the site": func(g *gateway) string {
			return g.Caddyfile("forward "+up.URL, limit+"respond /other 204", quiet)
		},
		"in a site without a host": func(g *gateway) string {
			return strings.Replace(g.Caddyfile("forward "+up.URL, limit+"respond /other 204", quiet), "http://127.0.0.1:", "http://:", 1)
		},
		"in a handle": func(g *gateway) string {
			config := strings.Replace(g.Caddyfile("forward "+up.URL, "handle {\nrespond 204\n}", quiet),
				"fotor_webhook /callback {", "handle /callback {\n"+limit+"fotor_webhook {", 1)
			return config + "}\n" // there is one more block
		},
		"behind another handler": func(g *gateway) string {
			another := "fotor_webhook /another/one " + up.URL + " {\nname another\ninbox sqlite " + g.DB + ".another\n}\n"
			return g.Caddyfile("forward "+up.URL, limit+another+"respond /other 204", quiet)
		},
		"behind a block that takes others": func(g *gateway) string {
			return strings.Replace(g.Caddyfile("forward "+up.URL, limit+"handle /other {\nrespond 204\n}", quiet), "fotor_webhook /callback", "fotor_webhook", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			g.t.Cleanup(g.Stop)
			require.NoError(t, g.Load(config(g)))
			for _, chunked := range []bool{false, true} {
				before := g.outcomes("too_large")
				r := newRequest(t, g.URL(), strings.NewReader(large))
				if chunked {
					r.ContentLength = -1
				}
				answer := do(t, r)
				assert.Equal(t, http.StatusRequestEntityTooLarge, answer.Status, "chunked: %t", chunked)
				assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), "chunked: %t", chunked)
				assert.Contains(t, answer.Body, "larger than 1000 bytes")
				assert.Equal(t, before+1, g.outcomes("too_large"), "chunked: %t", chunked)
			}
			assert.Contains(t, g.CLI("status", "--handler", "default").Out, " 2 too large,", "status counts what the metric counts")
			g.Accept(notice("small", 1))
			// requests for another path are not counted
			before := g.outcomes("too_large")
			r := newRequest(t, strings.Replace(g.URL(), "/callback", "/other", 1), strings.NewReader(large))
			answer := do(t, r)
			assert.Empty(t, answer.Body)
			assert.Equal(t, before, g.outcomes("too_large"))
		})
	}
}

// With HTTP/2 and HTTP/3 only the stream ends.
func TestStalledBodyOverHTTP2(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.t.Cleanup(g.Stop)
	caddyfile := strings.Replace(g.Caddyfile("forward "+up.URL, "tls internal", "skip_install_trust\n"+quiet), "http://127.0.0.1", "https://127.0.0.1", 1)
	caddyfile = strings.Replace(caddyfile, "auto_https off", "default_sni 127.0.0.1\nauto_https disable_redirects\nstorage file_system "+t.TempDir(), 1)
	require.NoError(t, g.Load(caddyfile))
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // of the test
	defer transport.CloseIdleConnections()
	secure := strings.Replace(g.URL(), "http:", "https:", 1)
	await(t, func() bool { // the certificate is made in the background
		response, err := transport.RoundTrip(newRequest(t, secure, strings.NewReader(notice("task", 1))))
		return err == nil && assert.NoError(t, response.Body.Close())
	}, "a certificate")
	stalled, end := io.Pipe()
	defer end.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, secure, stalled)
	require.NoError(t, err)
	response, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, 2, response.ProtoMajor)
	assert.Equal(t, http.StatusRequestTimeout, response.StatusCode)
	assert.Contains(t, string(text), "no byte for 10s")
}
