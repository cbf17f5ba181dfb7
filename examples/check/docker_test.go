package check

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// instructions returns the instructions of xcaddy.Dockerfile, each on one line, without
// comments.
func instructions(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "xcaddy.Dockerfile"))
	require.NoError(t, err)
	var found []string
	goesOn := false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text := strings.TrimSpace(strings.TrimSuffix(line, `\`))
		if goesOn {
			found[len(found)-1] += " " + text
		} else {
			found = append(found, text)
		}
		goesOn = strings.HasSuffix(line, `\`)
	}
	require.False(t, goesOn)
	return found
}

// The image runs as a user who can write the volume and nothing else.
func TestDockerfile(t *testing.T) {
	all := instructions(t)
	var last []string // of the last stage
	for _, i := range all {
		if strings.HasPrefix(i, "FROM ") {
			last = nil
		}
		last = append(last, i)
	}
	assert.NotContains(t, last[0], "FROM caddy:", "it would keep a second Caddy in a layer below")
	assert.Contains(t, last, "USER 10001:10001")
	assert.Contains(t, last, "VOLUME /data")
	assert.Contains(t, last, "ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config")
	owned, volume := -1, -1
	for n, i := range last {
		if strings.Contains(i, "chown -R caddy:caddy /data") {
			owned = n
		}
		if i == "VOLUME /data" {
			volume = n
		}
	}
	assert.True(t, owned >= 0 && owned < volume, "what is changed in a volume later is lost")
	for _, i := range all {
		if run, ok := strings.CutPrefix(i, "RUN "); ok {
			shell(t, "-n", run)
		}
	}
}

// shell runs a line as the image's shell would.
func shell(t *testing.T, flag, line string, env ...string) (exit int, output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", flag, line)
	if flag == "-n" { // reads it only
		cmd = exec.CommandContext(t.Context(), "sh", "-n")
		cmd.Stdin = strings.NewReader(line)
	}
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if exited := new(exec.ExitError); !errors.As(err, &exited) {
		require.NoError(t, err)
	}
	if flag == "-n" {
		require.Zero(t, cmd.ProcessState.ExitCode(), "%s: %s", line, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// busybox stands in for the image's wget. READY and ADMIN say what its two addresses do.
const busybox = `#!/bin/sh
for url; do :; done
case "$url" in
"$FOTOR_WEBHOOK_READY") does=$READY ;;
http://127.0.0.1:2019/config/) does=$ADMIN ;;
*) echo "wget: bad address '$url'"; exit 1 ;;
esac
case "$does" in
200) exit 0 ;;
refused) echo "wget: can't connect to remote host (127.0.0.1): Connection refused" >&2 ;;
*) echo "wget: server returned error: HTTP/1.1 $does" >&2 ;;
esac
exit 1
`

func TestHealthCheck(t *testing.T) {
	var line, env string
	for _, i := range instructions(t) {
		if rest, ok := strings.CutPrefix(i, "HEALTHCHECK "); ok {
			_, line, ok = strings.Cut(rest, "CMD ")
			require.True(t, ok)
			assert.Contains(t, rest, "--timeout=3s")
		}
		if rest, ok := strings.CutPrefix(i, "ENV FOTOR_WEBHOOK_READY="); ok {
			env = "FOTOR_WEBHOOK_READY=" + rest
		}
	}
	require.NotEmpty(t, line)
	require.NotEmpty(t, env)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wget"), []byte(busybox), 0o755)) //nolint:gosec // to be run
	for _, is := range []struct {
		ready, admin string
		exit         int
	}{
		{"200", "200", 0},
		{"200", "refused", 0},     // admin off
		{"503", "200", 1},         // it does not store
		{"404", "200", 1},         // another service is there: FOTOR_WEBHOOK_READY is wrong
		{"refused", "200", 0},     // the config has no readiness
		{"refused", "refused", 1}, // Caddy does not run
	} {
		exit, output := shell(t, "-c", line, "PATH="+dir+":"+os.Getenv("PATH"), env, "READY="+is.ready, "ADMIN="+is.admin)
		assert.Equal(t, is.exit, exit, "%+v: %s", is, output)
		if exit != 0 {
			assert.NotEmpty(t, output, "docker inspect shows why")
		}
	}
}
