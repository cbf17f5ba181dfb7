//go:build unix

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Without the admin endpoint a changed Caddyfile is loaded with a signal. The events that
// wait are not lost.
func TestReloadBySignal(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := func(url string) string {
		return strings.Replace(g.Caddyfile("forward "+url+quick, "", quiet), fmt.Sprintf("admin 127.0.0.1:%d", g.Admin), "admin off", 1)
	}
	file := configFile(t, config("http://127.0.0.1:9"))
	p := start(t, command(t, "run", "--adapter", "caddyfile", "--config", file))
	id := g.Accept(notice("task", 1))
	require.NoError(t, os.WriteFile(file, []byte(config(up.URL)), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGUSR1))
	up.requireDelivered(t, []string{id})
	p.Terminate()
	assert.Zero(t, p.ExitCode(), "%s", p.Output)
}
