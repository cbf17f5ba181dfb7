package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// A probe that sends the same body again and again fills neither the quarantine
// nor the log.
func TestTheSameInvalidBodyAgainAndAgain(t *testing.T) {
	const n = 300
	up := newUpstream(t, nil)
	g := newGateway(t)
	p := g.Run(g.Caddyfile("forward "+up.URL+"\nquarantine 3", "", "log {\nlevel WARN\n}"))
	for _, body := range []string{`{"status":3}`, `{"status":4}`} {
		require.Equal(t, http.StatusUnprocessableEntity, g.Post(body).Status)
	}
	for range n {
		require.Equal(t, http.StatusBadRequest, g.Post(`ping`).Status)
	}
	require.Equal(t, http.StatusUnprocessableEntity, g.Post(`{"status":3}`).Status)

	var got []control.Quarantined
	for line := range strings.Lines(g.requireCLI("quarantine", "list", "--json")) {
		var q control.Quarantined
		require.NoError(t, json.Unmarshal([]byte(line), &q))
		got = append(got, q)
	}
	require.Len(t, got, 3)
	assert.Equal(t, []int64{1, 3, 2}, []int64{got[0].ID, got[1].ID, got[2].ID}, "what arrived last comes first")
	assert.Equal(t, []int64{2, n, 1}, []int64{got[0].Count, got[1].Count, got[2].Count})
	assert.True(t, got[1].LastAt.After(got[1].ReceivedAt))
	assert.Equal(t, got[2].ReceivedAt, got[2].LastAt)
	shown := g.requireCLI("quarantine", "show", "3")
	assert.Contains(t, shown, "Received  300 times\nFirst     ")
	assert.Contains(t, g.requireCLI("quarantine", "list"), "   300  ")
	assert.InDelta(t, 3, g.Metric(`caddy_fotor_webhook_quarantined{handler="default"}`), 0)
	assert.InDelta(t, n, g.Metric(`caddy_fotor_webhook_callbacks_total{handler="default",outcome="not_json"}`), 0)

	p.Terminate()
	require.Zero(t, p.ExitCode())
	lines := strings.Count(p.Output.String(), `"msg":"invalid callback"`)
	assert.GreaterOrEqual(t, lines, 3, "each one the first time")
	assert.LessOrEqual(t, lines, n/2, "and the rest now and then")
}
