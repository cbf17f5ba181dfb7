package command

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// onTerminal gives an environment a terminal, with what is typed on it.
func onTerminal(env *environment, typed string) {
	env.stdin = strings.NewReader(typed)
	env.stdinTerminal, env.stdoutTerminal, env.stderrTerminal = true, true, true
	env.getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
}

// TestConfirm checks the question before a change by filter.
func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		name, typed string
		args        string
		code        int
		stdout      string
		stderr      string // the beginning of it
		requests    []string
	}{
		{
			name: "yes", typed: "y\n", args: "replay --state dead,delivered", code: exitDone,
			stdout: "2 events replayed.\n", stderr: "replay 2 events of handler default? [y/N] ",
			requests: []string{"POST /fotor_webhook/default/replay?dry_run=true&state=dead%2Cdelivered", "POST /fotor_webhook/default/replay?limit=2&state=dead%2Cdelivered"},
		},
		{
			name: "long yes", typed: " YES \n", args: "purge --state dead", code: exitDone,
			stdout: "1 event purged.\n", stderr: "purge 1 event of handler default? [y/N] ",
			requests: []string{"POST /fotor_webhook/default/purge?dry_run=true&state=dead", "POST /fotor_webhook/default/purge?limit=1&state=dead"},
		},
		{
			name: "no", typed: "n\n", args: "purge --all --limit 2", code: exitFailed,
			stderr:   "purge 2 events of handler default? [y/N] Nothing was changed.\n",
			requests: []string{"POST /fotor_webhook/default/purge?all=true&dry_run=true&limit=2"},
		},
		{
			name: "end of input", args: "purge --all", code: exitFailed,
			stderr:   "purge 3 events of handler default? [y/N] Nothing was changed.\n",
			requests: []string{"POST /fotor_webhook/default/purge?all=true&dry_run=true"},
		},
		{
			name: "nothing fits", args: "purge --type img2img", code: exitDone, stdout: "Nothing matches --type img2img: no event was purged.\n",
			stderr: "Note that pending events are only purged if --state names them.\n",
			requests: []string{
				"POST /fotor_webhook/default/purge?dry_run=true&type=img2img", "POST /fotor_webhook/default/purge?type=img2img",
				"GET /fotor_webhook/default", // because nothing fits: are there pending events?
			},
		},
		{
			name: "dry run", args: "replay --state dead --dry-run", code: exitDone, stdout: "1 event would be replayed.\n",
			requests: []string{"POST /fotor_webhook/default/replay?dry_run=true&state=dead"},
		},
		{
			name: "of a destination", typed: "y\n", args: "purge --destination default --state dead", code: exitDone,
			stdout: "1 event purged at default.\n", stderr: "purge 1 event of handler default at default? [y/N] ",
			requests: []string{
				"POST /fotor_webhook/default/purge?destination=default&dry_run=true&state=dead",
				"POST /fotor_webhook/default/purge?destination=default&limit=1&state=dead",
			},
		},
		{
			name: "to another destination", args: "replay --destination gone --to default", code: exitDone,
			stdout: "Nothing matches --destination gone: no event was replayed.\n",
			requests: []string{
				"POST /fotor_webhook/default/replay?destination=gone&dry_run=true&to=default",
				"POST /fotor_webhook/default/replay?destination=gone&to=default",
				"GET /fotor_webhook/default", // because nothing fits: is there such a destination?
			},
		},
		{
			name: "not asked", args: "replay --state dead --yes", code: exitDone, stdout: "1 event replayed.\n",
			requests: []string{"POST /fotor_webhook/default/replay?dry_run=true&state=dead", "POST /fotor_webhook/default/replay?state=dead"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			onTerminal(env, c.typed)
			r := run(t, env, append(strings.Fields(c.args), "--address", f.addr)...)
			require.Equal(t, c.code, r.code, r.stderr)
			require.Equal(t, c.stdout, r.stdout)
			require.True(t, strings.HasPrefix(r.stderr, c.stderr), r.stderr)
			require.Equal(t, c.requests, f.asked()[1:])
		})
	}
}

