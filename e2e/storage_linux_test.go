package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// When the disk is full, callbacks are refused, but deliveries go on and are recorded. Once
// there is room, callbacks are accepted again, without a restart.
func TestFullDisk(t *testing.T) {
	dir := openDir(t)
	if out, err := withSmallDisk(command(t, "version"), dir).CombinedOutput(); err != nil {
		t.Logf("this system lets nobody mount a file system (%v: %s): a limit on the size of files stands in for a full disk", err, out)
		testFileSizeLimit(t)
		return
	}
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	g.DB = filepath.Join(dir, "inbox.db")
	config := configFile(t, g.Caddyfile("forward "+up.URL+quick, "", quiet))
	p := launch(t, withSmallDisk(command(t, "run", "--adapter", "caddyfile", "--config", config), dir))
	p.AwaitPort(g.Port)
	// only the process sees the disk
	ballast := filepath.Join(fmt.Sprintf("/proc/%d/root", p.cmd.Process.Pid), dir, "ballast")
	require.FileExists(t, ballast)

	ids := g.fill("task-")
	assert.Greater(t, len(ids), 50)
	up.Answer(nil)
	up.requireDelivered(t, ids)
	await(t, func() bool { return g.Events("delivered") == len(ids) }, "the deliveries to be recorded on the full disk")
	g.isRefusal(g.Post(avatar("still full")))

	require.NoError(t, os.Remove(ballast))
	ids = append(ids, g.resume("after"))
	up.requireDelivered(t, ids)
	for i := range 50 {
		ids = append(ids, g.Accept(avatar(fmt.Sprint("later-", i))))
	}
	up.requireDelivered(t, ids)
	assert.True(t, p.Output.Contains("full"), "the log says so: %s", p.Output)
	p.Terminate()
	assert.Zero(t, p.ExitCode())
}

// withSmallDisk changes a command such that it sees a disk of 20 MiB, with 10 MiB of ballast
// on it, mounted at dir.
func withSmallDisk(cmd *exec.Cmd, dir string) *exec.Cmd {
	const script = `mount -t tmpfs -o size=20m,mode=0777 tmpfs "$0" && head -c 10485760 /dev/zero >"$0/ballast" && exec "$@"`
	cmd.Args = append([]string{"sh", "-c", script, dir, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// A write that fails for another reason than a full disk is no different for callers.
func TestFileSizeLimit(t *testing.T) { testFileSizeLimit(t) }

func testFileSizeLimit(t *testing.T) {
	t.Helper()
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	p := g.Run(g.Caddyfile("forward "+up.URL+quick, "", quiet))
	limit := func(bytes uint64) {
		require.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil))
	}
	ids := []string{g.Accept(avatar("before"))}
	limit(1 << 20)
	ids = append(ids, g.fill("task-")...)
	require.True(t, p.Running())

	limit(unix.RLIM_INFINITY)
	ids = append(ids, g.resume("after"))
	up.Answer(nil)
	up.requireDelivered(t, ids)
	await(t, func() bool { return g.Events("pending") == 0 }, "the deliveries to be recorded")
	p.Terminate()
	assert.Zero(t, p.ExitCode())
	checkFile(t, g.DB)
}
