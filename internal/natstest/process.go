package natstest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// variable makes a process of this program a NATS server with the settings
// that it holds.
const variable = "FOTOR_WEBHOOK_NATSTEST"

// init is where a process of a separate server goes its own way: whatever
// program this package is part of, main and tests are not for it.
func init() {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	if err := serve(text, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs a server until the input ends, which is when its parent does.
func serve(text string, in io.Reader, out io.Writer) error {
	s, err := decode(text)
	if err != nil {
		return err
	}
	running, err := s.run()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, ready)
	_, err = io.Copy(io.Discard, in)
	running.Shutdown()
	running.WaitForShutdown()
	return err
}

// ready is what a separate server prints when it takes connections.
const ready = "ready"

// process is a server in a process of its own.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	frozen bool
}

func startProcess(ctx context.Context, s settings) (instance, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := s.encode()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self) // it ends by stop or kill
	cmd.Env = append(os.Environ(), variable+"="+text)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != ready {
		err = errors.Join(err, p.kill())
		return nil, fmt.Errorf("NATS server %s did not start: %w: %s%s", s.Name, err, complaints.String(), s.logged())
	}
	return p, nil
}

func (p *process) stop() error {
	if p.frozen {
		return p.kill() // it hears nothing else
	}
	if err := p.stdin.Close(); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// kill ends the process like a power cut: it can do nothing about it.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed, and says so
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
