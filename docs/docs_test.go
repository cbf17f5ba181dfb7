// Package docs tests the documentation against the code: what the Markdown files say
// about options, metrics, answers and events must be what the code does.
//
// docs_test.go reads the pages and checks their links; code_test.go reads the code and
// compares tables with it. The others each test some pages: config_test.go (configs and
// events), cli_test.go, admin_api_test.go, and monitoring_test.go with promql_test.go.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the path of the repository from this package.
const root = ".."

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	require.NoError(t, err)
	return string(content)
}

// pages returns the paths of all Markdown files of the repository.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != ".") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			found = append(found, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(found), 8)
	return found
}

// fence is a block of code in a Markdown file.
type fence struct {
	info string // what follows the opening backquotes, such as "json"
	text string
	line int
}

// split returns a page's fences, and the page without them, line for line.
func split(t *testing.T, page string) (fences []fence, prose string) {
	t.Helper()
	var b strings.Builder
	var open *fence
	var indent string // of the open fence, which may be in a list
	for i, line := range strings.SplitAfter(page, "\n") {
		info, marks := strings.CutPrefix(strings.Trim(line, " \n"), "```")
		switch {
		case marks && open == nil:
			open = &fence{info: info, line: i + 1}
			indent = line[:strings.Index(line, "`")]
		case marks:
			fences = append(fences, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent)
		default:
			b.WriteString(line)
			continue
		}
		b.WriteString("\n")
	}
	require.Nil(t, open, "a block of code has no end")
	return fences, b.String()
}

// fencesOf returns the blocks of code of that kind in a page.
func fencesOf(t *testing.T, path, info string) []fence {
	t.Helper()
	all, _ := split(t, read(t, path))
	var wanted []fence
	for _, f := range all {
		if f.info == info {
			wanted = append(wanted, f)
		}
	}
	return wanted
}

// table returns the cells of the first table whose first column has that heading.
func table(t *testing.T, path, column string) [][]string {
	t.Helper()
	_, prose := split(t, read(t, path))
	_, rest, found := strings.Cut(prose, "\n| "+column+" |")
	require.True(t, found, "%s has no table whose first column is %q", path, column)
	var rows [][]string
	lines := strings.Split(rest, "\n")
	require.True(t, strings.HasPrefix(lines[1], "|--"), lines[1])
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		for i, cell := range cells {
			cells[i] = strings.TrimSpace(cell)
		}
		rows = append(rows, cells)
	}
	require.NotEmpty(t, rows)
	return rows
}

var code = regexp.MustCompile("`([^`]+)`")

// named returns the texts in backquotes in a cell.
func named(cell string) []string {
	var names []string
	for _, match := range code.FindAllStringSubmatch(cell, -1) {
		names = append(names, match[1])
	}
	return names
}

// firstNames returns the texts in backquotes in the first cells of rows.
func firstNames(rows [][]string) []string {
	var names []string
	for _, row := range rows {
		names = append(names, named(row[0])...)
	}
	return names
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	noise   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the fragments that GitHub gives to a page's headings.
func anchors(prose string) []string {
	var found []string
	for _, match := range heading.FindAllStringSubmatch(prose, -1) {
		text := noise.ReplaceAllString(strings.ToLower(match[1]), "")
		found = append(found, strings.ReplaceAll(text, " ", "-"))
	}
	return found
}

func TestLinksLead(t *testing.T) {
	links := 0
	for _, page := range pages(t) {
		_, prose := split(t, read(t, page))
		for _, match := range link.FindAllStringSubmatch(prose, -1) {
			target := match[1]
			if strings.Contains(target, "://") {
				continue
			}
			links++
			path, fragment, _ := strings.Cut(target, "#")
			targetPage := page
			if path != "" {
				targetPage = filepath.ToSlash(filepath.Join(filepath.Dir(page), filepath.FromSlash(path)))
				_, err := os.Stat(filepath.Join(root, filepath.FromSlash(targetPage)))
				require.NoError(t, err, "%s links to %s", page, target)
			}
			if fragment != "" && strings.HasSuffix(targetPage, ".md") {
				_, text := split(t, read(t, targetPage))
				require.Contains(t, anchors(text), fragment, "%s links to %s", page, target)
			}
		}
	}
	require.Greater(t, links, 30)
}
