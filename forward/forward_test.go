package forward

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/signature"
)

// Each forwarder has a target and secrets of its own.
func TestForwardersDoNotMix(t *testing.T) {
	lease := testLease()
	got := make(chan http.Header, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header
		w.WriteHeader(http.StatusNoContent)
	}))
	defer upstream.Close()
	var routes caddyhttp.RouteList
	require.NoError(t, json.Unmarshal([]byte(
		`[{"handle":[{"handler":"reverse_proxy","upstreams":[{"dial":"`+upstream.Listener.Addr().String()+`"}]}]}]`), &routes))
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	require.NoError(t, err)

	tests := []struct {
		options Options
		secret  string
		target  string
	}{
		{Options{URL: upstream.URL + "/events?token=x"}, oldSecret, upstream.URL},
		{Options{Routes: routes}, newSecret, "routes"},
	}
	forwarders := make([]*Forwarder, len(tests))
	for i, test := range tests {
		test.options.Secrets, err = signature.Parse([]string{test.secret})
		require.NoError(t, err)
		forwarders[i], err = New(ctx, test.options)
		require.NoError(t, err)
		defer forwarders[i].Close()
	}
	for i, test := range tests {
		assert.Equal(t, test.target, forwarders[i].Target())
		assert.Equal(t, dispatch.Result{Status: http.StatusNoContent}, forwarders[i].Attempt(t.Context(), lease))
		wh, err := standardwebhooks.NewWebhook(test.secret)
		require.NoError(t, err)
		assert.NoError(t, wh.Verify(lease.Event.Body, <-got))
	}
}

// A copy is what a first attempt would bring, and says that it is a copy. It has no secret
// of the destination.
func TestCopyIsAFirstAttempt(t *testing.T) {
	got := make(chan http.Header, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer upstream.Close()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	require.NoError(t, err)
	o := Options{URL: strings.Replace(upstream.URL, "//", "//user:password@", 1), Handler: "shop"}
	o.Secrets, err = signature.Parse([]string{oldSecret, newSecret})
	require.NoError(t, err)
	f, err := New(ctx, o)
	require.NoError(t, err)
	defer f.Close()
	lease := testLease()
	lease.Attempt = 1
	lease.Event.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f.Attempt(t.Context(), lease)

	attempt, copied := <-got, make(http.Header)
	for name, value := range f.Copy(lease.Event) {
		copied.Set(name, value)
	}
	for _, secret := range []string{oldSecret, newSecret} {
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, wh.Verify(lease.Event.Body, copied))
	}
	assert.Equal(t, "listen", copied.Get("Fotor-Webhook-Copy"))
	copied.Del("Fotor-Webhook-Copy")
	for _, name := range []string{"Authorization", "Content-Length"} { // of the destination, and of the connection
		assert.Contains(t, attempt, name)
		attempt.Del(name)
	}
	for _, name := range []string{"Webhook-Timestamp", "Webhook-Signature"} { // another second may have begun
		assert.NotEmpty(t, attempt.Get(name))
		attempt.Set(name, copied.Get(name))
	}
	assert.Equal(t, attempt, copied)
}
