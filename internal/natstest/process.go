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

// settingsVariable is an environment variable with the settings of a server. It
// makes this program run that server.
const settingsVariable = "FOTOR_WEBHOOK_NATSTEST"

// init runs the server in a process started for one. It never returns then, so
// that neither main nor tests run, whatever program this is.
func init() {
	text := os.Getenv(settingsVariable)
	if text == "" {
		return
	}
	if err := serve(text, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs a server until the input ends, which it does at the latest when
// the parent process ends.
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

// ready is printed by a separate server once it accepts connections.
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
	cmd.Env = append(os.Environ(), settingsVariable+"="+text)
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
		return p.kill() // it would not react to anything else
	}
	if err := p.stdin.Close(); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// kill kills the process.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // the error only says that it was killed
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
