package docs

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exported are the gateway's metrics as they are scraped: values of labels, by name (with
// the suffixes of a histogram) and label.
type exported map[string]map[string][]string

// gather runs a gateway and returns its metrics.
func gather(t *testing.T) exported {
	t.Helper()
	var config caddy.Config
	path, err := json.Marshal(filepath.Join(t.TempDir(), "inbox.db"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(`{
		"admin": {"disabled": true, "config": {"persist": false}},
		"logging": {"logs": {"default": {"level": "ERROR"}}},
		"apps": {"http": {"servers": {"s": {
			"listen": ["127.0.0.1:0"],
			"routes": [{"handle": [{
				"handler": "fotor_webhook",
				"inbox": {"module": "sqlite", "path": `+string(path)+`},
				"fotor_api": {"key": "any", "url": "http://127.0.0.1:1"},
				"forward": {"url": "http://127.0.0.1:1/"}
			}]}, {"match": [{"path": ["/v1/*"]}], "handle": [{"handler": "fotor_tasks"}]}]
		}}}}
	}`), &config))
	require.NoError(t, caddy.Run(&config))
	t.Cleanup(func() { assert.NoError(t, caddy.Stop()) })

	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	require.NoError(t, err)
	all := make(exported)
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), metricPrefix) {
			continue
		}
		names := []string{family.GetName()}
		histogram := family.GetType().String() == "HISTOGRAM"
		if histogram {
			names = []string{family.GetName() + "_sum", family.GetName() + "_count", family.GetName() + "_bucket"}
		}
		labels := make(map[string][]string)
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = append(labels[pair.GetName()], pair.GetValue())
			}
		}
		for _, name := range names {
			all[name] = maps.Clone(labels)
		}
		if histogram {
			all[family.GetName()+"_bucket"]["le"] = nil // any value
		}
	}
	return all
}

// targetLabels are the labels that Prometheus adds to what it scrapes.
var targetLabels = []string{"job", "instance"}

// promFunctions are the functions that the rules and the dashboard use; true if they take
// a range. The parser accepts more than Prometheus does, so look a new one up in
// Prometheus' manual.
var promFunctions = map[string]bool{
	"absent":             false,
	"deriv":              true,
	"histogram_quantile": false,
	"increase":           true,
	"min_over_time":      true,
	"predict_linear":     true,
	"rate":               true,
	"time":               false,
}

