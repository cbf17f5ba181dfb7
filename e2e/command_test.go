package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// cliResult is the exit code and the output of a command.
type cliResult struct {
	Code        int
	Out, ErrOut string
}

// CLI runs `caddy fotor-webhook` with the gateway's address.
func (g *gateway) CLI(args ...string) cliResult {
	g.t.Helper()
	args = append([]string{"fotor-webhook"}, args...)
	if args[1] != "send" {
		args = append(args, "--address", fmt.Sprintf("127.0.0.1:%d", g.Admin))
	}
	cmd := command(g.t, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		require.NoError(g.t, err)
	}
	return cliResult{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// requireCLI runs a command that must succeed, and returns its output.
func (g *gateway) requireCLI(args ...string) string {
	g.t.Helper()
	s := g.CLI(args...)
	require.Zero(g.t, s.Code, "%v: %s%s", args, s.Out, s.ErrOut)
	return s.Out
}

// Every command works with a real gateway.
func TestCommandsAgainstTheGateway(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, d delivery) {
		if d.Event.Type == "avatar" {
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, "no \x1b[31mportraits")
		}
	})
	g := newGateway(t)
	g.Start("forward "+up.URL, "", silent)

	// send posts as Fotor does
	out := g.requireCLI("send", g.URL(), "--type", "text2img", "--status", "in_progress,completed", "--repeat", "5")
	assert.Contains(t, out, "HTTP 200\t10")
	out = g.requireCLI("send", g.URL(), "--type", "avatar", "--sensitive", "--task", "portrait", "--json")
	var answer struct {
		HTTPStatus int `json:"httpStatus"`
		Answer     struct {
			ID string `json:"id"`
		} `json:"answer"`
	}
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &answer), out)
	require.Equal(t, http.StatusOK, answer.HTTPStatus)
	id := answer.Answer.ID
	await(t, func() bool { return g.Events("dead") == 1 && g.Events("pending") == 0 }, "all to end")
	assert.Contains(t, string(up.Deliveries()[len(up.Deliveries())-1].Body), `"sensitive":true`)

	bad := filepath.Join(t.TempDir(), "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"taskId":"x"}`), 0o600))
	s := g.CLI("send", g.URL(), "--file", bad)
	assert.Equal(t, 5, s.Code)
	assert.Contains(t, s.Out, "/status: is required")

	// what arrived, what was delivered, and what was not and why
	assert.Regexp(t, `Dead\t1\n`, g.requireCLI("status"))
	s = g.CLI("status", "--check")
	assert.Equal(t, 5, s.Code)
	assert.Contains(t, s.Out+s.ErrOut, "1 dead event")
	out = g.requireCLI("list", "--state", "dead")
	assert.Contains(t, out, id)
	assert.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 2, "a head and one row")
	assert.Len(t, strings.Split(strings.TrimSpace(g.requireCLI("list", "--json", "--limit", "0")), "\n"), int(g.Metric(
		`caddy_fotor_webhook_events{handler="default",state="dead"}`))+g.Events("delivered")+g.Events("superseded"))
	out = g.requireCLI("show", id)
	assert.Contains(t, out, "HTTP 410: no")
	assert.NotContains(t, out, "\x1b", "what the upstream says does not reach the terminal as it is")
	assert.Equal(t, 4, g.CLI("show", strings.Repeat("0", 48)).Code)
	for _, short := range []string{id[:12], id[:16], inbox.ShortID(id), "portrait"} {
		assert.Contains(t, g.requireCLI("show", short), id, short)
	}
	assert.Contains(t, g.requireCLI("show", "--task", "portrait"), "1. completed  dead")
	assert.Equal(t, 4, g.CLI("show", "--task", "landscape").Code)

	// delivering it again
	assert.Equal(t, 1, g.CLI("replay", "--state", "dead").Code, "there is no terminal to ask")
	assert.Contains(t, g.requireCLI("replay", "--state", "dead", "--dry-run"), "1 event would be replayed")
	up.Answer(nil)
	assert.Contains(t, g.requireCLI("replay", "--state", "dead", "--yes"), "1 event replayed")
	await(t, func() bool { return g.Events("dead") == 0 && g.Events("pending") == 0 }, "it to be delivered")
	assert.Contains(t, g.requireCLI("replay", id), "pending")

	// hold and resume
	assert.Contains(t, g.requireCLI("hold", "--reason", "new database", "--for", "30m"), "new database")
	g.Accept(notice("waiting", 1))
	assert.Contains(t, g.requireCLI("status"), "by operator")
	assert.Equal(t, 1, g.Events("pending"))
	g.requireCLI("resume")
	await(t, func() bool { return g.Events("pending") == 0 }, "it to go on")

	// the quarantine
	require.Equal(t, http.StatusUnsupportedMediaType, g.Post(notice("media", 1), "Content-Type", "text/plain").Status)
	assert.Contains(t, g.requireCLI("quarantine", "list"), "422")
	assert.Contains(t, g.requireCLI("quarantine", "show", "1"), "/status")
	s = g.CLI("quarantine", "release", "1", "2")
	assert.Equal(t, 5, s.Code, "one of them is still not valid")
	g.requireCLI("quarantine", "delete", "1")
	assert.Equal(t, 4, g.CLI("quarantine", "show", "2").Code)

	// who may call
	assert.Contains(t, g.requireCLI("explain", "127.0.0.1"), "allowed by allow 127.0.0.1")
	assert.Equal(t, 5, g.CLI("explain", "203.0.113.7").Code)

	assert.Contains(t, g.requireCLI("purge", "--all", "--yes"), "purged")
	assert.Empty(t, strings.TrimSpace(g.requireCLI("list", "--json")))
}

// tail goes on after a reload, and misses nothing.
func TestTailCommand(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", silent)
	cmd := command(t, "fotor-webhook", "tail", "--json", "--kind", "accepted", "--lines", "20", "--address", fmt.Sprintf("127.0.0.1:%d", g.Admin))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // if the test fails before its end
	lines := bufio.NewScanner(out)
	// it has begun once it prints an event; it may have missed earlier ones
	var first control.Notice
	told := make(chan struct{})
	go func() {
		defer close(told)
		if lines.Scan() {
			if err := json.Unmarshal(lines.Bytes(), &first); err != nil {
				t.Errorf("%s: %v", lines.Bytes(), err)
			}
		}
	}()
	knocks := 0
	await(t, func() bool {
		select {
		case <-told:
			return true
		default:
			g.Accept(notice(fmt.Sprint("knock-", knocks), 1))
			knocks++
			return false
		}
	}, "tail to begin")

	seen := []string{first.ID}
	for i := range 40 {
		if i == 5 {
			require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL, "", silent)))
		}
		g.Accept(notice(fmt.Sprint("task-", i), 1))
	}
	for lines.Scan() {
		var n control.Notice
		require.NoError(t, json.Unmarshal(lines.Bytes(), &n), "%s", lines.Bytes())
		seen = append(seen, n.ID)
	}
	require.NoError(t, cmd.Wait())
	require.Len(t, seen, 20)
	ids := make(map[string]bool)
	for _, id := range seen {
		assert.False(t, ids[id], "each once")
		ids[id] = true
	}
	all := g.list(map[string][]string{"order": {"asc"}})
	at := 0
	for all[at].ID != seen[0] {
		at++
	}
	assert.Equal(t, eventIDs(all[at:at+20]), seen, "in order, without a gap")
}
