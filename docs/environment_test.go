package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNamedTests: the tests that the page names are there.
func TestNamedTests(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "e2e", "*_test.go"))
	require.NoError(t, err)
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range declared.FindAllStringSubmatch(string(content), -1) {
			there[match[1]] = true
		}
	}
	_, prose := split(t, read(t, "docs/environment.md"))
	names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(prose, -1)
	require.Greater(t, len(names), 8)
	for _, match := range names {
		require.True(t, there[match[1]], match[1])
	}
}
