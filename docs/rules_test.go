package docs

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const rulesFile = "docs/monitoring/rules.yaml"

type recordingRule struct{ Record, Expr string }

func recordingRules(t *testing.T) []recordingRule {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, rulesFile)))
	decoder.KnownFields(true)
	var file struct {
		Groups []struct {
			Name  string
			Rules []recordingRule
		}
	}
	require.NoError(t, decoder.Decode(&file))
	require.Len(t, file.Groups, 1, "rules of one group are evaluated in order")
	return file.Groups[0].Rules
}

// recorded matches a name as Prometheus' naming of rules wants it: which labels are left,
// the metric, what was done.
var recorded = regexp.MustCompile(`^([a-z_]+):(caddy_fotor_webhook_[a-z_]+):([a-z0-9_]+)$`)

// TestRecordingRules checks the rules in their order, so that one may use those before it.
func TestRecordingRules(t *testing.T) {
	metrics := gather(t)
	for _, rule := range recordingRules(t) {
		t.Run(rule.Record, func(t *testing.T) {
			name := recorded.FindStringSubmatch(rule.Record)
			require.NotNil(t, name)
			require.NotContains(t, name[2], "_total", "a rate is no total")
			require.NotContains(t, metrics, rule.Record)
			used := make(map[string]bool)
			require.Empty(t, metrics.check(rule.Expr, used), rule.Expr)

			left := leftIn(t, metrics, rule.Expr)
			require.Equal(t, name[1], level(left), "the level of the name says which labels are left")
			metrics[rule.Record] = left
		})
	}
}

// level is how the labels are named in a rule: those of the target first, le last.
func level(labels map[string][]string) string {
	var parts []string
	for _, label := range []string{"instance", "handler", "destination", "outcome", "state", "le"} {
		if _, ok := labels[label]; ok {
			parts = append(parts, label)
		}
	}
	return strings.Join(parts, "_")
}

// leftIn returns the labels that the series of an expression have, with their values.
func leftIn(t *testing.T, metrics exported, expr string) map[string][]string {
	t.Helper()
	tree, err := metricsql.Parse(expr)
	require.NoError(t, err)
	labels := make(map[string][]string)
	var gone []string
	metricsql.VisitAll(tree, func(node metricsql.Expr) {
		if name := nameOf(node); name != "" {
			maps.Copy(labels, metrics[name])
			if strings.HasPrefix(name, metricPrefix) {
				labels["instance"] = nil
			}
		}
		if aggregation, ok := node.(*metricsql.AggrFuncExpr); ok {
			require.Equal(t, "without", strings.ToLower(aggregation.Modifier.Op), "labels such as job stay")
			gone = append(gone, aggregation.Modifier.Args...)
		}
		if function, ok := node.(*metricsql.FuncExpr); ok && function.Name == "histogram_quantile" {
			gone = append(gone, "le")
		}
	})
	maps.DeleteFunc(labels, func(label string, _ []string) bool { return slices.Contains(gone, label) })
	return labels
}
