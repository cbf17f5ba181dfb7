package fotorwebhook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
)

// quickly is long enough for a body that is sent at once, even on a busy machine,
// and short enough for a test to wait.
const quickly = 300 * time.Millisecond

// reading serves a handler that reads bodies as ServeHTTP does, and only answers
// 200 with their length.
func reading(t *testing.T, h *Handler, server *caddyhttp.Server, prepare func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if server != nil {
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ServerCtxKey, server))
		}
		since := time.Now()
		b, err := h.readBody(w, r, since)
		defer b.Free()
		if err != nil {
			a := h.bodyFailed(netip.Addr{}, since, b, err)
			_ = a.writeEarly(w, r, since)
			return
		}
		_, _ = fmt.Fprint(w, len(b.Data()))
	}))
	prepare(s)
	t.Cleanup(s.Close)
	return s
}

// fill occupies room for a handler's bodies until the test's end.
func fill(t *testing.T, h *Handler, size int64) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(strings.Repeat("x", int(size))))
	b, err := body.Read(httptest.NewRecorder(), r, body.Options{
		Room: &h.bodies.room, Wait: time.Minute, Max: size, Times: body.Times{Whole: time.Hour, Idle: time.Hour}, Since: time.Now(),
	})
	t.Cleanup(b.Free)
	require.NoError(t, err)
}

func http1(s *httptest.Server) { s.Start() }

func http2(s *httptest.Server) {
	s.EnableHTTP2 = true
	s.StartTLS()
}

// stall returns a body that stalls after its beginning.
func stall(t *testing.T, beginning string) io.Reader {
	t.Helper()
	stalled, end := io.Pipe()
	t.Cleanup(func() { _ = end.Close() })
	return struct { // the client closes it after the answer
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(beginning), stalled), stalled}
}

// trickle is an endless body that comes byte by byte.
type trickle struct{}

func (trickle) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	p[0] = ' '
	return 1, nil
}

func TestSlowBodiesAreAnswered(t *testing.T) {
	t.Parallel()
	long := body.Times{Whole: time.Hour, Idle: time.Hour}
	tests := map[string]struct {
		times  body.Times
		server *caddyhttp.Server
		body   func(t *testing.T) io.Reader
		detail string
	}{
		"stalled": {
			body.Times{Whole: time.Hour, Idle: quickly},
			nil,
			func(t *testing.T) io.Reader { return stall(t, `{"taskId":`) }, "no byte for",
		},
		"never begun": {
			body.Times{Whole: time.Hour, Idle: quickly},
			nil,
			func(t *testing.T) io.Reader { return stall(t, "") }, "no byte for",
		},
		"trickling": {
			body.Times{Whole: quickly, Idle: time.Hour},
			nil,
			func(*testing.T) io.Reader { return trickle{} }, "not whole after",
		},
		"slower than the server allows": {
			long, &caddyhttp.Server{ReadTimeout: caddy.Duration(quickly)},
			func(*testing.T) io.Reader { return trickle{} }, "read_body",
		},
	}
	for protocol, start := range map[string]func(*httptest.Server){"HTTP/1.1": http1, "HTTP/2.0": http2} {
		for name, test := range tests {
			for _, length := range []int64{-1, 60_000} {
				t.Run(fmt.Sprint(protocol, " ", name, " ", length), func(t *testing.T) {
					t.Parallel()
					h, logs := receiver(t)
					h.times = test.times
					s := reading(t, h, test.server, start)
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, test.body(t))
					require.NoError(t, err)
					r.ContentLength = length
					response, err := s.Client().Do(r)
					require.NoError(t, err)
					defer response.Body.Close()
					assert.Equal(t, protocol, response.Proto)
					assert.Equal(t, http.StatusRequestTimeout, response.StatusCode)
					assert.Equal(t, protocol == "HTTP/1.1", response.Close)
					text, err := io.ReadAll(response.Body)
					require.NoError(t, err)
					assert.Contains(t, string(text), "#too-slow")
					assert.Contains(t, string(text), test.detail)
					require.Equal(t, 1, logs.FilterMessage("callback too slow").Len())
					require.Eventually(t, func() bool {
						reading, used := h.bodies.room.Load()
						return reading == 0 && used == 0
					}, time.Minute, time.Millisecond, "the room is given back")
				})
			}
		}
	}
}

