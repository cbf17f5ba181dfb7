package forward

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
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
		test.options.Secrets, err = ParseSecrets([]string{test.secret})
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
