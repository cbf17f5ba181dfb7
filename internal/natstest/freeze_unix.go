//go:build unix

package natstest

import (
	"errors"
	"syscall"
)

// Freeze stops a server in a process of its own, as if its machine were out of memory or
// its disk hung: its connections stay open, and what is sent to it is not answered. Thaw
// lets it go on.
func (c *Cluster) Freeze(i int) error { return c.signal(i, syscall.SIGSTOP, true) }

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw(i int) error { return c.signal(i, syscall.SIGCONT, false) }

func (c *Cluster) signal(i int, sig syscall.Signal, frozen bool) error {
	n := c.nodes[i]
	p, ok := n.running.(*process)
	if !ok {
		return errors.New("only a running server in a process of its own can be frozen")
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	n.cut, p.frozen = frozen, frozen
	return nil
}
