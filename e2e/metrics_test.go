package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const metricPrefix = "caddy_fotor_webhook_"

// held returns 1 while deliveries to the default destination are held, by hand or because
// it is in trouble, else 0; -1 if there is no such metric.
func (g *gateway) held() float64 {
	g.t.Helper()
	by := func(who string) float64 {
		return g.Metric(metricPrefix + `held{by="` + who + `",destination="default",handler="default"}`)
	}
	operator, upstream := by(control.ByOperator), by(control.ByUpstream)
	if operator < 0 || upstream < 0 {
		return -1
	}
	return max(operator, upstream)
}

// attemptLimit is how many attempts are made at once, at most.
const attemptLimit = metricPrefix + `attempt_limit{destination="default",handler="default"}`

// Series returns the gateway's metrics, by name and labels.
func (g *gateway) Series() map[string]float64 {
	g.t.Helper()
	series := make(map[string]float64)
	for line := range strings.Lines(g.get("/metrics")) {
		if !strings.HasPrefix(line, metricPrefix) {
			continue
		}
		name, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "} ")
		require.True(g.t, ok, line)
		var value float64
		_, err := fmt.Sscan(text, &value)
		require.NoError(g.t, err, line)
		series[name+"}"] = value
	}
	return series
}

func TestMetricsGoOnAfterReload(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	g.Accept(notice("task", 1))
	g.Post("not JSON")
	g.delivered(1)
	before := g.Series()
	assert.Positive(t, before[`caddy_fotor_webhook_callbacks_total{handler="default",outcome="accepted"}`])
	assert.Positive(t, before[`caddy_fotor_webhook_callbacks_total{handler="default",outcome="not_json"}`])
	assert.Positive(t, before[`caddy_fotor_webhook_deliveries_total{destination="default",handler="default",outcome="delivered"}`])
	assert.Positive(t, before[`caddy_fotor_webhook_answer_duration_seconds_count{handler="default"}`])
	assert.Positive(t, before[`caddy_fotor_webhook_attempt_duration_seconds_count{destination="default",handler="default"}`])
	assert.Positive(t, before[`caddy_fotor_webhook_delivery_age_seconds_count{destination="default",handler="default"}`])
	assert.InDelta(t, 10<<30, before[`caddy_fotor_webhook_inbox_limit_bytes{handler="default"}`], 0)

	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\nconcurrency 3", "", quiet)))
	after := g.Series()
	// without further callbacks all counters must be there, with the same values
	delete(before, `caddy_fotor_webhook_inbox_bytes{handler="default"}`)
	delete(after, `caddy_fotor_webhook_inbox_bytes{handler="default"}`)
	assert.InDelta(t, 3, after[attemptLimit], 0)
	delete(before, attemptLimit)
	delete(after, attemptLimit)
	assert.Equal(t, before, after)
}

// After a restart the metrics show the backlog at once.
func TestMetricsAfterRestart(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	for i := range 5 {
		g.Accept(notice(fmt.Sprint("task-", i), 1))
	}
	g.Stop()
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL, "", quiet)))
	assert.Equal(t, 5, g.Events("pending"))
	assert.Equal(t, 0, g.Events("delivered"))
	assert.Positive(t, g.Metric(`caddy_fotor_webhook_oldest_pending_age_seconds{destination="default",handler="default"}`))
}

// What callers send does not become a label.
func TestMetricsHaveBoundedLabels(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	before := slices.Sorted(maps.Keys(g.Series()))
	require.NotEmpty(t, before)
	for i := range 20 {
		g.Accept(fmt.Sprintf(`{"taskId":"task-%d","status":%d,"type":"type-%d","kind-%d":1}`, i, i%3, i, i))
		g.Post(fmt.Sprintf(`{"status":%d}`, i))
		g.Post(fmt.Sprint(i, "{"))
		g.Post(notice("media", 1), "Content-Type", fmt.Sprint("text/x-", i))
		r := newRequest(t, g.URL()+fmt.Sprint("?n=", i), http.NoBody)
		r.Method = fmt.Sprint("METHOD", i)
		assert.Equal(t, http.StatusMethodNotAllowed, do(t, r).Status)
	}
	g.delivered(20)
	assert.Equal(t, before, slices.Sorted(maps.Keys(g.Series())))
}

func TestMetricsOfTwoHandlers(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	second := "fotor_webhook /second {\nname second\nallow 127.0.0.1\ninbox sqlite " + g.DB + "-second\nforward " + up.URL + "\n}"
	g.Start("forward "+up.URL+"\ninbox sqlite "+g.DB, second, quiet)
	accepted := `caddy_fotor_webhook_callbacks_total{handler="second",outcome="accepted"}`
	before := g.Metric(accepted) // earlier tests in this process count too
	g.Accept(notice("a", 1))
	for _, task := range []string{"b", "c"} {
		answer := do(t, newRequest(t, strings.Replace(g.URL(), "/callback", "/second", 1), strings.NewReader(notice(task, 1))))
		require.Equal(t, http.StatusOK, answer.Status)
	}
	g.delivered(1)
	await(t, func() bool { return g.Metric(`caddy_fotor_webhook_events{handler="second",state="delivered"}`) == 2 }, "the second's deliveries")
	assert.InDelta(t, 2, g.Metric(accepted)-before, 0)
	sources := make(map[string]int)
	for _, d := range up.Deliveries() {
		sources[d.Header.Get("Ce-Source")]++
	}
	assert.Equal(t, map[string]int{"/fotor_webhook/default": 1, "/fotor_webhook/second": 2}, sources)
}

func TestMetricsAreWellNamed(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", quiet)
	g.Accept(notice("task", 1))
	g.delivered(1)
	var ours strings.Builder
	for line := range strings.Lines(g.get("/metrics")) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), metricPrefix) {
			ours.WriteString(line)
		}
	}
	require.NotEmpty(t, ours.String())
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	require.NoError(t, err)
	assert.Empty(t, problems)
}
