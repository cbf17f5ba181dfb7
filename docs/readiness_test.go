package docs

import (
	"go/ast"
	"testing"

	"github.com/stretchr/testify/require"
)

const readinessPage = "docs/readiness.md"

// TestReasonsTable compares the reasons for not being ready with those that the page
// explains.
func TestReasonsTable(t *testing.T) {
	var inCode []string
	ast.Inspect(parse(t, "caddymodule/ready/answer.go"), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if ident, ok := spec.Type.(*ast.Ident); !ok || ident.Name != "reason" {
			return true
		}
		if s, ok := text(spec.Values[0]); ok && s != "" {
			inCode = append(inCode, s)
		}
		return true
	})
	require.NotEmpty(t, inCode)
	require.ElementsMatch(t, inCode, firstNames(table(t, readinessPage, "reason")))
}
