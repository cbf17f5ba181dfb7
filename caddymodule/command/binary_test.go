package command

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/caddybinary"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
)

// builtBinary is Caddy with the module, as users run it.
type builtBinary struct {
	path string
	home string
}

// TestBinary runs the real binary, for what only shows there: exit codes, signals and
// pipes.
func TestBinary(t *testing.T) {
	path, err := caddybinary.Build(t.Context(), t.TempDir())
	require.NoError(t, err)
	b := &builtBinary{path: path, home: t.TempDir()}

	t.Run("exit codes", b.testExitCodes)
	t.Run("address", b.testAddress)
	t.Run("closed pipe", b.testClosedPipe)
	t.Run("completion", b.testCompletion)
	t.Run("help", b.testHelp)
	t.Run("signals", b.testSignals)
}

func (b *builtBinary) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.path, args...)
	cmd.Dir = b.home // no Caddyfile there
	cmd.Env = append(append(caddybinary.Environ(b.home), "NO_COLOR=", "TZ=UTC"), env...)
	return cmd
}

func (b *builtBinary) run(t *testing.T, args ...string) ran {
	t.Helper()
	return b.runWith(t, nil, append([]string{"fotor-webhook"}, args...)...)
}

func (b *builtBinary) runWith(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := b.command(ctx, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return ran{code: codeOf(t, cmd.Run()), stdout: stdout.String(), stderr: stderr.String()}
}

func codeOf(t *testing.T, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

func (b *builtBinary) testExitCodes(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	_, url := startGateway(t, refusal)
	closed := httptest.NewServer(http.NotFoundHandler())
	nobody := closed.Listener.Addr().String()
	closed.Close()
	for _, c := range []struct {
		args   string
		code   int
		stderr string // the end of it
	}{
		{"status", 0, ""},
		{"list --state dead", 0, ""},
		{"explain 54.212.95.175", 0, ""},
		{"replay --state dead --dry-run", 0, ""},
		{"bogus", 1, "Error: unknown command \"bogus\" for \"caddy fotor-webhook\"\n"},
		{"quarantine bogus", 1, "Error: unknown command \"bogus\" for \"caddy fotor-webhook quarantine\"\n"},
		{"list --bogus", 1, "Error: unknown flag: --bogus: see 'caddy fotor-webhook list --help'\n"},
		{"list extra", 1, "Error: unknown command \"extra\" for \"caddy fotor-webhook list\"\n"},
		{"show", 1, "Error: expected the id of an event, or --task with the id of a task\n"},
		{"purge --all", 1, "Error: there is no terminal to ask before a purge by filter: expected --yes or --dry-run\n"},
		{"list --address " + nobody, 1, "--address or --config tell another\n"},
		{"list --config none.json", 1, "no such file or directory\n"},
		{"show " + id(99), 4, "(HTTP 404 from the admin endpoint at ADDRESS)\n"},
		{"status nobody", 4, "(HTTP 404 from the admin endpoint at ADDRESS)\n"},
		{"quarantine release 99", 4, ""},
		{"explain 10.0.0.5", 5, ""},
		{"status --check", 5, ""},
		{"replay " + id(5), 0, ""},
		{"purge " + id(4), 5, "is being delivered (HTTP 409 from the admin endpoint at ADDRESS)\n"},
		{"quarantine release 8", 5, ""},
		{"send " + url, 0, ""},
		{"send " + url + " --repeat 2", 5, ""},
		{"send http://" + nobody, 1, ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := strings.Fields(c.args)
			if !strings.Contains(c.args, "--address") && !strings.Contains(c.args, "bogus") && args[0] != "send" && !strings.Contains(c.args, "--config") {
				args = append(args, "--address", f.addr)
			}
			r := b.run(t, args...)
			require.Equal(t, c.code, r.code, r.stdout+r.stderr)
			require.True(t, strings.HasSuffix(strings.ReplaceAll(r.stderr, f.addr, "ADDRESS"), c.stderr), r.stderr)
			if c.stderr == "" {
				require.Empty(t, r.stderr)
			} else {
				require.Equal(t, 1, strings.Count(r.stderr, "Error: "), r.stderr)
				require.Empty(t, r.stdout)
			}
			require.NotContains(t, r.stdout, "\x1b", "colours though there is no terminal")
		})
	}
}

// testAddress checks that the admin endpoint is found where Caddy's own commands find it.
func (b *builtBinary) testAddress(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	caddyfile := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(caddyfile, []byte("{\n\tadmin "+f.addr+"\n}\n"), 0o600))
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, []byte("{\n\tadmin "+f.addr+"\n}\n"), 0o600))
	for name, args := range map[string][]string{
		"Caddyfile": {"list", "--config", caddyfile},
		"adapter":   {"list", "-c", other, "-a", "caddyfile"},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.run(t, args...)
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, r.stdout, id(5))
		})
	}
	r := b.runWith(t, []string{"CADDY_ADMIN=" + f.addr}, "fotor-webhook", "list")
	require.Zero(t, r.code, r.stderr)
}

