package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A full disk is not ready, though deliveries go on there. It is ready once there is room,
// without a restart and without a callback: a load balancer would send none.
func TestReadyOnAFullDisk(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	var p *process
	var makeRoom func()
	dir := openDir(t)
	if out, err := withSmallDisk(command(t, "version"), dir).CombinedOutput(); err == nil {
		g.DB = filepath.Join(dir, "inbox.db")
		config := configFile(t, g.Caddyfile("forward "+up.URL+quick, readySite, quiet))
		p = launch(t, withSmallDisk(command(t, "run", "--adapter", "caddyfile", "--config", config), dir))
		p.AwaitPort(g.Port)
		ballast := filepath.Join(fmt.Sprintf("/proc/%d/root", p.cmd.Process.Pid), dir, "ballast")
		makeRoom = func() { require.NoError(t, os.Remove(ballast)) }
	} else {
		t.Logf("this system lets nobody mount a file system (%v: %s): a limit on the size of files stands in for a full disk", err, out)
		p = g.Run(g.Caddyfile("forward "+up.URL+quick, readySite, quiet))
		limit := func(bytes uint64) {
			require.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil))
		}
		limit(1 << 20)
		makeRoom = func() { limit(unix.RLIM_INFINITY) }
	}
	g.becomesReady()
	ids := g.fill("task-")
	await(t, func() bool { // an I/O error if it is but a limit
		status, _ := g.Ready()
		return status == http.StatusServiceUnavailable
	}, "the full disk to be noticed")
	g.isRefusal(g.Post(avatar("still full")))
	status, reasons := g.Ready()
	assert.Equal(t, http.StatusServiceUnavailable, status, reasons)

	up.Answer(nil)
	up.requireDelivered(t, ids)
	makeRoom()
	g.becomesReady()
	up.requireDelivered(t, []string{g.Accept(avatar("after"))})
	p.Terminate()
	assert.Zero(t, p.ExitCode())
}
