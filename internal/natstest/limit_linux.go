package natstest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Unlimited removes the limit set by Limit.
const Unlimited = uint64(unix.RLIM_INFINITY)

// Limit limits the size of the files that a separate server can write, which
// has the effect of a full disk.
func (c *Cluster) Limit(i int, bytes uint64) error {
	p, ok := c.nodes[i].running.(*process)
	if !ok {
		return errors.New("only a running server in a process of its own can be limited")
	}
	return unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil)
}
