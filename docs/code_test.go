package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
)

// parse returns the syntax tree of a Go file of the repository.
func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(path)), nil, parser.ParseComments)
	require.NoError(t, err)
	return file
}

// function returns the declaration of a function or method.
func function(t *testing.T, file *ast.File, name string) *ast.FuncDecl {
	t.Helper()
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == name {
			return f
		}
	}
	require.Fail(t, "no function "+name)
	return nil
}

// text returns the value of a string literal.
func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// keyed returns the string literals that are values of a key of composite literals, such
// as the Name of prometheus.CounterOpts.
func keyed(tree ast.Node, key string) []string {
	var found []string
	ast.Inspect(tree, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			if ident, ok := kv.Key.(*ast.Ident); ok && ident.Name == key {
				if s, ok := text(kv.Value); ok {
					found = append(found, s)
				}
			}
		}
		return true
	})
	return found
}

// cases returns the string literals in a tree's case clauses.
func cases(tree ast.Node) []string {
	var found []string
	ast.Inspect(tree, func(n ast.Node) bool {
		if clause, ok := n.(*ast.CaseClause); ok {
			for _, e := range clause.List {
				if s, ok := text(e); ok {
					found = append(found, s)
				}
			}
		}
		return true
	})
	return found
}

// entries returns the string literals that are the keys of a package variable that is a
// map.
func entries(t *testing.T, file *ast.File, variable string) []string {
	t.Helper()
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == variable {
			for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
				if s, ok := text(e.(*ast.KeyValueExpr).Key); ok {
					found = append(found, s)
				}
			}
		}
		return true
	})
	require.NotEmpty(t, found, "no variable "+variable)
	return found
}

// calls returns the string literals that are the first argument of calls to a function.
func calls(tree ast.Node, name string) []string {
	var found []string
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		if f, ok := call.Fun.(*ast.Ident); ok && f.Name == name {
			if s, ok := text(call.Args[0]); ok {
				found = append(found, s)
			}
		}
		return true
	})
	return found
}

func TestMetricsTable(t *testing.T) {
	asking := parse(t, "metrics/asking.go")
	var inCode []string
	for _, metrics := range []ast.Node{
		function(t, parse(t, "metrics/metrics.go"), "newCollectors"), function(t, asking, "newAsking"), function(t, asking, "newAskingDescs"),
	} {
		for _, name := range append(keyed(metrics, "Name"), calls(metrics, "desc")...) {
			inCode = append(inCode, "caddy_fotor_webhook_"+name)
		}
	}
	require.ElementsMatch(t, inCode, firstNames(table(t, "docs/metrics.md", "metric")))
}

func TestOutcomesOfCallbacks(t *testing.T) {
	var inCode []string
	for _, outcome := range gateway.Outcomes {
		inCode = append(inCode, string(outcome))
	}
	for _, row := range table(t, "docs/metrics.md", "metric") {
		if row[0] == "`caddy_fotor_webhook_callbacks_total`" {
			require.Equal(t, "outcome", named(row[2])[0])
			require.ElementsMatch(t, inCode, named(row[2])[1:])
			return
		}
	}
	require.Fail(t, "no row for the callbacks")
}

// TestPlaceholders compares the placeholders of the code with those on the page that
// describes them, and with those in the module's own documentation.
func TestPlaceholders(t *testing.T) {
	var inCode []string
	for _, name := range cases(function(t, parse(t, "placeholder/placeholder.go"), "get")) {
		inCode = append(inCode, "{http.fotor_webhook."+name+"}")
	}
	require.Greater(t, len(inCode), 5)
	require.Equal(t, inCode, firstNames(table(t, "docs/placeholders.md", "placeholder")))
	require.Equal(t, inCode, regexp.MustCompile(`{http[.][a-z_.]+}`).FindAllString(typeDoc(t, parse(t, "caddy.go"), "Handler"), -1))
}

func TestOutcomesTable(t *testing.T) {
	var inCode []string
	for _, outcome := range gateway.Outcomes {
		inCode = append(inCode, string(outcome))
	}
	require.Equal(t, inCode, firstNames(table(t, "docs/placeholders.md", "outcome")))
}

// typeDoc returns the doc comment of a type.
func typeDoc(t *testing.T, file *ast.File, name string) string {
	t.Helper()
	for _, decl := range file.Decls {
		if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.TYPE && d.Specs[0].(*ast.TypeSpec).Name.Name == name {
			return d.Doc.Text()
		}
	}
	require.Fail(t, "no type "+name)
	return ""
}