// TestConfirmNeedsTerminals checks that nothing is asked without terminals for question
// and answer.
func TestConfirmNeedsTerminals(t *testing.T) {
	for _, hide := range []func(*environment){
		func(env *environment) { env.stdinTerminal = false },
		func(env *environment) { env.stderrTerminal = false },
	} {
		f, env := startFake(t, sampleHandler("default")), testEnvironment()
		onTerminal(env, "y\n")
		hide(env)
		r := run(t, env, "purge", "--all", "--address", f.addr)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stderr, "expected --yes or --dry-run")
		require.Empty(t, f.asked())
	}
}

// TestConfirmUnreadable checks that an answer is not used if reading it fails.
func TestConfirmUnreadable(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	onTerminal(env, "")
	env.stdin = io.MultiReader(strings.NewReader("y"), iotest.ErrReader(errors.New("the terminal is gone")))
	r := run(t, env, "purge", "--all", "--address", f.addr)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "Error: reading the answer: the terminal is gone")
}

// TestProgress checks that counts are shown while they arrive, on stderr only.
func TestProgress(t *testing.T) {
	drawn := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /fotor_webhook/h/replay", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("dry_run") == "true" {
			writeBody(w, `{"changed":2000,"dryRun":true,"done":true}`)
			return
		}
		assert.Equal(t, "application/x-ndjson", r.Header.Get("Accept"))
		writeBody(w, `{"matched":500,"changed":500}`+"\n")
		flush(t, w)
		<-drawn
		writeBody(w, `{"matched":2000,"changed":1999,"skipped":1,"done":true}`+"\n")
	})
	_, addr := serve(t, mux)
	env := testEnvironment()
	onTerminal(env, "")
	var stdout, stderr bytes.Buffer
	env.stdout = &output{w: &stdout}
	env.stderr = &watch{w: &stderr, text: "25.00%", seen: drawn}
	code := runTo(t, env, "replay", "--all", "--yes", "-n", "h", "--address", addr)
	require.Zero(t, code, stderr.String())
	require.Equal(t, "1,999 events replayed. 1 skipped (changed by others just then, or gone).\n", stdout.String())
	require.Contains(t, stderr.String(), "replayed ... ")
	require.Regexp(t, `25\.00%.*500 of 2,000`, stderr.String())
	require.Regexp(t, `done!.*2,000 of 2,000`, stderr.String())
	require.NotContains(t, stderr.String(), "\x1b[3", "colours though NO_COLOR is set")
}

// watch closes a channel once a text has been written.
type watch struct {
	w    io.Writer
	text string
	seen chan struct{}
}

func (w *watch) Write(p []byte) (int, error) {
	if w.seen != nil && strings.Contains(string(p), w.text) {
		close(w.seen)
		w.seen = nil
	}
	return w.w.Write(p)
}

// TestProgressBreaksOff has answers that end without the last line, and one whose last
// line is an error.
func TestProgressBreaksOff(t *testing.T) {
	for name, c := range map[string]struct{ lines, stdout, stderr string }{
		"cut off":   {`{"changed":5}` + "\n", "At least 5 of 9 events purged.\n", "broke off: unexpected EOF"},
		"no line":   {"", "", "broke off: unexpected EOF"},
		"half line": {`{"changed":5}` + "\n" + `{"chan`, "At least 5 of 9 events purged.\n", "broke off: unexpected EOF"},
		"error":     {`{"changed":7,"error":"the inbox is closed"}` + "\n", "7 of 9 events purged.\n", "Error: the inbox is closed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.FormValue("dry_run") == "true" {
					writeBody(w, `{"changed":9,"done":true}`)
					return
				}
				writeBody(w, c.lines)
			}))
			env := testEnvironment()
			onTerminal(env, "")
			r := run(t, env, "purge", "--all", "--yes", "-n", "h", "--address", addr)
			require.Equal(t, exitFailed, r.code)
			require.Equal(t, c.stdout, r.stdout)
			require.Contains(t, r.stderr, c.stderr)
			require.Equal(t, strings.Contains(c.lines, `5}`), strings.Contains(r.stderr, "fail!"), "a bar that appeared has to end")
			require.NotContains(t, r.stderr, "done!")
		})
	}
}
