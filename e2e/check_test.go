package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// check runs "status --check" over the last ten seconds.
func (g *gateway) check(args ...string) cliResult {
	return g.CLI(append([]string{"status", "--check", "--recent", "10s"}, args...)...)
}

// The check reports that the inbox is full and callbacks were refused, also after a reload,
// and succeeds again by itself once that is over.
func TestCheckOfAFullInbox(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	load := func(size string) {
		require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+quick+g.Sized(size), "", silent)))
	}
	t.Cleanup(g.Stop)
	load("1MiB")
	well := g.check()
	require.Zero(t, well.Code, "%s%s", well.Out, well.ErrOut)
	// The inbox's log may exceed the limit a little. When it is emptied there is room again.
	isFull := regexp.MustCompile(`needs attention: default: the inbox is (9\d|10\d)\.\d% full: \S+ \S+ of 1.0 MiB`)
	full, refused := cliResult{}, 0
	for deadline := time.Now().Add(patience); !isFull.MatchString(full.Out); {
		require.True(t, time.Now().Before(deadline), "the inbox is never full when it is looked at: %s", full.Out)
		g.fill(fmt.Sprintf("task-%d-", refused))
		refused++
		full = g.check("--max-hold", "1h")
	}
	assert.Equal(t, 5, full.Code)
	assert.Regexp(t, fmt.Sprintf(`needs attention: default: %d callbacks? could not be stored and got 503 since .*: inbox is full: \S+ has reached its limit of 1048576 bytes`, refused), full.Out)

	load("8MiB")
	reloaded := g.check("--max-hold", "1h", "--json")
	assert.Equal(t, 5, reloaded.Code)
	assert.Contains(t, reloaded.ErrOut, fmt.Sprintf("default: %d callback", refused), "a reload makes nothing forgotten")
	assert.NotContains(t, reloaded.ErrOut, "the inbox is")
	var answer control.Handlers
	require.NoError(t, json.Unmarshal([]byte(reloaded.Out), &answer))
	assert.EqualValues(t, refused, answer.Handlers[0].Recent.Unavailable)

	up.Answer(nil)
	await(t, func() bool { return g.check().Code == 0 }, "the check to be well again")
}

func TestCheckOfInvalidCallbacks(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nmax_body 1KiB", "", silent)
	require.Equal(t, http.StatusUnprocessableEntity, g.Post(`{"status":3}`).Status)
	require.Equal(t, http.StatusRequestEntityTooLarge, g.Post(`"`+string(make([]byte, 2000))+`"`).Status)
	s := g.check()
	assert.Equal(t, 5, s.Code)
	assert.Contains(t, s.Out, "needs attention: default: 1 callback not valid since")
	assert.Contains(t, s.Out, "needs attention: default: 1 callback larger than 1.0 KiB and kept nowhere since")
	borne := g.check("--max-invalid", "1", "--max-too-large", "1")
	assert.Zero(t, borne.Code, borne.Out)
	assert.Equal(t, 5, g.check("--max-invalid", "1", "--max-too-large", "1", "--max-quarantined", "0").Code)
	unknown := g.CLI("status", "nobody", "--check")
	assert.Equal(t, 4, unknown.Code)
	await(t, func() bool { return g.check().Code == 0 }, "the check to be well again, though the callback is kept")
}

// The numbers of an inbox that does not answer are unknown, and shown as 0 nowhere.
func TestCountsThatAreNotKnown(t *testing.T) {
	nats := newCluster(t, 1)
	up := newUpstream(t, nil)
	e := nats.Edge("forward "+up.URL+quick, "")
	ids := []string{e.Accept(notice("before", 1))}
	e.emptied()
	require.NoError(t, nats.Kill(0))
	e.refusesQuickly("away")
	var s cliResult
	await(t, func() bool { s = e.check("--json"); return s.Code == 5 && s.ErrOut != "" }, "the check to see it")
	assert.Contains(t, s.ErrOut, "default: the inbox is down: ")
	assert.Contains(t, s.ErrOut, "default: 1 callback could not be stored and got 503")
	var answer struct {
		Handlers []map[string]json.RawMessage `json:"handlers"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.Out), &answer))
	for _, member := range []string{"events", "quarantined", "inboxBytes", "inboxLimit"} {
		assert.Equal(t, "null", string(answer.Handlers[0][member]), member)
	}
	assert.NotContains(t, answer.Handlers[0], "oldestPending")
	assert.Regexp(t, `(?m)^Pending\t–$`, e.CLI("status").Out)
	assert.Zero(t, e.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`))
	for _, gauge := range []string{
		`events{handler="default",state="pending"}`, `events{handler="default",state="dead"}`, `quarantined{handler="default"}`,
		`oldest_pending_age_seconds{destination="default",handler="default"}`, `inbox_bytes{handler="default"}`, `inbox_limit_bytes{handler="default"}`,
	} {
		assert.InDelta(t, -1, e.Metric("caddy_fotor_webhook_"+gauge), 0, "%s is there", gauge)
	}
	nats.Heal(0)
	up.requireDelivered(t, append(ids, e.resume("after")))
	e.emptied()
	await(t, func() bool { return e.check().Code == 0 }, "the check to be well again")
	e.Leave()
}
