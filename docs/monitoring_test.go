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

// inTemplate matches the labels in an annotation.
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
					require.Contains(t, []string{"handler", "destination", "instance", "by"}, match[1], name)
					if match[1] == "destination" || match[1] == "by" { // every metric in it has to have it, or the label is not there
						for _, metric := range inExpr.FindAllString(rule.Expr, -1) {
							require.Contains(t, metrics[metric], match[1], "%s of %s", name, metric)
						}
					}
					require.NotContains(t, rule.Expr, "absent(", "absent() has no such labels")
				}
			}
			require.Equal(t, runbookURL+"#"+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"])
		})
	}
}

// TestRunbook compares the alerts with the sections that say what to do about them.
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

// TestRunbookLists checks that the runbook's beginning leads to each of its sections, and has
// the severity of each alert.
func TestRunbookLists(t *testing.T) {
	_, prose := split(t, read(t, runbook))
	lists, sections, found := strings.Cut(prose, "\n## ")
	require.True(t, found)
	for _, match := range heading.FindAllStringSubmatch("\n## "+sections, -1) {
		anchor := strings.NewReplacer(" ", "-", ":", "").Replace(strings.ToLower(match[1]))
		require.Contains(t, lists, "](#"+anchor+")", match[1])
	}
	for _, rule := range alerts(t) {
		name := strings.TrimPrefix(rule.Alert, "FotorWebhook")
		require.Contains(t, lists, "| ["+name+"](#"+strings.ToLower(rule.Alert)+") | "+rule.Labels["severity"]+" |")
	}
}

// inGrep matches what the runbook searches the log for.
var inGrep = regexp.MustCompile(`grep(?: -E)? '([^']+)'`)

// inErrors matches the verbs of a format string.
var inErrors = regexp.MustCompile(`%\w`)

// TestRunbookLogLines checks that the code has every text that the runbook greps for, and
// every line that it quotes.
func TestRunbookLogLines(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*.go", "gateway/*.go", "caddymodule/sqlite/*.go", "caddymodule/nats/*.go", "inbox/*.go", "caddymodule/tasks/*.go"} {
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
		if !strings.Contains(code, text) { // require.Contains would print all the code
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
		Expr         string
		LegendFormat string
		RefID        string
		Datasource   struct{ Type, UID string }
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
			Name, Type        string
			Query             any
			Definition        string
			Multi, IncludeAll bool
			AllValue          string
		}
	}
}

// inExpr matches the names of our metrics.
var inExpr = regexp.MustCompile(metricPrefix + `\w+`)

// unvaried replaces Grafana's variables by values.
var unvaried = strings.NewReplacer("$handler", anyValue, "$destination", anyValue, "$instance", anyValue, "$__rate_interval", "5m")

// inBy matches the labels by which an expression is grouped last.
var inBy = regexp.MustCompile(` by \(([^)]*)\)`)

// checkLegend checks that a legend names every label by which series differ.
func checkLegend(t *testing.T, expr, legend, title string) {
	t.Helper()
	match := inBy.FindStringSubmatch(expr)
	require.NotNil(t, match, title)
	for label := range strings.SplitSeq(match[1], ", ") {
		if label != "le" {
			require.Contains(t, legend, "{{"+label+"}}", title)
		}
	}
}

func TestDashboard(t *testing.T) {
	metrics := gather(t)
	var board dashboard
	require.NoError(t, json.Unmarshal([]byte(read(t, dashboardFile)), &board))
	require.Nil(t, board.ID, "an id of another Grafana's database")
	require.NotEmpty(t, board.UID)
	require.NotEmpty(t, board.Title)
	require.Equal(t, runbookURL, board.Links[0].URL)

	require.Len(t, board.Templating.List, 4)
	require.Equal(t, "datasource", board.Templating.List[0].Name)
	require.Equal(t, "datasource", board.Templating.List[0].Type)
	require.Equal(t, "prometheus", board.Templating.List[0].Query)
	for i, v := range []struct{ name, query string }{
		{"instance", "label_values(" + metricPrefix + "inbox_up, instance)"},
		{"handler", "label_values(" + metricPrefix + `inbox_up{instance=~"$instance"}, handler)`},
		{"destination", "label_values(" + metricPrefix + `destination_events{instance=~"$instance", handler=~"$handler"}, destination)`},
	} {
		variable := board.Templating.List[1+i]
		require.Equal(t, v.name, variable.Name)
		require.Equal(t, v.query, variable.Definition)
		require.Equal(t, v.query, variable.Query.(map[string]any)["query"])
		require.True(t, variable.Multi, v.name)
		require.True(t, variable.IncludeAll, v.name)
		require.Equal(t, ".*", variable.AllValue, v.name)
	}
	require.Contains(t, metrics[metricPrefix+"inbox_up"], "handler")
	require.Contains(t, metrics[metricPrefix+"destination_events"], "destination")

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
			for _, label := range []string{"instance", "handler"} {
				require.Equal(t, strings.Count(expr, metricPrefix), strings.Count(expr, label+`=~"`+anyValue+`"`), p.Title)
			}
			checkLegend(t, expr, target.LegendFormat, p.Title)
			ofDestination := 0
			for _, name := range inExpr.FindAllString(expr, -1) {
				if _, ok := metrics[name]["destination"]; ok {
					ofDestination++
				}
			}
			require.Equal(t, ofDestination, strings.Count(expr, `destination=~"`+anyValue+`"`), p.Title)
		}
	}

	// every metric is shown
	for name := range metrics {
		if !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") {
			assert.Contains(t, used, name)
		}
	}
}
