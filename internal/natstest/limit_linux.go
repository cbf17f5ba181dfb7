package natstest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Unlimited is the size of files that Limit takes for none.
const Unlimited = uint64(unix.RLIM_INFINITY)

// Limit keeps a server of its own process from writing files larger than that,
// which for NATS is as a full disk is.
func (c *Cluster) Limit(i int, bytes uint64) error {
	p, ok := c.nodes[i].running.(*process)
	if !ok {
		return errors.New("only a running server in a process of its own can be limited")
	}
	return unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil)
}