func TestOptionsTable(t *testing.T) {
	caddyfile := parse(t, "caddyfile.go")
	inCode := cases(function(t, caddyfile, "unmarshalOption"))
	destination := parse(t, "caddyfile_destination.go")
	inRetry := cases(function(t, destination, "unmarshalRetry"))
	inSQLite := cases(function(t, parse(t, "caddymodule/sqlite/caddyfile.go"), "UnmarshalCaddyfile"))
	require.NotEmpty(t, inRetry)
	require.NotEmpty(t, inSQLite)

	var want []string
	for _, option := range inCode {
		if option != "retry" { // instead there are rows for its options
			want = append(want, option)
		}
	}
	for _, option := range inRetry {
		want = append(want, "retry "+option)
	}
	for _, option := range inSQLite {
		want = append(want, "inbox sqlite "+option)
	}
	require.ElementsMatch(t, want, firstNames(table(t, "docs/options.md", "option")))
}

func TestOptionsTableOfDestinations(t *testing.T) {
	destination := parse(t, "caddyfile_destination.go")
	var want []string
	for _, option := range cases(function(t, destination, "unmarshalOption")) {
		if option != "match" { // instead there are rows for its kinds
			want = append(want, option)
		}
	}
	kinds := cases(function(t, destination, "unmarshalMatch"))
	require.NotEmpty(t, kinds)
	for _, kind := range kinds {
		want = append(want, "match "+kind)
	}
	require.ElementsMatch(t, want, firstNames(table(t, "docs/options.md", "in the block of `destination`")))
}

func TestOptionsTableOfNATS(t *testing.T) {
	caddyfile := parse(t, "caddymodule/nats/caddyfile.go")
	inTLS := cases(function(t, caddyfile, "parseTLS"))
	require.NotEmpty(t, inTLS)
	var want []string
	for _, option := range entries(t, caddyfile, "caddyfileOptions") {
		if option != "tls" { // instead there are rows for its options
			want = append(want, option)
		}
	}
	for _, option := range inTLS {
		want = append(want, "tls "+option)
	}
	require.ElementsMatch(t, want, firstNames(table(t, "docs/options.md", natsColumn)))
}

// natsColumn is the heading of the first column of the options of an inbox on NATS.
const natsColumn = "in the block of `inbox nats`"

// TestJSONFields compares the JSON fields of the config with those on the page that
// describes them.
func TestJSONFields(t *testing.T) {
	var inCode []string
	for _, config := range configs(t) {
		for field := range config.Fields() {
			if name := jsonName(field); name != "" {
				inCode = append(inCode, name)
			}
		}
	}
	require.Greater(t, len(inCode), 30)

	var described []string
	_, prose := split(t, read(t, "docs/json-config.md"))
	for line := range strings.Lines(prose) {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok && strings.HasPrefix(line, "| `") {
			described = append(described, named(cell)...)
		}
	}
	require.ElementsMatch(t, inCode, described)
}

func TestEveryProblemIsExplained(t *testing.T) {
	kinds := make(map[string]bool)
	for _, kind := range keyed(parse(t, "answer.go"), "kind") {
		kinds[kind] = true
	}
	require.Greater(t, len(kinds), 5)
	_, prose := split(t, read(t, "docs/answers.md"))
	sections := anchors(prose)
	require.Equal(t, "answers-to-the-caller", sections[0])
	explained := make(map[string]bool)
	for _, section := range sections[1:] {
		explained[section] = true
	}
	require.Equal(t, kinds, explained)
}

// TestLogTable checks that every message of the table is in the code that logs them.
func TestLogTable(t *testing.T) {
	texts := make(map[string]bool)
	for _, path := range []string{"receive.go", "gateway/observer.go", "gateway/pressure.go", "gateway/route.go", "gateway/left.go", "gateway/emit.go", "gateway/asking.go", "gateway/share.go", "gateway/confirm.go", "asking/fotor.go", "gateway/journal.go"} {
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if s, ok := text(e); ok {
					texts[s] = true
				}
			}
			return true
		})
	}
	for _, row := range table(t, "docs/metrics.md", "level") {
		require.Contains(t, texts, named(row[1])[0])
	}
}

// TestDependencies compares the direct dependencies with those on the page that gives the
// reasons for them.
func TestDependencies(t *testing.T) {
	var inMod []string
	for line := range strings.Lines(read(t, "go.mod")) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "\t") && len(fields) == 2 {
			inMod = append(inMod, fields[0])
		}
	}
	require.NotEmpty(t, inMod)

	_, prose := split(t, read(t, "docs/dependencies.md"))
	var explained []string
	for line := range strings.Lines(prose) {
		if strings.HasPrefix(line, "| `") {
			explained = append(explained, named(line)[0])
		}
	}
	require.ElementsMatch(t, inMod, explained)
}
