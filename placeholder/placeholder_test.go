package placeholder

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var event = &inbox.Event{ID: "d4a9b85d", TaskID: "6cf0082e", Type: "avatar", Status: inbox.Failed, Body: []byte(`{}`)}

// request returns a request as Caddy's server prepares it, and its replacer.
func request(tb testing.TB) (*http.Request, *caddy.Replacer) {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/", http.NoBody)
	repl := caddy.NewReplacer()
	return caddyhttp.PrepareRequest(r, repl, httptest.NewRecorder(), new(caddyhttp.Server)), repl
}

// asked returns the values of all placeholders, without those that are unknown.
func asked(repl *caddy.Replacer) map[string]any {
	values := make(map[string]any)
	for _, name := range []string{"id", "task_id", "type", "status", "duplicate", "outcome", "destination", "attempt", "", "nonsense"} {
		if value, known := repl.Get(prefix + name); known {
			values[name] = value
		}
	}
	return values
}

func TestBeforeTheHandlerNothingIsKnown(t *testing.T) {
	_, repl := request(t)
	assert.Empty(t, asked(repl))
}

func TestPlaceholdersOfACallback(t *testing.T) {
	for _, outcome := range gateway.Outcomes {
		r, repl := request(t)
		want := map[string]any{"id": "", "task_id": "", "type": "", "status": "", "duplicate": outcome == gateway.Duplicate, "outcome": string(outcome)}
		OfCallback(r, outcome, nil)
		assert.Equal(t, want, asked(repl))

		r, repl = request(t)
		OfCallback(r, outcome, event)
		want["id"], want["task_id"], want["type"], want["status"] = "d4a9b85d", "6cf0082e", "avatar", "failed"
		assert.Equal(t, want, asked(repl))
	}
}

func TestPlaceholdersOfAnAttempt(t *testing.T) {
	_, repl := request(t)
	OfAttempt(repl, "staging", &inbox.Lease{Event: event, Attempt: 7})
	assert.Equal(t, map[string]any{
		"id": "d4a9b85d", "task_id": "6cf0082e", "type": "avatar", "status": "failed",
		"duplicate": false, "outcome": "accepted", "destination": "staging", "attempt": 7,
	}, asked(repl))
	assert.Equal(t, "staging/7 of avatar, duplicate: false",
		repl.ReplaceAll("{http.fotor_webhook.destination}/{http.fotor_webhook.attempt} of {http.fotor_webhook.type},"+
			" duplicate: {http.fotor_webhook.duplicate}", "?"))
}

func TestARequestWithoutReplacerIsLeftAlone(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	assert.NotPanics(t, func() { OfCallback(r, gateway.Accepted, event) })
}

// What a body says is bounded, of one line, and no placeholder itself.
func TestTextsFromBodiesAreTame(t *testing.T) {
	t.Setenv("FOTOR_TEST_SECRET", "secret")
	hostile := "{env.FOTOR_TEST_SECRET}\r\nX: \x1b[2J\u2028" + strings.Repeat("x", 100_000)
	r, repl := request(t)
	OfCallback(r, gateway.Accepted, &inbox.Event{ID: "i", TaskID: hostile, Type: hostile})
	for _, name := range []string{"task_id", "type"} {
		value := repl.ReplaceAll("{"+prefix+name+"}", "")
		require.LessOrEqual(t, len(value), 1024)
		assert.True(t, strings.HasPrefix(value, "%7Benv.FOTOR_TEST_SECRET%7D%0D%0AX:%20%1B[2J%E2%80%A8xxx"), value)
		assert.NotContains(t, repl.ReplaceAll(value, ""), "secret")
	}
}

// A request whose placeholders nobody asks for pays one small allocation.
func TestUnusedPlaceholdersCostOneAllocation(t *testing.T) {
	lease := &inbox.Lease{Event: event, Attempt: 1}
	without := testing.AllocsPerRun(100, func() { request(t) })
	assert.InDelta(t, without+1, testing.AllocsPerRun(100, func() {
		r, _ := request(t)
		OfCallback(r, gateway.Accepted, event)
	}), 0)
	assert.InDelta(t, without+1, testing.AllocsPerRun(100, func() {
		_, repl := request(t)
		OfAttempt(repl, "default", lease)
	}), 0)
}

// BenchmarkRequest compares a request as Caddy prepares it with one that has the
// placeholders too, and one that asks for them.
func BenchmarkRequest(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			request(b)
		}
	})
	b.Run("unused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, _ := request(b)
			OfCallback(r, gateway.Accepted, event)
		}
	})
	b.Run("used", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, repl := request(b)
			OfCallback(r, gateway.Accepted, event)
			repl.ReplaceAll("{http.fotor_webhook.id} {http.fotor_webhook.outcome}", "")
		}
	})
}
