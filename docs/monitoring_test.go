package docs

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	alertsFile    = "docs/monitoring/alerts.yaml"
	dashboardFile = "docs/monitoring/dashboard.json"
	runbook       = "docs/operations.md"
	runbookURL    = "https://github.com/fotor-webhook/caddy-fotor-webhook/blob/main/docs/operations.md"

	metricPrefix = "caddy_fotor_webhook_"
)

// exported are the gateway's metrics as they are scraped: the name with the
// suffixes of a histogram, then the labels, then their values.
type exported map[string]map[string][]string

// gather runs a gateway and asks for its metrics.
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
				"forward": {"url": "http://127.0.0.1:1/"}
			}]}]
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
			all[family.GetName()+"_bucket"]["le"] = nil // any number
		}
	}
	return all
}

// targetLabels are those that Prometheus itself adds to what it scrapes.
var targetLabels = []string{"job", "instance"}

// The functions that the rules and the dashboard use. The parser knows more
// than Prometheus does, so what is new here has to be looked up in Prometheus'
// manual. With true they want a range.
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

// check returns what is wrong with an expression; used gets the names of the
// metrics in it.
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
		if !ok {
			complain(name, "has no label", filter.Label)
			continue
		}
		if filter.Label == "handler" { // its values are config
			if filter.Value != anyHandler {
				complain("the handler is", filter.Value)
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

// checkFunction looks for ranges where they are wanted, counters in what counts
// them, and buckets with their le in quantiles.
func (e exported) checkFunction(node *metricsql.FuncExpr, complain func(...string)) {
	wantsRange, ok := promFunctions[node.Name]
	if !ok {
		complain("unknown function", node.Name)
		return
	}
	if node.Name == "time" {
		return // it takes nothing
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

// checkLabels looks for labels by which is grouped or matched.
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

// anyHandler stands for the dashboard's variable.
const anyHandler = "ANY"

type alertRule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alertRule {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, alertsFile)))
	decoder.KnownFields(true)
	var file struct {
		Groups []struct {
			Name  string
			Rules []alertRule
		}
	}
	require.NoError(t, decoder.Decode(&file))
	require.Len(t, file.Groups, 1)
	require.Greater(t, len(file.Groups[0].Rules), 10)
	return file.Groups[0].Rules
}

// inTemplate finds the labels that an annotation names.
var inTemplate = regexp.MustCompile(`\$labels\.(\w+)`)

func TestAlerts(t *testing.T) {
	metrics := gather(t)
	seen := make(map[string]bool)
	for _, rule := range alerts(t) {
		t.Run(rule.Alert, func(t *testing.T) {
			require.Regexp(t, `^FotorWebhook([A-Z][a-z]+)+$`, rule.Alert)
			require.False(t, seen[rule.Alert])
			seen[rule.Alert] = true
			require.Empty(t, metrics.check(rule.Expr, make(map[string]bool)), rule.Expr)

			if rule.For != "" {
				_, err := caddy.ParseDuration(rule.For)
				require.NoError(t, err)
			}
			require.Equal(t, []string{"severity"}, slices.Collect(maps.Keys(rule.Labels)))
			require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"])
			require.ElementsMatch(t, []string{"summary", "description", "runbook_url"}, slices.Collect(maps.Keys(rule.Annotations)))
			for name, annotation := range rule.Annotations {
				require.NotEmpty(t, annotation, name)
				for _, match := range inTemplate.FindAllStringSubmatch(annotation, -1) {
					require.Contains(t, []string{"handler", "instance"}, match[1], name)
					require.NotContains(t, rule.Expr, "absent(", "absent() has no such labels")
				}
			}
			require.Equal(t, runbookURL+"#"+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"])
		})
	}
}

// TestRunbook compares the alerts with the sections that say what to do about
// them.
func TestRunbook(t *testing.T) {
	var names []string
	for _, rule := range alerts(t) {
		names = append(names, rule.Alert)
	}
	_, prose := split(t, read(t, runbook))
	var sections []string
	for _, match := range heading.FindAllStringSubmatch(prose, -1) {
		if strings.HasPrefix(match[1], "FotorWebhook") {
			sections = append(sections, match[1])
		}
	}
	require.ElementsMatch(t, names, sections)
}

// inGrep finds what the runbook looks for in the log.
var inGrep = regexp.MustCompile(`grep(?: -E)? '([^']+)'`)

// inErrors finds what an error's text has in place of something.
var inErrors = regexp.MustCompile(`%\w`)

// TestRunbookLogLines looks for every text that the runbook greps for, and for
// the lines that it quotes, in the code that logs them.
func TestRunbookLogLines(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*.go", "gateway/*.go", "caddymodule/sqlite/*.go", "caddymodule/nats/*.go", "inbox/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		require.NoError(t, err)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				content, err := os.ReadFile(file)
				require.NoError(t, err)
				code.Write(content)
			}
		}
	}
	inCode := func(code, text string) {
		if !strings.Contains(code, text) { // require.Contains would show all the code
			t.Errorf("%q is in no source file", text)
		}
	}
	page := read(t, runbook)
	looked := 0
	for _, match := range inGrep.FindAllStringSubmatch(page, -1) {
		for text := range strings.SplitSeq(match[1], "|") {
			inCode(code.String(), text)
			looked++
		}
	}
	for _, column := range []string{"line", "in the log"} {
		for _, row := range table(t, runbook, column) {
			inCode(code.String(), `"`+named(row[0])[0]+`"`)
			looked++
		}
	}
	for _, row := range table(t, runbook, "the message has") {
		for part := range strings.SplitSeq(named(row[0])[0], "…") {
			inCode(inErrors.ReplaceAllString(code.String(), "…"), part)
		}
		looked++
	}
	require.Greater(t, looked, 10)
}

type panel struct {
	ID         int
	Title      string
	Type       string
	Datasource struct{ Type, UID string }
	Targets    []struct {
		Expr       string
		RefID      string
		Datasource struct{ Type, UID string }
	}
	Panels []panel
}

type dashboard struct {
	ID         any
	UID        string
	Title      string
	Panels     []panel
	Links      []struct{ URL string }
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
			Definition string
		}
	}
}

// unvaried puts values in place of Grafana's variables.
var unvaried = strings.NewReplacer("$handler", anyHandler, "$__rate_interval", "5m")

func TestDashboard(t *testing.T) {
	metrics := gather(t)
	var board dashboard
	require.NoError(t, json.Unmarshal([]byte(read(t, dashboardFile)), &board))
	require.Nil(t, board.ID, "an id of another Grafana's database")
	require.NotEmpty(t, board.UID)
	require.NotEmpty(t, board.Title)
	require.Equal(t, runbookURL, board.Links[0].URL)

	require.Len(t, board.Templating.List, 2)
	require.Equal(t, "datasource", board.Templating.List[0].Name)
	require.Equal(t, "datasource", board.Templating.List[0].Type)
	require.Equal(t, "prometheus", board.Templating.List[0].Query)
	handler := board.Templating.List[1]
	require.Equal(t, "handler", handler.Name)
	require.Equal(t, "label_values("+metricPrefix+"inbox_up, handler)", handler.Definition)
	require.Equal(t, handler.Definition, handler.Query.(map[string]any)["query"])
	require.Contains(t, metrics[metricPrefix+"inbox_up"], "handler")

	used := make(map[string]bool)
	ids := make(map[int]bool)
	for _, p := range board.Panels {
		require.Positive(t, p.ID, p.Title)
		require.False(t, ids[p.ID], "the id %d is there twice", p.ID)
		ids[p.ID] = true
		require.Empty(t, p.Panels, "a panel in a panel")
		if p.Type == "row" {
			continue
		}
		require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			require.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
			require.False(t, refs[target.RefID], p.Title)
			refs[target.RefID] = true
			expr := unvaried.Replace(target.Expr)
			require.NotContains(t, expr, "$", p.Title)
			require.Empty(t, metrics.check(expr, used), "%s: %s", p.Title, expr)
			require.Equal(t, strings.Count(expr, metricPrefix), strings.Count(expr, `handler=~"`+anyHandler+`"`), p.Title)
		}
	}

	// every metric is shown
	for name := range metrics {
		if !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") {
			assert.Contains(t, used, name)
		}
	}
}

// TestPromQLCheckComplains shows that the check of expressions sees what it is for.
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
		`sum by (state) (caddy_fotor_webhook_held)`:                                                            "no metric here has the label state",
		`sum without (stage) (caddy_fotor_webhook_events)`:                                                     "no metric here has the label stage",
		`caddy_fotor_webhook_held and on (name) caddy_fotor_webhook_inbox_up`:                                  "no metric here has the label name",
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
	require.Empty(t, metrics.check(`histogram_quantile(.9, sum without (job) (rate(caddy_fotor_webhook_delivery_age_seconds_bucket[5m])))`, make(map[string]bool)))
}
