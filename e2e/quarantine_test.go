package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// A monitoring probe that sends the same body again and again fills neither the quarantine
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
	assert.Contains(t, shown, "Received\t300 times\nFirst\t")
	assert.Contains(t, g.requireCLI("quarantine", "list"), "\t300\t")
	assert.InDelta(t, 3, g.Metric(`caddy_fotor_webhook_quarantined{handler="default"}`), 0)
	assert.InDelta(t, n, g.Metric(`caddy_fotor_webhook_callbacks_total{handler="default",outcome="not_json"}`), 0)

	p.Terminate()
	require.Zero(t, p.ExitCode())
	lines := strings.Count(p.Output.String(), `"msg":"invalid callback"`)
	assert.GreaterOrEqual(t, lines, 3, "each one the first time")
	assert.LessOrEqual(t, lines, n/2, "and the rest now and then")
}

func TestReleaseFromQuarantine(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	require.Equal(t, http.StatusUnsupportedMediaType, g.Post(notice("media", 1), "Content-Type", "text/plain").Status)
	require.Equal(t, http.StatusUnprocessableEntity, g.Post(`{"taskId":"","status":7}`).Status)
	require.Equal(t, http.StatusBadRequest, g.Post("\xff\xfe").Status)

	list := ask[control.Quarantine](g, http.MethodGet, "default/quarantine", "")
	require.Len(t, list.Callbacks, 3)
	binary, invalid, media := list.Callbacks[0], list.Callbacks[1], list.Callbacks[2]
	assert.Equal(t, http.StatusUnsupportedMediaType, media.Status)
	require.Len(t, media.Problems, 1)
	assert.Contains(t, media.Problems[0].Detail, `The Content-Type is "text/plain"; expected application/json`)
	assert.Equal(t, len(notice("media", 1)), media.Size)
	assert.Equal(t, 3, invalid.ProblemCount)
	assert.Len(t, invalid.Problems, 3)
	assert.Equal(t, "127.0.0.1", invalid.SourceIP)

	path := func(c control.Quarantined) string { return fmt.Sprint("default/quarantine/", c.ID) }
	shown := ask[control.QuarantinedDetail](g, http.MethodGet, path(media), "")
	assert.Equal(t, control.BodyText, shown.BodyEncoding)
	assert.Equal(t, notice("media", 1), shown.Body)
	shown = ask[control.QuarantinedDetail](g, http.MethodGet, path(binary), "")
	assert.Equal(t, control.BodyBase64, shown.BodyEncoding)
	assert.Equal(t, "//4=", shown.Body)

	page := ask[control.Quarantine](g, http.MethodGet, "default/quarantine?limit=2", "")
	assert.Len(t, page.Callbacks, 2)
	page = ask[control.Quarantine](g, http.MethodGet, "default/quarantine?limit=2&cursor="+page.Next, "")
	assert.Len(t, page.Callbacks, 1)
	assert.Empty(t, page.Next)

	released := ask[control.Released](g, http.MethodPost, path(media)+"/release", "")
	assert.False(t, released.Duplicate)
	d := up.Await(t, 1)[0]
	assert.Equal(t, released.ID, d.Event.ID)
	assert.Contains(t, string(d.Body), `"receivedAt":"`+media.ReceivedAt.Format("2006-01-02T15:04:05.000000Z"), "when it came, not when it was released")
	assert.True(t, g.Post(notice("media", 1)).Duplicate, "it is as if it had been accepted")
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodPost, path(media)+"/release", "").Status)

	reply := g.API(http.MethodPost, path(invalid)+"/release", "")
	assert.Equal(t, http.StatusUnprocessableEntity, reply.Status)
	for _, pointer := range []string{"/status", "/taskId", "/type"} {
		assert.Contains(t, string(reply.Body), fmt.Sprintf(`"pointer":%q`, pointer))
	}
	assert.Equal(t, http.StatusOK, g.API(http.MethodGet, path(invalid), "").Status, "it stays")

	assert.Equal(t, http.StatusNoContent, g.API(http.MethodDelete, path(invalid), "").Status)
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodDelete, path(invalid), "").Status)
	assert.EqualValues(t, 1, *ask[control.Handler](g, http.MethodGet, "default", "").Quarantined)
}
