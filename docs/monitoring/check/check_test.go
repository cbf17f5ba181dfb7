// Package check tests the alerting rules, the recording rules and the dashboard as
// Prometheus and Grafana use them: each expression is evaluated by Prometheus' own engine
// against what Caddys export.
package check

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// scrapeEvery is the time between two scrapes. The first ones see the Caddys before the
// callbacks, the later ones after.
const (
	scrapeEvery = 15 * time.Second
	scrapes     = 10 // of each kind
)

var began = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// now is when expressions are evaluated: with the last scrape.
var now = began.Add((2*scrapes - 1) * scrapeEvery)

// prometheus has what was scraped.
type prometheus struct {
	*testing.T
	*database
}

type database struct {
	storage *teststorage.TestStorage
	engine  *promql.Engine
	parser  parser.Parser
	shared  int // callbacks that the two Caddys with one inbox took
}

func newPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{t, &database{storage: teststorage.New(t), parser: parser.NewParser(parser.Options{})}}
	p.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: patience, Parser: p.parser})
	t.Cleanup(func() { require.NoError(t, p.engine.Close()) })
	return p
}

// add stores one series' sample.
func (p *prometheus) add(at time.Time, v float64, series map[string]string) {
	p.Helper()
	appender := p.storage.Appender(p.Context())
	_, err := appender.Append(0, labels.FromMap(series), at.UnixMilli(), v)
	require.NoError(p, err)
	require.NoError(p, appender.Commit())
}

// scrape stores what an instance exports, at some times. A series that it does not export any
// more ends, as it does in Prometheus.
func (p *prometheus) scrape(instance, exported string, from, to int) {
	p.Helper()
	there := make(map[string]bool)
	reader := expfmt.NewTextParser(model.UTF8Validation)
	families, err := reader.TextToMetricFamilies(strings.NewReader(exported))
	require.NoError(p, err)
	for name, family := range families {
		if !strings.HasPrefix(name, "caddy_fotor_webhook_") {
			continue
		}
		for _, m := range family.GetMetric() {
			series := map[string]string{"job": "fotor", "instance": instance}
			for _, l := range m.GetLabel() {
				series[l.GetName()] = l.GetValue()
			}
			store := func(suffix string, v float64) {
				series["__name__"] = name + suffix
				there[labels.FromMap(series).String()] = true
				for n := from; n < to; n++ {
					p.add(began.Add(time.Duration(n)*scrapeEvery), v, series)
				}
			}
			h := m.GetHistogram()
			if h == nil {
				store("", m.GetCounter().GetValue()+m.GetGauge().GetValue())
				continue
			}
			store("_sum", h.GetSampleSum())
			store("_count", float64(h.GetSampleCount()))
			for _, b := range h.GetBucket() {
				series["le"] = fmt.Sprint(b.GetUpperBound())
				if b.GetUpperBound() > 1e300 {
					series["le"] = "+Inf"
				}
				store("_bucket", float64(b.GetCumulativeCount()))
			}
		}
	}
	for _, s := range p.evalAt(fmt.Sprintf(`{instance=%q}`, instance), began.Add(time.Duration(from)*scrapeEvery)) {
		if !there[s.Metric.String()] {
			p.add(began.Add(time.Duration(from)*scrapeEvery), math.Float64frombits(value.StaleNaN), s.Metric.Map())
		}
	}
}

// eval evaluates an expression at the last scrape.
func (p *prometheus) eval(expr string) promql.Vector {
	p.Helper()
	return p.evalAt(expr, now)
}

func (p *prometheus) evalAt(expr string, at time.Time) promql.Vector {
	p.Helper()
	query, err := p.engine.NewInstantQuery(context.Background(), p.storage, nil, expr, at)
	require.NoError(p, err, expr)
	defer query.Close()
	result := query.Exec(context.Background())
	require.NoError(p, result.Err, expr)
	require.Empty(p, result.Warnings, expr)
	if scalar, err := result.Scalar(); err == nil {
		return promql.Vector{{F: scalar.V}}
	}
	vector, err := result.Vector()
	require.NoError(p, err, expr)
	return append(promql.Vector(nil), vector...)
}

// loosened returns an expression that has series wherever its selectors find some and labels
// match: each comparison is 0 or 1, and what must not be there must be.
func (p *prometheus) loosened(expr string) string {
	p.Helper()
	tree, err := p.parser.ParseExpr(expr)
	require.NoError(p, err, expr)
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		binary, ok := node.(*parser.BinaryExpr)
		switch {
		case !ok:
		case binary.Op.IsComparisonOperator():
			binary.ReturnBool = true
		case binary.Op == parser.LUNLESS:
			binary.Op = parser.LAND
		}
		return nil
	})
	return tree.String()
}

