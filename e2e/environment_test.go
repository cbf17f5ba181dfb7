package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These tests are of what docs/environment.md says of Caddy's options outside the handler.
// Those about trusted_proxies are in accept_test.go and explain_test.go.

const fotorAddress = "54.212.95.175"

// Behind a proxy on the same machine that connects to a Unix socket, the header says who
// calls, if the server trusts the socket; otherwise nobody can be told, and nobody is let in.
func TestUnixSocketBehindAProxy(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	t.Cleanup(g.Stop)
	socket := filepath.Join(t.TempDir(), "caddy.sock")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	proxy := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	post := func(task, forwardedFor string) int {
		r := newRequest(t, "http://callbacks.example.com/callback", strings.NewReader(notice(task, 1)))
		if forwardedFor != "" {
			r.Header.Set("X-Forwarded-For", forwardedFor)
		}
		answer, err := tryWith(proxy, r)
		require.NoError(t, err)
		return answer.Status
	}
	load := func(servers string) {
		require.NoError(t, g.Load(g.Globals("servers {\n"+servers+"\n}\n"+quiet)+
			"http:// {\nbind unix/"+socket+"\nfotor_webhook /callback {\nallow fotor\ninbox sqlite "+g.DB+"\nforward "+up.URL+"\n}\n}"))
	}
	load("trusted_proxies_unix\ntrusted_proxies_strict")
	assert.Equal(t, http.StatusOK, post("from fotor", fotorAddress))
	assert.Equal(t, http.StatusForbidden, post("forged", fotorAddress+", 198.51.100.7"))
	assert.Equal(t, http.StatusForbidden, post("nobody", ""))
	assert.Equal(t, http.StatusForbidden, post("not an address", "unknown"))

	load("trusted_proxies_strict") // without trusted_proxies_unix
	assert.Equal(t, http.StatusForbidden, post("not believed", fotorAddress))
	assert.Equal(t, "from fotor", up.Await(t, 1)[0].Event.TaskID)
}

// With the PROXY protocol the balancer says who has connected, and the address of the
// connection is that one. What a stranger says so is not believed.
func TestProxyProtocol(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	t.Cleanup(g.Stop)
	send := func(task, says string) (status int, err error) {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		body := notice(task, 1)
		_, err = fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 40000 443\r\nPOST /callback HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", says, g.Port, len(body), body)
		if err != nil {
			return 0, err
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	post := func(task, says string) int {
		status, err := send(task, says)
		// For a moment after a reload, Caddy itself closes new connections too.
		for tries := 0; tries < 10 && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)); tries++ {
			status, err = send(task, says)
		}
		require.NoError(t, err)
		return status
	}
	load := func(allowed string) {
		require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\nallow fotor", "",
			"servers {\nlistener_wrappers {\nproxy_protocol {\nallow "+allowed+"\n}\n}\n}\n"+quiet)))
	}
	load("127.0.0.1/32")
	assert.Equal(t, http.StatusOK, post("from fotor", fotorAddress))
	assert.Equal(t, http.StatusForbidden, post("from elsewhere", "198.51.100.7"))
	load("192.0.2.0/24")
	assert.Equal(t, http.StatusForbidden, post("not a balancer", fotorAddress))
	assert.Equal(t, "from fotor", up.Await(t, 1)[0].Event.TaskID)
}

// The server's own timeout for the body holds if it is shorter than the handler's, and is
// answered as that is.
func TestServerTimeoutForTheBody(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", "servers {\ntimeouts {\nread_body 1s\n}\n}\n"+silent)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "POST /callback HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", g.Port)
	require.NoError(t, err)
	began := time.Now()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, http.StatusRequestTimeout, response.StatusCode)
	assert.Less(t, time.Since(began), 9*time.Second, "the handler's own limit is 10 seconds")
	g.Accept(notice("in time", 1))
}

// Deliveries go through the proxy of the environment, as any reverse_proxy does. What is on
// the same machine is reached without it.
func TestProxyOfTheEnvironment(t *testing.T) {
	var proxied atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Store(r.Method + " " + r.URL.String())
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(proxy.Close)
	up := newUpstream(t, nil)
	run := func(t *testing.T, forward string) *gateway {
		t.Helper()
		g := newGateway(t)
		cmd := command(t, "run", "--adapter", "caddyfile", "--config", configFile(t, g.Caddyfile(forward+quick, "", quiet)))
		cmd.Env = append(cmd.Env, "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL, "NO_PROXY=")
		start(t, cmd)
		return g
	}
	for name, forward := range map[string]string{
		"url": "forward %s",
		// without the header a proxy would be asked for the host of the event's own request
		"routes": "forward {\nreverse_proxy %s {\nheader_up Host {upstream_hostport}\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			proxied.Store("")
			near := run(t, fmt.Sprintf(forward, up.URL))
			up.requireDelivered(t, []string{near.Accept(notice("near "+name, 1))})
			assert.Empty(t, proxied.Load())
			far := run(t, fmt.Sprintf(forward, "http://app.test"))
			far.Accept(notice("far", 1))
			far.delivered(1)
			assert.Regexp(t, "^POST http://app[.]test(:80)?/$", proxied.Load())
		})
	}
}

// With the admin endpoint off everything but the commands and the admin API works. The
// config can be loaded anew with a signal.
func TestAdminOff(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := strings.Replace(g.Caddyfile("forward "+up.URL+quick, readySite+"metrics /metrics", quiet+"\nmetrics"),
		fmt.Sprintf("admin 127.0.0.1:%d", g.Admin), "admin off", 1)
	p := g.Run(config)
	g.becomesReady()
	up.requireDelivered(t, []string{g.Accept(notice("task", 1))})
	assert.False(t, listens(t, g.Admin))
	metrics := &gateway{t: t, Admin: g.Port} // on the site's own port
	assert.InDelta(t, 1, metrics.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`), 0)
	p.Terminate()
	assert.Zero(t, p.ExitCode())
}

// What Caddy keeps of its config has the placeholder of a secret, not the secret. With
// persist_config off it keeps nothing, and the gateway misses nothing.
func TestConfigThatCaddyKeeps(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	up := newUpstream(t, nil)
	for _, kept := range []bool{true, false} {
		g := newGateway(t)
		config := g.Caddyfile("forward "+up.URL+"\nsign {env.FOTOR_WEBHOOK_SECRET}", "", quiet)
		if kept {
			config = strings.Replace(config, "persist_config off\n", "", 1)
		}
		home := openDir(t)
		cmd := command(t, "run", "--adapter", "caddyfile", "--config", configFile(t, config))
		cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+home, "FOTOR_WEBHOOK_SECRET="+secret)
		p := start(t, cmd)
		up.requireDelivered(t, []string{g.Accept(notice(fmt.Sprint("kept: ", kept), 1))})
		p.Terminate()
		assert.Zero(t, p.ExitCode())
		saved, err := os.ReadFile(filepath.Join(home, "caddy", "autosave.json"))
		if !kept {
			require.ErrorIs(t, err, os.ErrNotExist)
			continue
		}
		require.NoError(t, err)
		assert.Contains(t, string(saved), "{env.FOTOR_WEBHOOK_SECRET}")
		assert.NotContains(t, string(saved), secret)
	}
}