// testClosedPipe closes the pipe that the output goes to.
func (b *builtBinary) testClosedPipe(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	for _, command := range []string{"list", "list --json", "status", "tail"} {
		f.change(func() { f.handlers[0].streams = oneNotice(t) })
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		cmd := b.command(t.Context(), nil, append([]string{"fotor-webhook"}, append(strings.Fields(command), "--address", f.addr)...)...)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		require.Zero(t, codeOf(t, cmd.Run()), command)
		require.NoError(t, w.Close())
		require.Empty(t, stderr.String(), command)
	}
}

// testCompletion asks for completions as the scripts of "caddy completion" do.
func (b *builtBinary) testCompletion(t *testing.T) {
	f := startFake(t, sampleHandler("default"), sampleHandler("avatars"))
	f.mu.Lock()
	withDestinations(f, nil)
	f.mu.Unlock()
	for _, c := range []struct {
		typed []string
		want  []string
	}{
		{[]string{"list", "--state", ""}, []string{"pending", "delivered", "superseded", "dead", "skipped"}},
		{[]string{"replay", "--state", "dead,"}, []string{"dead,pending", "dead,delivered", "dead,superseded", "dead,skipped"}},
		{[]string{"tail", "--kind", ""}, kinds},
		{[]string{"list", "--type", ""}, sample.Types},
		{[]string{"send", "--type", ""}, sample.Types},
		{[]string{"send", "--status", ""}, []string{"in_progress", "completed", "failed"}},
		{[]string{"list", "--color", ""}, []string{"auto", "always", "never"}},
		{[]string{"list", "--address", f.addr, "--handler", ""}, []string{"default", "avatars"}},
		{[]string{"tail", "--address", f.addr, "--handler", ""}, []string{"default", "avatars"}},
		{[]string{"status", "--address", f.addr, ""}, []string{"default", "avatars"}},
		{[]string{"status", "--address", f.addr, "default", ""}, nil},
		{[]string{"list", "--address", f.addr, "--destination", ""}, []string{"archive", "default", "shop", "staging"}},
		{[]string{"status", "--address", f.addr, "-n", "avatars", "--destination", ""}, []string{"default"}},
		{[]string{"hold", "--address", f.addr, "--destination", ""}, []string{"archive", "default", "staging"}},
		{[]string{"status", "--address", f.addr, "avatars", "--destination", ""}, []string{"default"}},
		{[]string{"replay", "--address", f.addr, "--destination", "shop", "--to", ""}, []string{"archive", "default", "staging"}},
		{[]string{"replay", "--address", f.addr, "--destination", "staging", "--to", ""}, []string{"archive", "default"}},
		{[]string{"list", "--address", ""}, nil},
		{[]string{"list", "--adapter", ""}, []string{"caddyfile"}},
		{[]string{"list", "--address", "127.0.0.1:1", "--handler", ""}, nil},
		{[]string{"list", "--config", "/no/such/Caddyfile", "--destination", ""}, nil},
		{[]string{"show", ""}, nil},
		{[]string{"list", "--task", ""}, nil},
		{[]string{"quarantine", ""}, []string{
			"delete\tDeletes callbacks in quarantine", "list\tLists callbacks in quarantine",
			"release\tAccepts callbacks that are valid by now", "show\tShows a callback in quarantine",
		}},
	} {
		r := b.runWith(t, nil, append([]string{"__complete", "fotor-webhook"}, c.typed...)...)
		require.Zero(t, r.code, r.stderr)
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		directive := lines[len(lines)-1]
		require.Contains(t, []string{":4", ":6"}, directive, "files are offered: %v", c.typed)
		if c.want == nil {
			c.want = []string{}
		}
		require.Equal(t, c.want, lines[:len(lines)-1], c.typed)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		r := b.runWith(t, nil, "completion", shell)
		require.Zero(t, r.code, r.stderr)
		require.Contains(t, r.stdout, "__complete")
	}
}

func (b *builtBinary) testHelp(t *testing.T) {
	alone := b.run(t)
	require.Zero(t, alone.code)
	require.Contains(t, alone.stdout, "quarantine  Looks into and empties the quarantine")
	require.Equal(t, alone.stdout, b.run(t, "--help").stdout)
	require.Contains(t, b.run(t, "quarantine").stdout, "release     Accepts callbacks that are valid by now")
	require.Contains(t, b.runWith(t, nil, "--help").stdout, "fotor-webhook")
}
