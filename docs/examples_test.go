package docs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// secretFile matches the files of secrets, which do not exist here.
var secretFile = regexp.MustCompile(`\{file\./run/[^}]*\}`)

// exampleCaddyfiles returns the Caddyfiles of the examples by where they are.
func exampleCaddyfiles(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	files, err := filepath.Glob(filepath.Join(root, "examples", "*", "*.Caddyfile"))
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		found[filepath.Base(file)] = string(content)
	}
	for _, name := range []string{"sqlite.yaml", "nats.yaml"} {
		documents := yaml.NewDecoder(strings.NewReader(read(t, "examples/kubernetes/"+name)))
		for {
			var object struct {
				Data map[string]string
			}
			err := documents.Decode(&object)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			if config, ok := object.Data["Caddyfile"]; ok {
				found[name] = config
			}
		}
	}
	return found
}

// TestCaddyfilesOfExamples adapts, provisions and validates the Caddyfiles of the
// examples. examples/check tests what is around them.
func TestCaddyfilesOfExamples(t *testing.T) {
	t.Setenv("FOTOR_WEBHOOK_SECRET", secret)
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	all := exampleCaddyfiles(t)
	require.Len(t, all, 4)
	all["asking"] = read(t, "examples/asking/Caddyfile")
	for name, text := range all {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, string(caddyfile.Format([]byte(text))), text, "not as `caddy fmt` has it")
			text = secretFile.ReplaceAllLiteralString(text, "{file."+file+"}")
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
			require.NoError(t, err)
			require.Empty(t, warnings)
			validate(t, adapted)
		})
	}
}

// TestHealthCheckOfTheImage: what the image asks is what the examples and the page about
// readiness have.
func TestHealthCheckOfTheImage(t *testing.T) {
	const asked = "http://127.0.0.1:8081/ready"
	require.Contains(t, read(t, "xcaddy.Dockerfile"), "ENV FOTOR_WEBHOOK_READY="+asked+"\n")
	require.Contains(t, read(t, readinessPage), asked)
	const answered = "http://:8081 {\n\tfotor_webhook_ready /ready\n"
	require.Contains(t, read(t, readinessPage), answered)
	for name, text := range exampleCaddyfiles(t) {
		if strings.Contains(text, "fotor_webhook ") {
			require.Contains(t, text, answered, name)
		}
	}
}