// requireSeries checks that an expression finds series: each of its selectors, and all of it
// where labels have to match.
func (p *prometheus) requireSeries(expr string) {
	p.Helper()
	tree, err := p.parser.ParseExpr(expr)
	require.NoError(p, err, expr)
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			require.NotEmpty(p, p.eval(selector.String()), "%s in %s", selector, expr)
		}
		return nil
	})
	if !strings.HasPrefix(expr, "absent(") {
		require.NotEmpty(p, p.eval(p.loosened(expr)), expr)
	}
}

// world is what is scraped: two Caddys that share an inbox, and one with its own.
func world(t *testing.T) *prometheus {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/refused":
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(service.Close)
	binary, nats := buildCaddy(t), serveNATS(t)

	to := func(name, path string) string {
		return fmt.Sprintf("destination %s {\nforward %s%s\n}\n", name, service.URL, path)
	}
	asking := "fotor_api {\nkey any\nurl " + service.URL + "\n}\n"
	shared := fmt.Sprintf("name shared\nmax_body 4KiB\ninbox nats %s {\nreplicas 1\n}\n", nats) + asking + to("taken", "/") + to("gone", "/gone") + to("refused", "/refused") +
		"destination down {\nforward http://" + freeAddress(t) + "\n}\n"
	a := startCaddy(t, binary, shared+to("left", "/"))
	b := startCaddy(t, binary, shared+to("left", "/"))
	own := startCaddy(t, binary, "name own\nforward "+service.URL+"\n"+asking)
	instances := map[string]*caddy{"a:2019": a, "b:2019": b, "own:2019": own}

	p := newPrometheus(t)
	for name, c := range instances {
		p.scrape(name, c.metrics(), 0, scrapes)
	}
	a.do(http.MethodPost, "shared/hold?destination=left", `{"reason":"it goes away"}`)
	b.await("the hold to be shared", func() bool {
		return strings.Contains(b.metrics(), `caddy_fotor_webhook_held{by="operator",destination="left",handler="shared"} 1`)
	})
	accept := func(c *caddy, task string) {
		c.callback(fmt.Sprintf(`{"taskId":"%s","status":1,"type":"avatar"}`, task), http.StatusOK)
		if c != own {
			p.shared++
		}
	}
	for i := range 10 {
		for name, c := range instances {
			accept(c, fmt.Sprint(name, i))
		}
	}
	for _, c := range []*caddy{a, b} { // either may be the quicker one with an event
		c.await("attempts by each", func() bool {
			m := c.metrics()
			for destination, outcome := range map[string]string{"taken": "delivered", "gone": "dead", "refused": "retry"} {
				line := fmt.Sprintf("caddy_fotor_webhook_deliveries_total{destination=%q,handler=\"shared\",outcome=%q} ", destination, outcome)
				if !strings.Contains(m, line) || strings.Contains(m, line+"0\n") {
					accept(c, fmt.Sprint("more", p.shared))
					return false
				}
			}
			return true
		})
	}
	a.callback("{", http.StatusBadRequest)
	b.callback(`{"taskId":"x"}`, http.StatusUnprocessableEntity)
	a.callback(`{"x":"`+strings.Repeat("x", 5000)+`"}`, http.StatusRequestEntityTooLarge)
	for _, c := range []*caddy{a, b} {
		c.load(shared)
		c.await("all attempts", func() bool {
			m := c.metrics()
			for destination, state := range map[string]string{"taken": "delivered", "gone": "dead", "left": "pending"} {
				line := fmt.Sprintf("caddy_fotor_webhook_destination_events{destination=%q,handler=\"shared\",state=%q} %d\n", destination, state, p.shared)
				if !strings.Contains(m, line) {
					return false
				}
			}
			return strings.Contains(m, `caddy_fotor_webhook_held{by="upstream",destination="down",handler="shared"} 1`)
		})
	}
	for name, c := range instances {
		p.scrape(name, c.metrics(), scrapes, 2*scrapes)
	}
	return p
}

// grafana replaces the variables of the dashboard as Grafana does for that instance and All.
func grafana(expr, instance string) string {
	return strings.NewReplacer("$instance", instance, "$handler", ".*", "$destination", ".*", "$__rate_interval", "1m").Replace(expr)
}

