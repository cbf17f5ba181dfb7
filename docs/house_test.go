package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// house lists the files of the root package and the packages below it, these with a
// slash at the end.
func house(t *testing.T) (rooms []string) {
	t.Helper()
	packages := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !strings.HasSuffix(file, ".go"):
		case path.Dir(file) != ".":
			packages[path.Dir(file)+"/"] = true
		case !strings.HasSuffix(file, "_test.go"):
			rooms = append(rooms, file)
		}
		return nil
	})
	require.NoError(t, err)
	for name := range packages {
		rooms = append(rooms, name)
	}
	return rooms
}

// TestHouse compares the files and packages with the tables that say what lives
// where.
func TestHouse(t *testing.T) {
	rooms := house(t)
	for _, page := range []string{"CONTRIBUTING.md", "docs/design.md"} {
		var shown []string
		for _, row := range table(t, page, "place") {
			place := named(row[0])[0]
			shown = append(shown, place)
			_, err := os.Stat(filepath.Join(root, filepath.FromSlash(place)))
			require.NoError(t, err, page)
		}
		assert.Subset(t, shown, rooms, "%s: every file of the root and every package has a line", page)
	}
}

// TestNamedFiles checks that the source files that the design names are there.
func TestNamedFiles(t *testing.T) {
	known := make(map[string]bool)
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(file string, _ fs.DirEntry, err error) error {
		known[path.Base(file)] = true
		return err
	}))
	named := regexp.MustCompile("`([a-z_]+[.]go)`").FindAllStringSubmatch(read(t, "docs/design.md"), -1)
	require.NotEmpty(t, named)
	for _, match := range named {
		assert.True(t, known[match[1]], match[1])
	}
}
