package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// As in a container with a read-only root, or with systemd's ProtectSystem=strict: the
// gateway writes below its data directory and nowhere else.
func TestReadOnlyRoot(t *testing.T) {
	data := openDir(t)
	if out, err := readOnly(command(t, "version"), data).CombinedOutput(); err != nil {
		t.Logf("this system lets nobody mount a file system (%v: %s): another user, who may write nothing else, stands in for it", err, out)
		testOtherUser(t, data)
		return
	}
	testReadOnly(t, data, func(cmd *exec.Cmd) *exec.Cmd { return readOnly(cmd, data) })
}

func testOtherUser(t *testing.T, data string) {
	t.Helper()
	testReadOnly(t, data, func(cmd *exec.Cmd) *exec.Cmd {
		asNobody(cmd)
		return cmd
	})
}

// A user without any rights needs no more than the data directory.
func TestUserWithoutRights(t *testing.T) { testOtherUser(t, openDir(t)) }

func testReadOnly(t *testing.T, data string, change func(*exec.Cmd) *exec.Cmd) {
	t.Helper()
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.DB = filepath.Join(data, "caddy", "fotor_webhook", "default.db")
	config := g.Caddyfile("forward "+up.URL+quick+"\ninbox sqlite", readySite, quiet)
	cmd := command(t, "run", "--adapter", "caddyfile", "--config", configFile(t, config))
	cmd.Env = append(cmd.Env, "XDG_DATA_HOME="+data)
	p := launch(t, change(cmd))
	p.AwaitPort(g.Port)
	g.becomesReady()
	up.requireDelivered(t, []string{g.Accept(avatar("task"))})
	p.Terminate()
	assert.Zero(t, p.ExitCode())
	assert.Empty(t, p.Output.String(), "nothing went wrong")
	require.FileExists(t, g.DB)
}

// readOnly changes a command such that it can write below a directory and nowhere else.
func readOnly(cmd *exec.Cmd, data string) *exec.Cmd {
	const script = `mount --bind "$0" "$0" && mount -o remount,bind,ro / || exit 1
for dir in /tmp /var /dev/shm; do
	mount --bind "$dir" "$dir" && mount -o remount,bind,ro "$dir" || exit 1
done
mount --bind "$0" "$0" && mount -o remount,bind,rw "$0" || exit 1
if touch /tmp/.writable 2>/dev/null; then exit 1; fi
exec "$@"`
	cmd.Args = append([]string{"sh", "-c", script, data, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}