func TestWithPrometheus(t *testing.T) {
	p := world(t)
	alerts, records := rules(t, "alerts.yaml"), rules(t, "rules.yaml")
	for _, rule := range records {
		t.Run(rule.Record, func(t *testing.T) { (&prometheus{t, p.database}).record(rule) })
	}
	for _, rule := range alerts {
		t.Run(rule.Alert, func(t *testing.T) {
			q := &prometheus{t, p.database}
			q.requireSeries(rule.Expr)
			require.Equal(t, firing[rule.Alert], q.names(rule.Expr), "where it fires")
		})
	}
	for _, target := range panels(t) {
		t.Run(target.title, func(t *testing.T) {
			q := &prometheus{t, p.database}
			for _, instance := range []string{".*", "(a:2019|own:2019)", "b:2019"} {
				q.requireSeries(grafana(target.Expr, instance))
			}
			q.checkCounts(target)
			q.checkLegend(target)
		})
	}
}

// firing is where alerts fire in the world, by their names: instances, each with the
// destination if there is one.
var firing = map[string][]string{
	"FotorWebhookCallbackTooLarge":     {"a:2019"},
	"FotorWebhookQuarantineGrowing":    {"a:2019", "b:2019"},
	"FotorWebhookDeliveriesHeld":       {"a:2019 down", "b:2019 down"},
	"FotorWebhookDeliveriesFail":       {"a:2019 gone", "a:2019 refused", "b:2019 gone", "b:2019 refused"},
	"FotorWebhookEventsDead":           {"a:2019 gone", "b:2019 gone"},
	"FotorWebhookDeliveriesLeftBehind": {"a:2019 left", "b:2019 left"},
}

// names returns the instances and destinations of the series of an expression, in order.
func (p *prometheus) names(expr string) (names []string) {
	seen := make(map[string]bool)
	for _, s := range p.eval(expr) {
		name := strings.TrimSpace(s.Metric.Get("instance") + " " + s.Metric.Get("destination"))
		if !seen[name] {
			names = append(names, name)
		}
		seen[name] = true
	}
	slices.Sort(names)
	return names
}

// record evaluates a recording rule and stores the result for those after it.
func (p *prometheus) record(rule rulefmt.Rule) {
	p.requireSeries(rule.Expr)
	found := p.eval(rule.Expr)
	require.NotEmpty(p, found)
	for _, s := range found {
		series := s.Metric.Map()
		series["__name__"] = rule.Record
		p.add(now, s.F, series)
	}
}

// counted are numbers in panels: the events of the inbox that two Caddys share, once.
var counted = map[string]labels.Labels{
	"Dead events": labels.FromStrings("destination", "gone", "handler", "shared"),
	"Left behind": labels.FromStrings("destination", "left", "handler", "shared"),
}

// checkCounts checks that what Caddys share is counted once.
func (p *prometheus) checkCounts(target target) {
	series, ok := counted[target.title]
	if !ok {
		return
	}
	want := promql.Sample{T: now.UnixMilli(), F: float64(p.shared), Metric: series}
	require.Contains(p, p.eval(grafana(target.Expr, ".*")), want)
}

// inLegend matches the labels in a legend.
var inLegend = regexp.MustCompile(`{{(\w+)}}`)

// checkLegend checks that the legend tells the series of a panel apart.
func (p *prometheus) checkLegend(target target) {
	seen := make(map[string]bool)
	for _, s := range p.eval(grafana(target.Expr, ".*")) {
		text := inLegend.ReplaceAllStringFunc(target.LegendFormat, func(label string) string {
			value := s.Metric.Get(strings.Trim(label, "{}"))
			require.NotEmpty(p, value, label)
			return value
		})
		require.False(p, seen[text], text)
		seen[text] = true
	}
}

// rules reads a file of rules as Prometheus does.
func rules(t *testing.T, name string) (all []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.ParseFile(filepath.Join("..", name), false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	for _, group := range groups.Groups {
		all = append(all, group.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

type target struct {
	title              string
	Expr, LegendFormat string
}

// panels returns the queries of the dashboard.
func panels(t *testing.T) (all []target) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "dashboard.json"))
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []target
		}
	}
	require.NoError(t, json.Unmarshal(content, &board))
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			target.title = panel.Title
			all = append(all, target)
		}
	}
	require.NotEmpty(t, all)
	return all
}