// A slow body that is evicted is answered at once, although its next byte never comes.
func TestEvictedBodyIsAnswered(t *testing.T) {
	for protocol, start := range map[string]func(*httptest.Server){"HTTP/1.1": http1, "HTTP/2.0": http2} {
		t.Run(protocol, func(t *testing.T) {
			h, _ := receiver(t)
			h.times = body.Times{Whole: time.Hour, Idle: time.Hour}
			s := reading(t, h, nil, start)
			answered := make(chan error, 1)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, stall(t, "{"))
			require.NoError(t, err)
			go func() {
				response, err := s.Client().Do(r)
				if err == nil {
					err = errors.Join(response.Body.Close())
					if response.StatusCode != http.StatusRequestTimeout {
						err = fmt.Errorf("answered %s", response.Status)
					}
				}
				answered <- err
			}()
			require.Eventually(t, func() bool {
				reading, _ := h.bodies.room.Load()
				return reading == 1
			}, time.Minute, time.Millisecond)
			_, used := h.bodies.room.Load()
			fill(t, h, body.RoomLimit(h.MaxBody)-used)
			next, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("{}"))
			require.NoError(t, err)
			response, err := s.Client().Do(next)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.NoError(t, <-answered)
		})
	}
}

// Behind a handler that hides the connection, a body is bounded between two reads.
func TestBodyBehindAHiddenConnection(t *testing.T) {
	h, logs := receiver(t)
	h.times = body.Times{Whole: quickly, Idle: time.Hour}
	for range 2 {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", trickle{})
		b, err := h.readBody(httptest.NewRecorder(), r, time.Now())
		require.ErrorIs(t, err, body.ErrSlow)
		b.Free()
	}
	assert.Equal(t, 1, logs.FilterMessageSnippet("hides the connection").Len())
}

// refusing serves a handler that only refuses what it can without a body.
func refusing(t *testing.T, h *Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// as Caddy does, which hides the body from net/http
		r.Body = struct{ io.ReadCloser }{r.Body}
		since := time.Now()
		if _, refusal, ok := h.admit(r, since); !ok {
			_ = refusal.writeEarly(w, r, since)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// A caller who sends everything before reading gets the answer too.
func TestAnswerReachesCallerWhoIsSending(t *testing.T) {
	h, _ := receiver(t)
	s := refusing(t, h)
	for _, length := range []string{"Content-Length: 4000000", "Transfer-Encoding: chunked"} {
		for range 10 {
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
			_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", length)
			require.NoError(t, err)
			chunk := strings.Repeat("x", 1_000_000)
			if strings.HasPrefix(length, "Transfer") {
				chunk = fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
			}
			for range 4 {
				_, err = io.WriteString(c, chunk)
				require.NoError(t, err)
			}
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err)
			assert.Equal(t, http.StatusForbidden, response.StatusCode)
			assert.NoError(t, response.Body.Close())
			assert.NoError(t, c.Close())
		}
	}
}

// The answer to a stranger does not wait for its body.
func TestAnswerDoesNotWaitForTheBody(t *testing.T) {
	h, _ := receiver(t)
	s := refusing(t, h)
	for _, head := range []string{
		"Content-Length: 20000000", "Content-Length: 10", "Transfer-Encoding: chunked", "Content-Length: 10\r\nExpect: 100-continue",
	} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", head)
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err, head)
		assert.Equal(t, http.StatusForbidden, response.StatusCode, head)
		assert.True(t, response.Close, head)
		assert.NoError(t, response.Body.Close())
		assert.NoError(t, c.Close())
	}
}

// A body that is shorter than declared is not stored, even if it is a callback.
func TestShortBodyIsBroken(t *testing.T) {
	h, logs := receiver(t)
	s := new(notingInbox)
	defer attach(t, h, s)()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{"taskId":"a","status":1,"type":"b"}`))
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = 44444
	got := h.receive(httptest.NewRecorder(), fromAddress(r, "192.0.2.1"), time.Now())
	assert.Equal(t, "broken-off", got.kind)
	assert.Equal(t, 1, logs.FilterMessage("callback broke off").Len())
	assert.Empty(t, s.stored)
	assert.Zero(t, s.suspects)
}
