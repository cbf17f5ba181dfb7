//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"syscall"
)

// asNobody has a command run by a user to whom file permissions apply, which
// they do not for root.
func asNobody(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}
