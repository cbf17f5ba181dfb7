package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi/mock"
)

// confirmations returns how many callbacks came to that, by the gateway's metric.
func confirmations(g *gateway, result string) float64 {
	return g.Metric(fmt.Sprintf(`caddy_fotor_webhook_confirmations_total{handler="default",result=%q}`, result))
}

// checkForged makes sure that nothing forged was delivered, and nothing at all that Fotor
// had not confirmed.
func (f *fotor) checkForged() {
	t := f.t
	t.Helper()
	assert.Positive(t, f.Counts().Forged)
	for _, d := range f.up.Deliveries() {
		body := string(d.Body)
		assert.NotContains(t, body, mock.ForgedHost)
		assert.NotContains(t, body, `"confirmed":false`)
		if d.Event.Status != "in_progress" && d.Event.Origin == "callback" {
			assert.Contains(t, body, `"confirmed":true`)
		}
	}
}

// Somebody forges callbacks, about tasks that there are and about others, from an address
// that is let in. None is delivered, and each task has its outcome once, whatever happens to
// the gateway meanwhile.
func TestNobodyButFotorIsTrusted(t *testing.T) {
	config := mock.Config{Lose: 0.1, Duplicate: 0.05, Forge: 0.1, Fail: 0.1, S3: true, Delay: time.Second, Seed: 16}
	playAsking(t, config, "confirm final\npatience 10s\non_failure hold", func(f *fotor, g *gateway) {
		f.checkForged()
		assert.Positive(t, confirmations(g, "confirmed"))
		assert.Positive(t, confirmations(g, "contradicted")+confirmations(g, "rejected"))
		assert.Zero(t, confirmations(g, "unconfirmed"))
	})
}

// While Fotor cannot be asked, callbacks wait as long as the config says, and are never
// delivered as confirmed.
func TestCallbacksOfWhichFotorCannotBeAsked(t *testing.T) {
	g := newGateway(t)
	f := newFotor(t, g, mock.Config{Delay: -1, Seed: 17})
	f.more = "confirm final\npatience 10s\non_failure hold"
	e := f.edge(g, "")
	f.SetFault(mock.Fault{Kind: mock.Down})
	f.submit(g, 5)
	require.NoError(t, f.drained())
	waiting := `caddy_fotor_webhook_destination_events{destination="fotor_confirm",handler="default",state="pending"}`
	await(t, func() bool { return g.Metric(waiting) == 5 }, "the callbacks to wait")
	require.Empty(t, f.finals())

	// an event in progress may be pending too, as the upstream fails at times
	id := g.list(url.Values{"state": {"pending"}, "destination": {"fotor_confirm"}})[0].ID
	look := newRequest(t, fmt.Sprintf("http://127.0.0.1:%d/dashboard/event?handler=default&id=%s", g.Port, id), http.NoBody)
	look.Method = http.MethodGet
	page := do(t, look)
	require.Equal(t, http.StatusOK, page.Status)
	assert.Contains(t, page.Body, "Ask Fotor again")
	assert.NotContains(t, page.Body, "Replay to")
	assert.NotContains(t, page.Body, "What goes out")

	f.more = "confirm final\npatience 10s"
	e.config = f.config(g, "")
	require.Equal(t, http.StatusOK, e.reload())
	await(t, func() bool { return len(f.finals()) == 5 }, "them to be delivered")
	assert.InDelta(t, 5, confirmations(g, "unconfirmed"), 0)
	for _, d := range f.up.Deliveries() {
		assert.NotContains(t, string(d.Body), `"confirmed":true`)
	}
	f.SetFault(mock.Fault{})
	f.submit(g, 1)
	f.settled(g)
	f.check(time.Time{})
	assert.InDelta(t, 1, confirmations(g, "confirmed"), 0)
}
