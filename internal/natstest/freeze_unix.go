//go:build unix

package natstest

import (
	"errors"
	"syscall"
)

// Freeze makes a server of its own process stand still, as a machine does that
// is out of memory or whose disk hangs: its connections stay, and whatever is sent
// to it is taken by the system and never answered. Thaw lets it go on.
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
