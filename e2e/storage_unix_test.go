//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If the inbox cannot be written, the config is refused, with the name of the file.
func TestDirectoryThatIsReadOnly(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	dir := openDir(t)
	require.NoError(t, os.Chmod(dir, 0o555)) //nolint:gosec // read-only is what it is about
	path := filepath.Join(dir, "inbox.db")
	bad := g.Caddyfile("forward "+up.URL+"\ninbox sqlite "+path, "", "")

	cmd := command(t, "run", "--adapter", "caddyfile", "--config", configFile(t, bad))
	asNobody(cmd)
	p := launch(t, cmd)
	assert.NotZero(t, p.ExitCode())
	assert.True(t, p.Output.Contains(path), "%s", p.Output)
	assert.True(t, p.Output.Contains("permission denied"), "%s", p.Output)

	// a running Caddy keeps its config
	fine := filepath.Join(openDir(t), "inbox.db")
	cmd = command(t, "run", "--adapter", "caddyfile", "--config", configFile(t, g.Caddyfile("forward "+up.URL+"\ninbox sqlite "+fine, "", "")))
	asNobody(cmd)
	p = launch(t, cmd)
	p.AwaitPort(g.Port)
	r := newRequest(t, fmt.Sprintf("http://127.0.0.1:%d/load", g.Admin), strings.NewReader(bad))
	r.Header.Set("Content-Type", "text/caddyfile")
	answer := do(t, r)
	assert.Equal(t, http.StatusBadRequest, answer.Status, answer.Body)
	assert.Contains(t, answer.Body, path)
	assert.Contains(t, answer.Body, "permission denied")
	up.requireDelivered(t, []string{g.Accept(notice("task", 1))})
	p.Terminate()
	assert.Zero(t, p.ExitCode())
}

// asNobody lets a command run as a user to whom file permissions apply, which they do not
// to root.
func asNobody(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}
