package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// wide has the output shown on a terminal of that width.
func wide(setup func(*fakeAPI, *environment), width int) func(*fakeAPI, *environment) {
	return func(f *fakeAPI, env *environment) {
		setup(f, env)
		terminalOf(env, width)
	}
}

func TestGoldenOfTasks(t *testing.T) {
	for _, c := range []struct {
		name, args string
		setup      func(f *fakeAPI, env *environment)
	}{
		{name: "tasks", args: "tasks", setup: waiting},
		{name: "tasks_terminal", args: "tasks", setup: wide(waiting, 80)},
		{name: "tasks_narrow", args: "tasks --oldest-first", setup: wide(waiting, 50)},
		{name: "tasks_wide", args: "tasks", setup: wide(waiting, 160)},
		{name: "tasks_limit", args: "tasks --limit 2", setup: waiting},
		{name: "tasks_json", args: "tasks --json", setup: waiting},
		{name: "tasks_none", args: "tasks"},
		{name: "tasks_not_asking", args: "tasks --limit 1", setup: notAsking},
		{name: "tasks_not_asking_json", args: "tasks --limit 1 --json", setup: notAsking},
		{name: "tasks_limit_bad", args: "tasks --limit -1"},
		{name: "tasks_status", args: "status", setup: wide(waiting, 80)},
		{name: "tasks_status_shared", args: "status", setup: wide(sharing(control.AskingShare{Rate: 1, Askers: 2}, 1), 80)},
		{name: "tasks_status_shared_slow", args: "status", setup: wide(sharing(control.AskingShare{Rate: 2. / 3, Askers: 3}, 0.1), 80)},
		{name: "tasks_status_waits", args: "status", setup: wide(sharing(control.AskingShare{Rate: 1, Askers: 2}, 0), 80)},
		{name: "tasks_status_alone", args: "status", setup: wide(sharing(control.AskingShare{Rate: 2, Askers: 1}, 2), 80)},
		{name: "tasks_status_joins", args: "status", setup: wide(sharing(control.AskingShare{Askers: 2}, 0), 80)},
		{name: "tasks_status_confirm", args: "status", setup: wide(confirming, 80)},
		{name: "tasks_status_cut_off", args: "status", setup: wide(sharing(control.AskingShare{Askers: 2, Reason: "NATS is\x1b out of reach"}, 0), 80)},
		{name: "track", args: "track a b"},
		{name: "track_one", args: "track a"},
		{name: "track_some", args: "track a b 39371b3800cc4a7e9e24867b0dfdf25b", setup: waiting},
		{name: "track_known", args: "track 39371b3800cc4a7e9e24867b0dfdf25b", setup: waiting},
		{name: "track_json", args: "track a 39371b3800cc4a7e9e24867b0dfdf25b --json", setup: waiting},
		{name: "track_not_asking", args: "track a", setup: notAsking},
		{name: "track_nothing", args: "track"},
		{name: "track_both", args: "track a -"},
		{name: "track_refused", args: "track refused"},
		{name: "track_nobody", args: "track a -n nobody"},
		{name: "untrack", args: "untrack 39371b3800cc4a7e9e24867b0dfdf25b", setup: waiting},
		{name: "untrack_some", args: "untrack 39371b3800cc4a7e9e24867b0dfdf25b b", setup: waiting},
		{name: "untrack_json", args: "untrack 39371b3800cc4a7e9e24867b0dfdf25b b --json", setup: waiting},
		{name: "untrack_nothing", args: "untrack"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			if c.setup != nil {
				c.setup(f, env)
			}
			args := strings.Fields(c.args)
			golden(t, c.name, args, run(t, env, append(args, "--address", f.addr)...), f.addr, "ADDRESS")
		})
	}
}

// Many tasks come in batches, from a file that some other program has written.
func TestTrackFromStandardInput(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	var lines strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&lines, " t%d\t\r\n\n", i)
	}
	env.stdin = strings.NewReader(lines.String() + "t0")
	r := run(t, env, "track", "-", "--address", f.addr)
	require.Equal(t, ran{"2,500 tasks tracked, 1 known already.\n", "", 0}, r)
	require.Equal(t, []string{
		"GET /fotor_webhook/", "POST /fotor_webhook/default/tasks", "POST /fotor_webhook/default/tasks", "POST /fotor_webhook/default/tasks",
	}, f.asked())
	require.Equal(t, "t2499", f.handlers[0].tasks[2499].TaskID)

	env.stdin = strings.NewReader("t1\nnone\n\nt2")
	r = run(t, env, "untrack", "-", "--address", f.addr)
	require.Equal(t, ran{"t1: untracked\nnone: not tracked\nt2: untracked\n", "", exitNotFound}, r)
	require.Len(t, f.handlers[0].tasks, 2498)
}

func TestTrackFromBadInput(t *testing.T) {
	thousand := strings.Repeat("a\n", 1000)
	for name, c := range map[string]struct{ in, stderr string }{
		"nothing":    {"\n\n", ""},
		"too long":   {"a\n" + strings.Repeat("x", 257), "Error: line 2 of standard input has 257 bytes; expected the id of a task, of at most 256\n"},
		"not UTF-8":  {"\xff\n", "Error: line 1 of standard input is not UTF-8; expected the id of a task\n"},
		"a disk":     {"a\n" + strings.Repeat("x", 1<<20), "Error: line 2 of standard input: it is longer than 64 KiB; expected the id of a task\n"},
		"after some": {thousand + "\xff\n", "Error: line 1001 of standard input is not UTF-8; expected the id of a task. Before that: 1 task tracked, 999 known already. It may be run again as a whole\n"},
		"refused":    {thousand + "refused\n", "Error: no task was tracked: /tasks/0 is refused (HTTP 422 from the admin endpoint at ADDRESS). Before that: 1 task tracked, 999 known already. It may be run again as a whole\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			env.stdin = strings.NewReader(c.in)
			r := run(t, env, "track", "-", "--address", f.addr)
			require.Equal(t, c.stderr, strings.ReplaceAll(r.stderr, f.addr, "ADDRESS"))
			require.Equal(t, c.stderr != "", r.code != 0)
			if c.stderr == "" {
				require.Equal(t, "There was no task to track.\n", r.stdout)
			}
		})
	}
}

// An id may have any characters, and means nothing else in a path.
func TestUntrackOddIDs(t *testing.T) {
	for id, path := range map[string]string{
		"a/b":        "a%2Fb",
		"..":         "%2E%2E",
		".":          "%2E",
		"../../x":    "..%2F..%2Fx",
		"a?b=c#d %2": "a%3Fb=c%23d%20%252",
		"\x1b[31m":   "%1B%5B31m",
	} {
		f, env := startFake(t, sampleHandler("default")), testEnvironment()
		r := run(t, env, "untrack", "--address", f.addr, "--", id)
		require.Equal(t, "DELETE /fotor_webhook/default/tasks/"+path, f.asked()[1])
		require.Contains(t, r.stdout+r.stderr, strings.Trim(fmt.Sprintf("%q", id), `"`))
	}
}
