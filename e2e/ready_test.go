package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readySite is what a site needs to be asked whether it is ready.
const readySite = "fotor_webhook_ready /ready\n"

// Ready asks whether the gateway is ready, and returns the answer with the reasons of its
// handlers. The status is 0 if there is no answer.
func (g *gateway) Ready() (status int, reasons string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ready", g.Port), nil)
	if err != nil {
		return 0, err.Error()
	}
	answer, err := try(r)
	if err != nil {
		return 0, err.Error()
	}
	var problem struct {
		Handlers []struct{ Name, Reason string }
	}
	if err := json.Unmarshal([]byte(answer.Body), &problem); err != nil {
		return 0, err.Error()
	}
	for _, h := range problem.Handlers {
		reasons += h.Name + " " + h.Reason + "\n"
	}
	return answer.Status, reasons
}

// becomesReady waits until the gateway is ready.
func (g *gateway) becomesReady() {
	g.t.Helper()
	await(g.t, func() bool {
		status, _ := g.Ready()
		return status == http.StatusOK
	}, "the gateway to be ready")
}

// becomesUnready waits until the gateway is not ready, and why.
func (g *gateway) becomesUnready(why string) {
	g.t.Helper()
	await(g.t, func() bool {
		status, reasons := g.Ready()
		return status == http.StatusServiceUnavailable && reasons == why+"\n"
	}, "the gateway not to be ready: %s", why)
}

// It comes before a gateway that takes every path, and answers for nothing else.
func TestReadyBesideAGatewayForEveryPath(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(g.Globals(quiet)+g.Site(readySite+
		"fotor_webhook {\nallow 127.0.0.1\ninbox sqlite "+g.DB+"\nforward "+up.URL+"\n}")))
	status, reasons := g.Ready()
	assert.Equal(t, http.StatusOK, status, reasons)
	up.requireDelivered(t, []string{g.Accept(notice("task", 1))})

	const refused = `caddy_fotor_webhook_callbacks_total{handler="default",outcome="method"}`
	before := g.Metric(refused)
	answer := do(t, newRequest(t, fmt.Sprintf("http://127.0.0.1:%d/ready", g.Port), strings.NewReader("{}")))
	assert.Equal(t, http.StatusMethodNotAllowed, answer.Status)
	assert.Equal(t, "GET, HEAD", answer.Header.Get("Allow"))
	assert.InDelta(t, before, g.Metric(refused), 0, "it is no callback")
}

// A name that no handler has is refused at load, and the running config stays.
func TestReadyOfAHandlerThatIsNotThere(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, readySite, quiet)
	require.ErrorContains(t, g.Load(g.Caddyfile("forward "+up.URL, "fotor_webhook_ready /ready default other\n", quiet)),
		`the config has no fotor_webhook handler with the name "other": expected of default`)
	require.ErrorContains(t, g.Load(g.Globals(quiet)+g.Site(readySite)), "the config has no fotor_webhook handler: expected at least one")
	g.becomesReady() // the first connections may reach the socket that the refused config had opened
}

// A full inbox is not ready, and is so again once callbacks are taken again.
func TestReadyOfAFullInbox(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+quick+g.Sized("1MiB"), readySite, silent)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(config))
	g.becomesReady()
	ids := g.fill("task-")
	g.becomesUnready("default full")
	up.Answer(nil)
	g.becomesReady()
	ids = append(ids, g.Accept(avatar("after")))
	up.requireDelivered(t, ids)
}

// Reloads do not make it flap: neither of the same config, nor to another inbox, nor one
// that is refused.
func TestReadyDuringReloads(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+quick, readySite, quiet)))
	done := make(chan struct{})
	var asked, unready atomic.Int64
	var last atomic.Value
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				asked.Add(1)
				switch status, reasons := g.Ready(); status {
				case http.StatusOK, 0: // Caddy itself closes connections for a moment
				default:
					unready.Add(1)
					last.Store(reasons)
				}
			}
		})
	}
	taken := listen(t, "127.0.0.1:0")
	defer taken.Close()
	home := g.DB
	for i := range 30 {
		g.DB = fmt.Sprint(home, i%3)
		config := g.Caddyfile("forward "+up.URL+quick, readySite, quiet)
		require.NoError(t, g.Load(config))
		require.Error(t, g.Load(config+fmt.Sprintf("http://%s {\nrespond 200\n}\n", taken.Addr())))
	}
	await(t, func() bool { return asked.Load() > 100 }, "questions")
	close(done)
	all.Wait()
	assert.Zero(t, unready.Load(), "of %d: %v", asked.Load(), last.Load())
}

// While Caddy stops, and waits for the load balancer to notice, callbacks are still taken.
func TestReadyWhileCaddyStops(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	p := g.Run(g.Caddyfile("forward "+up.URL+quick, readySite, quiet+"\nshutdown_delay 3s"))
	g.becomesReady()
	p.Terminate()
	await(t, func() bool {
		status, reasons := g.Ready()
		return status == http.StatusServiceUnavailable && strings.Contains(reasons, "stopping")
	}, "Caddy to say that it stops")
	g.Accept(notice("during the delay", 1))
	assert.Zero(t, p.ExitCode())
}

// NATS servers that are away, from the start or later, and back again.
func TestReadyAndNATS(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, nil)
	require.NoError(t, nats.Kill(0))
	g := newGateway(t)
	p := g.Run(g.Caddyfile("forward "+up.URL+quick+nats.Inbox("start_without_server"), readySite, quiet))
	g.becomesUnready("default failing")
	nats.Heal(0)
	g.becomesReady()
	g.Accept(notice("task", 1))

	require.NoError(t, nats.Kill(0))
	g.becomesUnready("default failing")
	nats.Heal(0)
	g.becomesReady()
	nats.Cut(0) // nothing arrives any more
	await(t, func() bool {
		status, _ := g.Ready()
		return status == http.StatusServiceUnavailable
	}, "the silence to be noticed")
	nats.Mend(0)
	g.becomesReady()
	p.Terminate()
	assert.Zero(t, p.ExitCode())
}
