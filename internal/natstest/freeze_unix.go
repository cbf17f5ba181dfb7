//go:build unix

package natstest

import (
	"errors"
	"fmt"
	"syscall"
)

// Freeze stops the process of a separate server, like a machine that is out of
// memory or whose disk hangs: its connections stay open, and what is sent to it
// is never answered. Thaw continues it.
func (c *Cluster) Freeze(i int) error {
	p, err := c.signal(i, syscall.SIGSTOP, true)
	if err != nil {
		return err
	}
	// The signal stops one thread after the other: on a busy machine the server
	// could still answer.
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for a server to freeze: %w", err)
		case !status.Stopped():
			return errors.New("the server has ended instead of freezing")
		default:
			return nil
		}
	}
}

// Thaw continues a frozen server.
func (c *Cluster) Thaw(i int) error {
	_, err := c.signal(i, syscall.SIGCONT, false)
	return err
}

func (c *Cluster) signal(i int, sig syscall.Signal, frozen bool) (*process, error) {
	n := c.nodes[i]
	p, ok := n.running.(*process)
	if !ok {
		return nil, errors.New("only a running server in a process of its own can be frozen")
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return nil, err
	}
	n.cut, p.frozen = frozen, frozen
	return p, nil
}
