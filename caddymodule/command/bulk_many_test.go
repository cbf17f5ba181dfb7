package command

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// slow answers with lines, each after a time, until the request ends.
func slow(r *http.Request, every time.Duration, lines ...string) *http.Response {
	reader, writer := io.Pipe()
	go func() {
		for _, line := range lines {
			if err := pause(r.Context(), every); err != nil {
				writer.CloseWithError(err)
				return
			}
			writeBody(writer, line+"\n")
		}
		<-r.Context().Done()
		writer.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: http.StatusOK, Body: reader}
}

// inTime makes an environment with synthetic time, a server, and outputs to look at.
func inTime(server roundTrip) (env *environment, stdout, stderr *bytes.Buffer) {
	env, stdout, stderr = testEnvironment(), new(bytes.Buffer), new(bytes.Buffer)
	env.now, env.transport = time.Now, server // the clock of synctest
	env.stdout, env.stderr = &output{w: stdout}, stderr
	return env, stdout, stderr
}

// inSession makes a session of a handler. Commands themselves do not run in synthetic time,
// as they listen to signals.
func inSession(t *testing.T, env *environment) *session {
	client, err := newClient("test:1", env.transport)
	require.NoError(t, err)
	return &session{environment: env, client: client, handler: "h"}
}

// TestCountingEnds has more events than can be counted before the question.
func TestCountingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		env, stdout, stderr := inTime(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.RawQuery)
			if strings.Contains(r.URL.RawQuery, "dry_run") {
				return slow(r, 4*time.Second, `{"changed":1000}`, `{"changed":2000}`, `{"changed":3000}`), nil
			}
			return answering(`{"matched":4321,"changed":4321,"done":true}`), nil
		})
		onTerminal(env, "y\n")
		cmd := purgeCommand(env)
		require.NoError(t, cmd.ParseFlags([]string{"--all"}))
		began := time.Now()
		require.NoError(t, inSession(t, env).bulkMany(t.Context(), cmd, bulk{verb: "purge", past: "purged"}), stderr)
		require.Equal(t, countTime, time.Since(began))
		require.Equal(t, []string{"all=true&dry_run=true", "all=true"}, asked, "without a limit, as not all were counted")
		require.Contains(t, stderr.String(), "\rcounting: 1,000 so far")
		require.Contains(t, stderr.String(), "purge at least 2,000 events of handler h? [y/N] ")
		require.Equal(t, "4,321 events purged.\n", stdout.String())
	})
}

// TestCountingIsInterrupted checks that nothing is asked or changed after Ctrl-C.
func TestCountingIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, stdout, stderr := inTime(func(r *http.Request) (*http.Response, error) {
			require.Contains(t, r.URL.RawQuery, "dry_run")
			return slow(r, time.Second, `{"changed":1000}`), nil
		})
		onTerminal(env, "y\n")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := inSession(t, env).countFirst(ctx, call{path: []string{"h", "purge"}, query: make(url.Values)})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, stdout)
		require.NotContains(t, stderr.String(), "y/N")
	})
}

// TestProgressInAPipe checks that the progress is told without a terminal, and how far it
// got if it is interrupted.
func TestProgressInAPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, stdout, stderr := inTime(func(r *http.Request) (*http.Response, error) {
			return slow(r, 6*time.Second, `{"matched":1000,"changed":1000}`, `{"matched":2000,"changed":2000}`,
				`{"matched":3000,"changed":2999,"skipped":1}`, `{"matched":4000,"changed":3998,"skipped":2}`), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := inSession(t, env).bulkRun(ctx, bulk{past: "replayed", skipped: "gone"}, call{path: []string{"h", "replay"}}, tally{events: 10_000, whole: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, "2,000 replayed so far\n4,000 replayed so far\n", stderr.String())
		require.Equal(t, "At least 3,998 of 10,000 events replayed. 2 skipped (gone).\n", stdout.String())
	})
}

func TestTimesOfAFilter(t *testing.T) {
	for args, want := range map[string]string{
		"list --since 2026-11-23T13:00:01+01:00":             "--since is 2026-11-23 13:00:01, which is to come: expected a time that has passed",
		"purge --all --since 3h --until 4h":                  "no later than --since, 2026-11-23 10:00:00: expected a later time, such as --since 2d --until 1d",
		"list --since 2026-11-23 --until 2026-11-23":         "no later than --since",
		"quarantine list --since 3h --until 2026-11-22":      "no later than --since",
		"hold --until 1d":                                    `--until "1d" is a duration: expected --for 1d, or a time to come`,
		"quarantine delete --until yesterday --yes":          "or a duration such as 15m, 2h or 3d",
		"replay --until 1week --state dead --yes":            "or a duration such as 15m, 2h or 3d",
		"replay --until -1d --state dead --yes":              "or a duration such as 15m, 2h or 3d",
		"purge --state dead --until 2026/11/23 --yes --json": "expected a time such as",
	} {
		r := run(t, testEnvironment(), strings.Fields(args)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.stderr, want, args)
	}
}
