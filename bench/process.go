package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end before it is killed.
const stopGrace = 20 * time.Second

// command prepares a process that gets SIGTERM when ctx ends, and SIGKILL if it does not
// end then.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	return cmd
}

// play runs a role in a process of its own until it has answered. It returns the CPU time
// that the process used.
func play(ctx context.Context, role string, spec, result any) (cpu time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	input, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	cmd := command(ctx, self, role)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", role, err)
	}
	if err := json.Unmarshal(output, result); err != nil {
		return 0, fmt.Errorf("%s answered %q: %w", role, output, err)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// upstream is the running upstream.
type upstream struct {
	address string
	stop    func()
}

// startUpstream runs the upstream in a process of its own.
func startUpstream(ctx context.Context) (*upstream, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := command(ctx, self, roleUpstream)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // kept open: closing it ends the process
	if err != nil {
		cancel()
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	stop := func() {
		_ = stdin.Close()
		_ = cmd.Wait() // its exit code does not matter
		cancel()
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return nil, fmt.Errorf("upstream did not start: %w", err)
	}
	return &upstream{address: strings.TrimSpace(address), stop: stop}, nil
}

// taken returns how many events the upstream has taken.
func (u *upstream) taken(ctx context.Context) (int64, error) { return u.count(ctx, takenPath) }

// repeated returns how often a slow upstream got an event again.
func (u *upstream) repeated(ctx context.Context) (int64, error) { return u.count(ctx, repeatedPath) }

func (u *upstream) count(ctx context.Context, path string) (int64, error) {
	var count int64
	text, err := get(ctx, "http://"+u.address+path)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(text), &count); err != nil {
		return 0, fmt.Errorf("upstream counts %q: %w", text, err)
	}
	return count, nil
}

// tail returns the end of a process's output, for an error message.
func tail(file *os.File) string {
	const most = 4 << 10
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	text := make([]byte, min(info.Size(), most))
	if _, err := file.ReadAt(text, info.Size()-int64(len(text))); err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	return string(text)
}
