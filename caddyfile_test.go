package fotorwebhook

import (
	"bytes"
	"encoding/json"
	goflag "flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = goflag.Bool("update", false, "write the results into the golden files")

const separator = "----------\n"

// TestCaddyfile adapts every file in testdata/caddyfile: the Caddyfile above the line of
// dashes must give exactly the JSON, or exactly the error, below it.
func TestCaddyfile(t *testing.T) {
	files, err := filepath.Glob("testdata/caddyfile/*.caddyfiletest")
	require.NoError(t, err)
	require.Greater(t, len(files), 20)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			input, want, found := strings.Cut(string(content), separator)
			require.True(t, found, "no line of dashes")

			got := adaptSite(t, input)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(input+separator+got), 0o600))
				return
			}
			if strings.HasPrefix(want, "{") {
				assert.JSONEq(t, want, got)
				return
			}
			assert.Equal(t, want, got)
		})
	}
}

// adaptSite returns the JSON of the first handler of a Caddyfile's site, or the error of
// the adapter, with a line break at the end.
func adaptSite(t *testing.T, input string) string {
	t.Helper()
	adapter := caddyconfig.GetAdapter("caddyfile")
	adapted, _, err := adapter.Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error() + "\n"
	}
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct {
						Handle []json.RawMessage `json:"handle"`
					} `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	require.NoError(t, json.Unmarshal(adapted, &config))
	routes := config.Apps.HTTP.Servers["srv0"].Routes
	require.NotEmpty(t, routes)
	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, routes[0].Handle[0], "", "\t"))
	return indented.String() + "\n"
}

// TestDirectiveOrder: the directive needs no order option, and comes before directives
// that would answer instead.
func TestDirectiveOrder(t *testing.T) {
	got := adaptSite(t, ":80 {\n\trespond 404\n\tfotor_webhook /callback {\n\t\tforward http://app/\n\t}\n}\n")
	assert.Contains(t, got, `"handler": "fotor_webhook"`)
}

// FuzzCaddyfile: whatever the tokens, the parser returns an error or valid JSON.
func FuzzCaddyfile(f *testing.F) {
	files, err := filepath.Glob("testdata/caddyfile/*.caddyfiletest")
	require.NoError(f, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(f, err)
		input, _, _ := strings.Cut(string(content), separator)
		f.Add(input)
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	f.Fuzz(func(t *testing.T, input string) {
		if strings.Contains(input, "import") {
			t.Log("an import reads files, which is not under test here")
			return
		}
		adapted, _, err := adapter.Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
		if err == nil {
			require.True(t, json.Valid(adapted))
		}
	})
}
