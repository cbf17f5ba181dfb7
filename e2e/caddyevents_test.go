package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func init() {
	caddy.RegisterModule(new(eventRecorder))
}

// eventRecorder is a handler of Caddy events that records them.
type eventRecorder struct{}

var recorded struct {
	mu     sync.Mutex
	events []caddyEvent
	block  chan struct{} // unless nil, handlers wait until it is closed
	panics int           // how many times the handler has yet to panic
}

type caddyEvent struct {
	Name, Origin, Placeholder string
	Data                      map[string]any
}

// CaddyModule implements caddy.Module.
func (*eventRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "events.handlers.fotor_e2e_record",
		New: func() caddy.Module { return new(eventRecorder) },
	}
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler.
func (*eventRecorder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

// Handle implements caddyevents.Handler.
func (*eventRecorder) Handle(ctx context.Context, e caddy.Event) error {
	recorded.mu.Lock()
	block := recorded.block
	recorded.mu.Unlock()
	if block != nil {
		<-block
	}
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if recorded.panics > 0 {
		recorded.panics--
		panic("a fault in somebody else's event handler")
	}
	recorded.events = append(recorded.events, caddyEvent{
		Name:        e.Name(),
		Origin:      string(e.Origin().CaddyModule().ID),
		Placeholder: repl.ReplaceAll("{event.data.handler}/{event.data.task_id}", ""),
		Data:        e.Data,
	})
	return nil
}

// record discards what was recorded.
func record(t *testing.T) {
	t.Helper()
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	recorded.events, recorded.block, recorded.panics = nil, nil, 0
}

// recordBlocked discards what was recorded, and makes handlers wait until the channel is
// closed.
func recordBlocked(t *testing.T) chan struct{} {
	t.Helper()
	record(t)
	block := make(chan struct{})
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	recorded.block = block
	return block
}

func recordedEvents() []caddyEvent {
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	return append([]caddyEvent(nil), recorded.events...)
}

// named waits for n Caddy events of that name and returns them.
func named(t *testing.T, name string, n int) []caddyEvent {
	t.Helper()
	var found []caddyEvent
	await(t, func() bool {
		found = nil
		for _, e := range recordedEvents() {
			if e.Name == "fotor_webhook."+name {
				found = append(found, e)
			}
		}
		return len(found) >= n
	}, "%d events %s", n, name)
	return found
}

const subscribed = "events {\non fotor_webhook.accepted fotor_e2e_record\non fotor_webhook.delivered fotor_e2e_record\n" +
	"on fotor_webhook.dead fotor_e2e_record\non fotor_webhook.held fotor_e2e_record\n" +
	"on fotor_webhook.lost fotor_e2e_record\non fotor_webhook.resumed fotor_e2e_record\non fotor_webhook.quarantined fotor_e2e_record\n}\n"

func TestCaddyEvents(t *testing.T) {
	record(t)
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", subscribed+quiet)
	id := g.Accept(notice("task", 1))
	accepted := named(t, "accepted", 1)[0]
	assert.Equal(t, "http.handlers.fotor_webhook", accepted.Origin)
	assert.Equal(t, "default/task", accepted.Placeholder)
	assert.Equal(t, id, accepted.Data["id"])
	assert.Equal(t, "127.0.0.1", accepted.Data["source_ip"])
	delivered := named(t, "delivered", 1)[0]
	assert.Equal(t, 1, delivered.Data["attempt"])
	assert.Equal(t, http.StatusNoContent, delivered.Data["upstream_status"])

	g.Post("{}")
	quarantined := named(t, "quarantined", 1)[0]
	assert.Positive(t, quarantined.Data["quarantine_id"])

	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\nconcurrency 2", "", subscribed+quiet)))
	up.Answer(status(http.StatusGone))
	g.Accept(notice("gone", 1))
	dead := named(t, "dead", 1)[0]
	assert.Equal(t, "HTTP 410", dead.Data["reason"])

	ask[control.Holds](g, http.MethodPost, "default/hold", `{"reason":"work"}`)
	held := named(t, "held", 1)[0]
	assert.Equal(t, "operator", held.Data["by"])
	assert.Equal(t, "work", held.Data["reason"])
	ask[control.Holds](g, http.MethodPost, "default/resume", "")
	named(t, "resumed", 1)

	counts := make(map[string]int)
	for _, e := range recordedEvents() {
		counts[e.Name]++
	}
	assert.Equal(t, map[string]int{
		"fotor_webhook.accepted": 2, "fotor_webhook.delivered": 1, "fotor_webhook.dead": 1,
		"fotor_webhook.quarantined": 1, "fotor_webhook.held": 1, "fotor_webhook.resumed": 1,
	}, counts, "each once, over the reload too")
}

// Caddy events of what happened before a stop are sent before it ends.
func TestCaddyEventsOfTheEndAreTold(t *testing.T) {
	block := recordBlocked(t)
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", subscribed+quiet)
	g.acceptMany(200, func(i int) string { return notice(fmt.Sprint("task-", i), 1) })
	g.delivered(200)
	time.AfterFunc(100*time.Millisecond, func() { close(block) }) // while Caddy stops
	g.Stop()
	counts := make(map[string]int)
	for _, e := range recordedEvents() {
		counts[e.Name]++
	}
	assert.Equal(t, map[string]int{"fotor_webhook.accepted": 200, "fotor_webhook.delivered": 200}, counts)
}

// A config that fails to load after its apps have started does not take Caddy events away
// from the one that stays.
func TestCaddyEventsGoOnAfterAFailedLoad(t *testing.T) {
	record(t)
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", subscribed+quiet)
	taken := listen(t, "127.0.0.1:0")
	defer taken.Close()
	other := fmt.Sprintf("\nhttp://127.0.0.1:%d {\nrespond 200\n}\n", taken.Addr().(*net.TCPAddr).Port)
	for range 10 { // apps start in no fixed order
		require.Error(t, g.Load(g.Caddyfile("forward "+up.URL, "", subscribed+quiet)+other))
	}
	g.Accept(notice("task", 1))
	named(t, "accepted", 1)
	named(t, "delivered", 1)
}

// If an event handler panics, only that event is lost.
func TestPanicInEventHandlerIsContained(t *testing.T) {
	record(t)
	up := newUpstream(t, nil)
	g := newGateway(t)
	options, path := logger(t, "json")
	g.Start("forward "+up.URL, "", subscribed+options)
	recorded.mu.Lock()
	recorded.panics = 1
	recorded.mu.Unlock()
	g.Accept(notice("lost", 1))
	named(t, "delivered", 1)
	g.Accept(notice("told", 1))
	named(t, "accepted", 1)
	await(t, func() bool { return len(having(logged(t, path), "msg", "panic in a handler of Caddy events")) == 1 }, "the fault to be logged")
}

// An event handler that hangs delays neither callbacks nor deliveries.
func TestSlowEventHandlerHoldsNothingUp(t *testing.T) {
	block := recordBlocked(t)
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", subscribed+quiet)
	before := g.Metric(`caddy_fotor_webhook_notices_dropped_total{handler="default"}`)
	n := control.FeedLength
	g.acceptMany(n, func(i int) string { return notice(string(rune(0x4e00+i)), 1) })
	g.delivered(n)
	close(block)
	await(t, func() bool {
		return g.Metric(`caddy_fotor_webhook_notices_dropped_total{handler="default"}`) > before
	}, "what was missed to be counted")
}