var (
	promAggregations = []string{"sum", "min", "max"}
	promOperators    = []string{"+", "-", "*", "/", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"}
)

// ofInbox are the gauges of what is in an inbox. Caddys that share one export the same, so a
// sum over instances would count it several times.
var ofInbox = []string{
	"events", "destination_events", "oldest_pending_age_seconds", "quarantined", "lost_events",
	"last_loss_timestamp_seconds", "inbox_bytes", "inbox_limit_bytes", "inbox_up", "held",
}

// checkSum complains of a sum over instances of what is in an inbox.
func checkSum(node *metricsql.AggrFuncExpr, complain func(...string)) {
	named := slices.Contains(node.Modifier.Args, "instance")
	if by := !strings.EqualFold(node.Modifier.Op, "without"); by == named {
		return
	}
	metricsql.VisitAll(node, func(inner metricsql.Expr) {
		if name, ours := strings.CutPrefix(nameOf(inner), metricPrefix); ours && slices.Contains(ofInbox, name) {
			complain("a sum over instances of", name)
		}
	})
}

// check returns what is wrong with an expression, and adds the names of the metrics in it
// to used.
func (e exported) check(expr string, used map[string]bool) []string {
	tree, err := metricsql.Parse(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	complain := func(parts ...string) { wrong = append(wrong, strings.Join(parts, " ")) }
	metrics := 0
	metricsql.VisitAll(tree, func(node metricsql.Expr) {
		switch node := node.(type) {
		case *metricsql.MetricExpr:
			metrics++
			e.checkMetric(node, used, complain)
		case *metricsql.FuncExpr:
			e.checkFunction(node, complain)
		case *metricsql.AggrFuncExpr:
			if !slices.Contains(promAggregations, node.Name) {
				complain("unknown aggregation", node.Name)
			}
			if node.Name == "sum" {
				checkSum(node, complain)
			}
			e.checkLabels(tree, node.Modifier.Args, complain)
		case *metricsql.BinaryOpExpr:
			if !slices.Contains(promOperators, node.Op) {
				complain("unknown operator", node.Op)
			}
			e.checkLabels(tree, node.GroupModifier.Args, complain)
		}
	})
	if metrics == 0 {
		complain("no metric")
	}
	return wrong
}

func (e exported) checkMetric(node *metricsql.MetricExpr, used map[string]bool, complain func(...string)) {
	if len(node.LabelFilterss) != 1 || node.LabelFilterss[0][0].Label != "__name__" {
		complain("a selector without a name")
		return
	}
	filters := node.LabelFilterss[0]
	name := filters[0].Value
	labels, ok := e[name]
	if !ok {
		complain("no metric is named", name)
		return
	}
	used[name] = true
	for _, filter := range filters[1:] {
		values, ok := labels[filter.Label]
		if slices.Contains(targetLabels, filter.Label) {
			if filter.Value != anyValue { // it depends on the config of Prometheus
				complain("the", filter.Label, "is", filter.Value)
			}
			continue
		}
		if !ok {
			complain(name, "has no label", filter.Label)
			continue
		}
		if filter.Label == "handler" || filter.Label == "destination" { // their values depend on the config
			if filter.Value != anyValue {
				complain("the", filter.Label, "is", filter.Value)
			}
			continue
		}
		wanted := []string{filter.Value}
		if filter.IsRegexp {
			wanted = strings.Split(filter.Value, "|")
		}
		for _, value := range wanted {
			if !slices.Contains(values, value) {
				complain(name, "has no", filter.Label, value)
			}
		}
	}
}

// checkFunction checks that functions of a range have one, that those of counters have
// counters, and that quantiles are of buckets with their le.
func (e exported) checkFunction(node *metricsql.FuncExpr, complain func(...string)) {
	wantsRange, ok := promFunctions[node.Name]
	if !ok {
		complain("unknown function", node.Name)
		return
	}
	if node.Name == "time" {
		return // it has no arguments
	}
	rollup, _ := node.Args[0].(*metricsql.RollupExpr)
	if hasRange := rollup != nil && rollup.Window != nil; hasRange != wantsRange {
		complain("the range of", node.Name)
		return
	}
	if wantsRange {
		name := nameOf(rollup.Expr)
		counts := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_bucket") ||
			strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum")
		if counter := node.Name == "rate" || node.Name == "increase"; counter != counts {
			complain(node.Name, "of", name)
		}
	}
	if node.Name != "histogram_quantile" {
		return
	}
	inner := node.Args[1]
	if name := nameOf(inner); strings.HasSuffix(name, "_bucket:rate5m") && e[name] != nil {
		return // recorded
	}
	if aggregation, ok := inner.(*metricsql.AggrFuncExpr); ok {
		kept := slices.Contains(aggregation.Modifier.Args, "le") == strings.EqualFold(aggregation.Modifier.Op, "by")
		if !kept || aggregation.Modifier.Op == "" {
			complain("le is lost in", node.Name)
		}
		inner = aggregation.Args[0]
	}
	rate, ok := inner.(*metricsql.FuncExpr)
	if !ok || rate.Name != "rate" {
		complain(node.Name, "of no rate")
		return
	}
	if rollup, ok := rate.Args[0].(*metricsql.RollupExpr); !ok || !strings.HasSuffix(nameOf(rollup.Expr), "_bucket") {
		complain(node.Name, "of no buckets")
	}
}

func nameOf(node metricsql.Expr) string {
	if metric, ok := node.(*metricsql.MetricExpr); ok && len(metric.LabelFilterss) == 1 && len(metric.LabelFilterss[0]) > 0 {
		return metric.LabelFilterss[0][0].Value
	}
	return ""
}

// checkLabels checks the labels that are grouped by or matched on.
func (e exported) checkLabels(tree metricsql.Expr, labels []string, complain func(...string)) {
	for _, label := range labels {
		known := slices.Contains(targetLabels, label)
		metricsql.VisitAll(tree, func(node metricsql.Expr) {
			_, has := e[nameOf(node)][label]
			known = known || has
		})
		if !known {
			complain("no metric here has the label", label)
		}
	}
}

// anyValue stands for the dashboard's variables.
const anyValue = "ANY"

// TestPromQLCheckComplains shows that check finds what it is for.
func TestPromQLCheckComplains(t *testing.T) {
	metrics := gather(t)
	for expr, complaint := range map[string]string{
		`sum(`:                           "unparsed",
		`1`:                              "no metric",
		`{handler="ANY"}`:                "a selector without a name",
		`caddy_fotor_webhook_inbox_size`: "no metric is named caddy_fotor_webhook_inbox_size",
		`caddy_fotor_webhook_answer_duration_seconds`:                                                          "no metric is named",
		`caddy_fotor_webhook_events{outcome="dead"}`:                                                           "has no label outcome",
		`caddy_fotor_webhook_events{state="lost"}`:                                                             "has no state lost",
		`caddy_fotor_webhook_events{state=~"dead|lost"}`:                                                       "has no state lost",
		`caddy_fotor_webhook_callbacks_total{outcome!="dead"}`:                                                 "has no outcome dead",
		`caddy_fotor_webhook_held{handler="default"}`:                                                          "the handler is default",
		`caddy_fotor_webhook_held{destination="app"}`:                                                          "the destination is app",
		`caddy_fotor_webhook_inbox_up{destination="ANY"}`:                                                      "has no label destination",
		`sum by (state) (caddy_fotor_webhook_held)`:                                                            "no metric here has the label state",
		`sum without (stage) (caddy_fotor_webhook_events)`:                                                     "no metric here has the label stage",
		`caddy_fotor_webhook_held and on (name) caddy_fotor_webhook_inbox_up`:                                  "no metric here has the label name",
		`sum by (handler) (caddy_fotor_webhook_events)`:                                                        "a sum over instances of events",
		`sum(caddy_fotor_webhook_quarantined)`:                                                                 "a sum over instances of quarantined",
		`sum without (instance) (caddy_fotor_webhook_held)`:                                                    "a sum over instances of held",
		`caddy_fotor_webhook_events{instance="a:2019"}`:                                                        "the instance is a:2019",
		`median(caddy_fotor_webhook_held)`:                                                                     "unknown aggregation median",
		`caddy_fotor_webhook_held default 1`:                                                                   "unknown operator default",
		`running_sum(caddy_fotor_webhook_held)`:                                                                "unknown function running_sum",
		`rate(caddy_fotor_webhook_callbacks_total)`:                                                            "the range of rate",
		`absent(caddy_fotor_webhook_held[5m])`:                                                                 "the range of absent",
		`rate(caddy_fotor_webhook_held[5m])`:                                                                   "rate of caddy_fotor_webhook_held",
		`deriv(caddy_fotor_webhook_callbacks_total[5m])`:                                                       "deriv of caddy_fotor_webhook_callbacks_total",
		`histogram_quantile(0.9, caddy_fotor_webhook_answer_duration_seconds_bucket)`:                          "of no rate",
		`histogram_quantile(0.9, rate(caddy_fotor_webhook_answer_duration_seconds_sum[5m]))`:                   "of no buckets",
		`histogram_quantile(0.9, sum(rate(caddy_fotor_webhook_answer_duration_seconds_bucket[5m])))`:           "le is lost",
		`histogram_quantile(.9, sum by (handler) (rate(caddy_fotor_webhook_delivery_age_seconds_bucket[5m])))`: "le is lost",
		`histogram_quantile(.9, sum without (le) (rate(caddy_fotor_webhook_delivery_age_seconds_bucket[5m])))`: "le is lost",
	} {
		t.Run(expr, func(t *testing.T) {
			require.Contains(t, strings.Join(metrics.check(expr, make(map[string]bool)), "\n"), complaint)
		})
	}
	require.Empty(t, metrics.check(`sum by (handler, instance) (caddy_fotor_webhook_events)`, make(map[string]bool)))
	require.Empty(t, metrics.check(`sum without (state) (caddy_fotor_webhook_events{instance=~"ANY"})`, make(map[string]bool)))
	require.Empty(t, metrics.check(`histogram_quantile(.9, sum without (job) (rate(caddy_fotor_webhook_delivery_age_seconds_bucket[5m])))`, make(map[string]bool)))
}
