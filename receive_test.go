package fotorwebhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	zaplog "go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
)

// receiver returns a handler whose inbox is not open: tests see what it refuses
// before it needs one.
func receiver(t *testing.T) (*Handler, *zaplog.ObservedLogs) {
	t.Helper()
	core, logs := zaplog.New(zap.DebugLevel)
	h := &Handler{logger: zap.New(core), MaxBody: defaultMaxBody, proxies: new(proxyCheck)}
	h.refusals = sampled(h.logger)
	h.times = body.DefaultTimes
	h.metrics = metrics.Of(t.Name())
	ranges, err := parseRanges([]string{"192.0.2.1"})
	require.NoError(t, err)
	h.whitelist = whitelist{{ranges: ranges}}
	h.gateway = gateway.NewRef(t.Name())
	t.Cleanup(h.gateway.Close)
	h.bodies = newBodies(t.Name())
	return h, logs
}

func fromAddress(r *http.Request, clientIP string) *http.Request {
	vars := map[string]any{caddyhttp.ClientIPVarKey: clientIP}
	return r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
}

func TestEarlyDataIsAnsweredTooEarly(t *testing.T) {
	h, _ := receiver(t)
	r := fromAddress(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}")), "192.0.2.1")
	r.TLS = &tls.ConnectionState{HandshakeComplete: false}
	assert.Equal(t, http.StatusTooEarly, h.receive(httptest.NewRecorder(), r, time.Now()).status)

	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	r.Method = http.MethodPut
	assert.Equal(t, http.StatusMethodNotAllowed, h.receive(httptest.NewRecorder(), r, time.Now()).status)
}

// unreadable is a body that must not be read.
type unreadable struct{ t *testing.T }

func (b unreadable) Read([]byte) (int, error) {
	assert.Fail(b.t, "the body was read")
	return 0, http.ErrBodyReadAfterClose
}

func (unreadable) Close() error { return nil }

func TestStrangersBodyIsNotRead(t *testing.T) {
	h, logs := receiver(t)
	for range 5000 {
		r := fromAddress(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", unreadable{t}), "198.51.100.9")
		r.RemoteAddr = "203.0.113.5:4711"
		require.Equal(t, http.StatusForbidden, h.receive(httptest.NewRecorder(), r, time.Now()).status)
	}
	require.NotZero(t, logs.Len())
	assert.Less(t, logs.Len(), 200, "a flood does not fill the log")
	line := logs.All()[0].ContextMap()
	assert.Equal(t, "198.51.100.9", line["client_ip"])
	assert.Equal(t, "203.0.113.5:4711", line["peer"])
	assert.Equal(t, errNotWhitelisted.Error(), line["error"])
}

func TestClosedHandlerAnswersUnavailable(t *testing.T) {
	h, _ := receiver(t)
	h.gateway.Close()
	r := fromAddress(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}")), "192.0.2.1")
	got := h.receive(httptest.NewRecorder(), r, time.Now())
	assert.Equal(t, http.StatusServiceUnavailable, got.status)
	assert.Equal(t, "Retry-After", got.header)
}

func TestBodiesInMemoryAreBounded(t *testing.T) {
	h, _ := receiver(t)
	fill(t, h, body.RoomLimit(h.MaxBody))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the caller hangs up
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", unreadable{t})
	b, err := h.readBody(httptest.NewRecorder(), r, time.Now())
	defer b.Free()
	require.ErrorIs(t, err, body.ErrNoRoom)
	got := h.bodyFailed(netip.Addr{}, time.Now(), b, err)
	assert.Equal(t, gateway.Unavailable, got.outcome)
}

func TestWarnsOnceOfLenientTrustedProxies(t *testing.T) {
	for _, lenient := range []bool{true, false} {
		h, logs := receiver(t)
		h.proxies.lenient = lenient
		for _, trusted := range []bool{false, true, true} {
			r := fromAddress(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), "192.0.2.1")
			caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, trusted)
			require.Equal(t, http.StatusMethodNotAllowed, h.receive(httptest.NewRecorder(), r, time.Now()).status)
		}
		warnings := logs.FilterMessageSnippet("trusted_proxies_strict").Len()
		assert.Equal(t, lenient, warnings == 1, "%d warnings", warnings)
	}
}

func TestErrorAnswerIsProblemDetails(t *testing.T) {
	got := answerInvalid(&callback.InvalidError{Problems: []callback.Problem{
		{Pointer: "/a~1\"b", Detail: "is\n<wrong>"},
		{Pointer: "/c", Detail: "bad \xff bytes"},
	}})
	w := httptest.NewRecorder()
	require.NoError(t, got.write(w))
	assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	assert.Equal(t, http.StatusUnprocessableEntity, w.Code)
	var problem struct {
		Type, Title, Detail string
		Status              int
		Errors              []callback.Problem
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
	assert.Equal(t, problemTypes+"not-a-callback", problem.Type)
	assert.Equal(t, 422, problem.Status)
	assert.NotEmpty(t, problem.Title)
	assert.NotEmpty(t, problem.Detail)
	assert.Equal(t, "/a~1\"b", problem.Errors[0].Pointer)
	assert.Equal(t, "is\n<wrong>", problem.Errors[0].Detail)
	assert.Len(t, problem.Errors, 2)
}
