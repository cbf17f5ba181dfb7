package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/caddybinary"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// the few tests that run beside others wait far more than they compute
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(binaryDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// binaryDir has the built binary; "" until a test needs it.
var binaryDir string

// binary builds cmd/caddy, once for all tests, and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fotor-caddy")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // one test runs it as another user
		return "", err
	}
	return caddybinary.Build(context.Background(), dir)
})

// process is the built Caddy, run as an operator runs it.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the exit; valid once exited is closed

	// Output is its standard output and error.
	Output *output
}

// command makes a command of the built Caddy, with a home of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	home := openDir(t)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	cmd.Env = caddybinary.Environ(home)
	return cmd
}

// openDir makes a directory that every user may use.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) //nolint:gosec // so that another user gets to it
	require.NoError(t, os.Chmod(dir, 0o777))               //nolint:gosec // as its name says
	return dir
}

// configFile writes a Caddyfile and returns its path.
func configFile(t *testing.T, caddyfile string) string {
	t.Helper()
	path := filepath.Join(openDir(t), "Caddyfile")
	require.NoError(t, os.WriteFile(path, []byte(caddyfile), 0o644)) //nolint:gosec // one test runs it as another user
	return path
}

// launch starts a command. It is killed when the test ends, if it still runs.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, exited: make(chan struct{}), Output: new(output)}
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of process %d:\n%s", cmd.Process.Pid, p.Output.tail(8<<10))
		}
	})
	return p
}

// Launch starts the built Caddy with a Caddyfile.
func (g *gateway) Launch(caddyfile string) *process {
	g.t.Helper()
	return launch(g.t, command(g.t, "run", "--adapter", "caddyfile", "--config", configFile(g.t, caddyfile)))
}

// Run starts the built Caddy with a Caddyfile and waits until it has started.
func (g *gateway) Run(caddyfile string) *process {
	g.t.Helper()
	return start(g.t, command(g.t, "run", "--adapter", "caddyfile", "--config", configFile(g.t, caddyfile)))
}

// start launches the built Caddy and waits until all of it has started. It listens before
// that: Caddy starts the HTTP server and the gateway in any order.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	defer listener.Close()
	const started = "started"
	cmd.Args = append(cmd.Args, "--pingback", listener.Addr().String()) // as `caddy start` does
	cmd.Stdin = strings.NewReader(started)
	p := launch(t, cmd)
	go func() {
		<-p.exited
		_ = listener.Close() // nothing will come
	}()
	require.NoError(t, listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	conn, err := listener.Accept()
	require.NoError(t, err, "Caddy does not start: %s", p.Output)
	defer conn.Close()
	told, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, started, string(told))
	return p
}

// AwaitPort waits until the process listens there.
func (p *process) AwaitPort(port int) {
	p.t.Helper()
	await(p.t, func() bool { return listens(p.t, port) || !p.Running() }, "Caddy to listen")
	require.True(p.t, p.Running(), "Caddy ended: %s", p.Output)
}

// listens reports whether something listens on a local port.
func listens(t *testing.T, port int) bool {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	require.NoError(t, conn.Close())
	return true
}

// Running reports whether the process has not ended.
func (p *process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Kill kills the process, which cannot react to that.
func (p *process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("killing Caddy: %v", err)
	}
	<-p.exited
}

// Terminate sends the process SIGTERM.
func (p *process) Terminate() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// ExitCode waits until the process has ended, and returns its exit code.
func (p *process) ExitCode() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		require.FailNow(p.t, "Caddy does not end", "%s", p.Output)
	}
	return p.cmd.ProcessState.ExitCode()
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

// String returns all of it.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) tail(n int) string {
	s := o.String()
	return s[max(0, len(s)-n):]
}

// Contains reports whether a text was written.
func (o *output) Contains(text string) bool { return strings.Contains(o.String(), text) }
