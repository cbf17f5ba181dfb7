//go:build unix

package natstest

import (
	"errors"
	"syscall"
)

// Freeze stops the process of a separate server, like a machine that is out of
// memory or whose disk hangs: its connections stay open, and what is sent to it
// is never answered. Thaw continues it.
func (c *Cluster) Freeze(i int) error { return c.signal(i, syscall.SIGSTOP, true) }

// Thaw continues a frozen server.
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
