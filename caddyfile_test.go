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
	routes, err := adapt(t, input)
	if err != nil {
		return err.Error() + "\n"
	}
	require.NotEmpty(t, routes)
	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, routes[0].Handle[0], "", "\t"))
	return indented.String() + "\n"
}

// route is a route of a site in JSON.
type route struct {
	Match  json.RawMessage   `json:"match"`
	Handle []json.RawMessage `json:"handle"`
}

// adapt returns the routes of a Caddyfile's site, or the error of the adapter.
func adapt(t *testing.T, input string) ([]route, error) {
	t.Helper()
	adapter := caddyconfig.GetAdapter("caddyfile")
	adapted, _, err := adapter.Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []route `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	require.NoError(t, json.Unmarshal(adapted, &config))
	return config.Apps.HTTP.Servers["srv0"].Routes, nil
}

// A URL in the directive's line is never taken for its matcher, nor the matcher for it.
func TestMatcherBeforeTheURL(t *testing.T) {
	for arguments, want := range map[string]string{
		"http://127.0.0.1:9000/events":       ``,
		"* http://127.0.0.1:9000/events":     ``,
		"{env.EVENTS_URL}":                   ``,
		"/hook http://127.0.0.1:9000/events": `[{"path":["/hook"]}]`,
		"@hook http://127.0.0.1:9000/events": `[{"method":["POST"]}]`,
		"/hook":                              `[{"path":["/hook"]}]`, // and forward in the block
	} {
		block := ""
		if !strings.Contains(arguments, " ") && arguments[0] == '/' {
			block = " {\n\t\tforward http://127.0.0.1:9000/events\n\t}"
		}
		routes, err := adapt(t, ":80 {\n\t@hook method POST\n\tfotor_webhook "+arguments+block+"\n}\n")
		require.NoError(t, err, arguments)
		require.Len(t, routes, 1)
		if want == "" {
			assert.Empty(t, routes[0].Match, arguments)
		} else {
			assert.JSONEq(t, want, string(routes[0].Match), arguments)
		}
		var handler Handler
		require.NoError(t, json.Unmarshal(routes[0].Handle[0], &handler))
		require.NotEmpty(t, handler.Forward.URL)
		assert.True(t, block != "" || strings.HasSuffix(arguments, handler.Forward.URL), arguments)
	}
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
