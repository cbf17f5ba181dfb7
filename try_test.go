package fotorwebhook

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
)

// A callback that the dashboard tries is judged as one that the client has sent.
func TestTriedCallbacksAreJudged(t *testing.T) {
	h, _ := receiver(t)
	h.server = &caddyhttp.Server{ClientIPHeaders: []string{"X-Forwarded-For"}}
	h.gateway.Close()
	for name, c := range map[string]struct {
		client netip.Addr
		size   int
		status int
		title  string
	}{
		"a stranger":          {netip.MustParseAddr("198.51.100.9"), 2, http.StatusForbidden, "Not whitelisted"},
		"nobody knows who":    {netip.Addr{}, 2, http.StatusForbidden, "Not whitelisted"},
		"too large":           {netip.MustParseAddr("192.0.2.1"), defaultMaxBody + 1, http.StatusRequestEntityTooLarge, "Body too large"},
		"large, of strangers": {netip.MustParseAddr("198.51.100.9"), defaultMaxBody + 1, http.StatusForbidden, "Not whitelisted"},
		"as IPv6":             {netip.MustParseAddr("::ffff:192.0.2.1"), 2, http.StatusServiceUnavailable, "Not stored"},
		"not to be stored":    {netip.MustParseAddr("192.0.2.1"), 2, http.StatusServiceUnavailable, "Not stored"},
	} {
		got := facts{h}.Try(t.Context(), c.client, bytes.Repeat([]byte(" "), c.size))
		require.Equal(t, c.status, got.Status, name)
		require.Equal(t, mediaProblem, got.Media, name)
		var problem struct{ Title string }
		require.NoError(t, json.Unmarshal(got.Body, &problem))
		require.Equal(t, c.title, problem.Title, name)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, http.StatusServiceUnavailable, facts{h}.Try(ctx, netip.MustParseAddr("192.0.2.1"), []byte("{}")).Status)
}
