package browsertest

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// axeVersion is the release of axe-core that judges pages for those who cannot see them as
// most do. It is fetched with npm for each run: nothing of it is in the repository.
const axeVersion = "4.14.1"

const needNPM = `this test fetches axe-core with npm, and that failed: expected npm in PATH, and a registry that it reaches.
On Debian: apt-get install npm`

// axe is the source of axe-core, fetched once for all tests.
var axe = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(binaries, "axe")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(context.Background(), "npm", "pack", "--silent", "axe-core@"+axeVersion)
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s\n%w\n%s", needNPM, err, output)
	}
	return fileOf(filepath.Join(dir, "axe-core-"+axeVersion+".tgz"), "package/axe.min.js")
})

// fileOf reads a file of an archive.
func fileOf(archive, name string) (string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return "", err
	}
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		if err != nil {
			return "", fmt.Errorf("%s in %s: %w", name, archive, err)
		}
		if header.Name == name {
			text, err := io.ReadAll(files)
			return string(text), err
		}
	}
}

// violation is a rule that a page breaks.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string
		FailureSummary string
	}
}

// accessible checks a page with axe-core: it breaks no rule, not even a minor one.
func (b *tab) accessible(page string) {
	b.t.Helper()
	source, err := axe()
	require.NoError(b.t, err)
	eval[any](b, source+"; 0")
	eval[any](b, `window.judged = undefined; axe.run().then((r) => { window.judged = JSON.stringify(r.violations) }); 0`)
	b.wait("window.judged !== undefined")
	var violations []violation
	require.NoError(b.t, json.Unmarshal([]byte(eval[string](b, "window.judged")), &violations))
	for _, v := range violations {
		var where []string
		for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
			where = append(where, n.HTML+"\n"+n.FailureSummary)
		}
		assert.Failf(b.t, "not for everyone", "%s: %s (%s): %s\n%s", page, v.ID, v.Impact, v.Help, strings.Join(where, "\n"))
	}
}
