package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// oneTask is the task of three events of the handler that history makes.
const oneTask = "6cf0082eba5044f1a9495e0eaf5e35ca"

// history gives the handler events with real ids, three of them of one task.
func history(f *fakeAPI, _ *environment) {
	for _, h := range f.handlers {
		h.events[0].TaskID, h.events[2].TaskID = oneTask, oneTask
		h.events[0].Type, h.events[2].Type = "videoEnhancer", "videoEnhancer"
		realIDs(h)
	}
}

// historyAtSeveral is history with deliveries to several destinations.
func historyAtSeveral(f *fakeAPI, env *environment) {
	withDestinations(f, env)
	history(f, env)
}

// twice adds a handler with the same events.
func twice(f *fakeAPI, env *environment) {
	f.handlers = append(f.handlers, sampleHandler("other"))
	history(f, env)
}

// ten has ten handlers, of which one has events.
func ten(f *fakeAPI, env *environment) {
	history(f, env)
	for n := range 9 {
		h := sampleHandler(fmt.Sprint("empty-", n))
		h.events = nil
		f.handlers = append(f.handlers, h)
	}
}

// onlyOne has a callback in quarantine of one of several handlers.
func onlyOne(f *fakeAPI, env *environment) {
	twice(f, env)
	f.handlers[0].quarantine = nil
}

// oneFails has a handler that does not answer.
func oneFails(f *fakeAPI, env *environment) {
	ten(f, env)
	f.fail = map[string]apiError{"/fotor_webhook/empty-3/find": {http.StatusServiceUnavailable, "nats: no servers available"}}
}

// searched has an inbox that does not search all events.
func searched(f *fakeAPI, env *environment) {
	history(f, env)
	f.handlers[0].searchedSince = ago(time.Hour)
}

// noFind is a Caddy that cannot find events.
func noFind(f *fakeAPI, env *environment) {
	history(f, env)
	f.fail = map[string]apiError{"/fotor_webhook/default/find": {http.StatusNotFound, "no such path; docs/admin-api.md lists those that there are"}}
}

var resolveCases = []struct {
	name  string
	args  string // {n} is the id of the event n, {s} its short one, {b} its first eight digits
	setup func(*fakeAPI, *environment)
}{
	{"id_short", "show {s}", history},
	{"id_upper", "show {B}", history},
	{"id_beginning_of_several", "show {b}", history},
	{"id_task", "show 任务-1", history},
	{"id_task_of_several", "show " + oneTask, history},
	{"id_task_flag", "show --task " + oneTask, historyAtSeveral},
	{"id_task_json", "show --json --task " + oneTask, history},
	{"id_task_unknown", "show --task nothing", history},
	{"id_task_empty", "show --task=", history},
	{"id_task_and_id", "show --task x y", history},
	{"id_nothing", "show", history},
	{"id_unknown", "show abcdef01", history},
	{"id_none", "show abc", history},
	{"id_unprintable", "show a\x1bb", history},
	{"id_of_two_handlers", "show {n}", twice},
	{"id_task_of_two_handlers", "show --task " + oneTask, twice},
	{"id_of_ten_handlers", "show {n}", ten},
	{"id_task_of_ten_handlers", "show --task " + oneTask, ten},
	{"id_handler_fails", "show {n}", oneFails},
	{"id_handler_chosen", "show {s} -n default", oneFails},
	{"id_no_handler", "show {s}", none},
	{"id_not_searched", "show {b}", searched},
	{"id_not_searched_none", "show abcdef01", searched},
	{"id_not_searched_short", "show {s}", searched},
	{"id_older_caddy", "show {s}", noFind},
	{"id_older_caddy_whole", "replay {n}", noFind},
	{"id_replay", "replay {s}", ten},
	{"id_replay_dry", "replay {s} --dry-run", history},
	{"id_replay_dry_json", "replay {n} --dry-run --json", history},
	{"id_replay_task", "replay " + oneTask + " --yes", ten},
	{"id_replay_task_unasked", "replay " + oneTask, history},
	{"id_replay_limit", "replay {s} --limit 2", history},
	{"id_quarantine_show", "quarantine show 7", ten},
	{"id_quarantine_show_of_two", "quarantine show 7", twice},
	{"id_quarantine_show_of_one", "quarantine show 8", onlyOne},
	{"id_quarantine_show_none", "quarantine show 70", twice},
	{"id_purge_unasked", "purge {s}", history},
	{"id_purge_yes", "purge {s} --yes", history},
	{"id_purge_whole", "purge {n}", history},
	{"id_purge_whole_of_ten", "purge {n}", ten},
}

func TestIDs(t *testing.T) {
	for _, c := range resolveCases {
		t.Run(c.name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			c.setup(f, env)
			golden(t, c.name, []string{c.args}, run(t, env, append(withIDs(f, c.args), "--address", f.addr)...), f.addr, "ADDRESS")
		})
	}
}

// withIDs puts the ids of the second event of a handler into arguments.
func withIDs(f *fakeAPI, args string) []string {
	if len(f.handlers) == 0 {
		return strings.Fields(strings.ReplaceAll(args, "{s}", "d43f7d09-49b7"))
	}
	id := f.handlers[0].events[1].ID
	return strings.Fields(strings.NewReplacer("{n}", id, "{s}", inbox.ShortID(id), "{b}", id[:8], "{B}", strings.ToUpper(inbox.ShortID(id))).Replace(args))
}

// On a terminal ids are short, and what is deleted for good by less than a whole id is
// asked about.
func TestIDsOnATerminal(t *testing.T) {
	for _, c := range []struct{ name, args, typed string }{
		{"terminal_list", "list", ""},
		{"terminal_list_json", "list --json --limit 1", ""},
		{"terminal_purge", "purge {s}", "y\n"},
		{"terminal_purge_not", "purge {s}", "n\n"},
		{"terminal_purge_task", "purge " + oneTask, "y\n"},
		{"terminal_purge_whole", "purge {n}", ""},
		{"terminal_replay", "replay {s}", ""},
		{"terminal_release", "quarantine release 7", ""},
		{"terminal_quarantine_delete", "quarantine delete --until 1m", "y\n"},
		{"terminal_quarantine_delete_not", "quarantine delete --all", "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			history(f, env)
			onTerminal(env, c.typed)
			r := run(t, env, append(withIDs(f, c.args), "--address", f.addr)...)
			if question, bar, found := strings.Cut(r.stderr, "[y/N] "); found && strings.Contains(bar, "done!") {
				r.stderr = question + "[y/N] (bar)\n" // it has times
			}
			golden(t, c.name, []string{c.args}, r, f.addr, "ADDRESS")
		})
	}
}

func TestSuspects(t *testing.T) {
	for name, args := range map[string]string{
		"suspects_list":           "quarantine list --answer 422",
		"suspects_list_limit":     "quarantine list --until 1m --limit 1",
		"suspects_list_none":      "quarantine list --from 203.0.113.0/24",
		"suspects_list_from":      "quarantine list --from 54.212.95.175",
		"suspects_list_problem":   "quarantine list --problem JSON",
		"suspects_from_bad":       "quarantine list --from example.com",
		"suspects_answer_bad":     "quarantine list --answer 201",
		"suspects_problem_bad":    "quarantine list --problem=",
		"suspects_since_bad":      "quarantine list --since tomorrow",
		"suspects_delete":         "quarantine delete --until 91m30s --yes",
		"suspects_delete_json":    "quarantine delete --all --limit 1 --yes --json",
		"suspects_delete_none":    "quarantine delete --until 3d --yes",
		"suspects_delete_dry":     "quarantine delete --all --dry-run",
		"suspects_dry_json":       "quarantine release --all --dry-run --json",
		"suspects_release_dry":    "quarantine release --answer 400 --dry-run",
		"suspects_unasked":        "quarantine delete --all",
		"suspects_id_and_filter":  "quarantine delete 7 --until 3d",
		"suspects_all_and_filter": "quarantine delete --all --until 3d",
		"suspects_limit_bad":      "quarantine delete --all --limit 0 --yes",
	} {
		t.Run(name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			golden(t, name, []string{args}, run(t, env, append(strings.Fields(args), "--address", f.addr)...), f.addr, "ADDRESS")
		})
	}
}

// What Fotor did not confirm may be forged, so it is not released by a filter that does not ask
// for it.
func TestSuspectsThatFotorDidNotConfirm(t *testing.T) {
	for _, c := range []struct{ args, asked, stderr string }{
		{"release --all", "7 9", "1 callback that Fotor did not confirm left out: expected ids, or --answer 200, to release such."},
		{"release --problem JSON", "", "1 callback that Fotor did not confirm left out"},
		{"release --answer 200", "8", ""},
		{"release 8", "8", ""},
		{"delete --all", "7 8 9", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			h := sampleHandler("default")
			h.quarantine[1].Status = http.StatusOK
			f := startFake(t, h)
			args := append([]string{"quarantine"}, strings.Fields(c.args)...)
			if strings.Contains(c.args, "--") {
				args = append(args, "--yes")
			}
			r := run(t, testEnvironment(), append(args, "--json", "--address", f.addr)...)
			var ids []string
			for line := range strings.Lines(r.stdout) {
				var answer result
				require.NoError(t, json.Unmarshal([]byte(line), &answer), line)
				ids = append(ids, strconv.FormatInt(answer.QuarantineID, 10))
			}
			slices.Sort(ids)
			require.Equal(t, c.asked, strings.Join(ids, " "))
			if c.stderr == "" {
				require.NotContains(t, r.stderr, "confirm")
			} else {
				require.Contains(t, r.stderr, c.stderr)
			}
		})
	}
}

// TestSuspectsGone has callbacks that others remove meanwhile, and an error in the middle.
func TestSuspectsGone(t *testing.T) {
	for _, c := range []struct {
		name, stdout, stderr string
		code, status         int
	}{
		{"gone", "2 callbacks deleted, 1 gone.\n", "", exitDone, http.StatusNotFound},
		{"fails", "of 3 callbacks deleted.\n", "Error: callback 8: the disk is full (HTTP 503", exitFailed, http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			f.fail = map[string]apiError{"/fotor_webhook/default/quarantine/8": {c.status, "the disk is full"}}
			r := run(t, env, "quarantine", "delete", "--all", "--yes", "--address", f.addr)
			require.Equal(t, c.code, r.code)
			require.Contains(t, r.stdout, c.stdout)
			require.Contains(t, r.stderr, c.stderr)
		})
	}
}

func TestDistinctIDs(t *testing.T) {
	ids := func(content ...string) []string {
		fit := make([]candidate, len(content))
		for i, c := range content {
			fit[i] = candidate{Event: control.Event{ID: "d43f7d0975a061bf" + c + strings.Repeat("0", 32-len(c))}}
		}
		return distinctIDs(fit)
	}
	require.Equal(t, []string{"d43f7d09-49b7", "d43f7d09-49b8"}, ids("49b7", "49b8"))
	require.Equal(t, []string{"d43f7d09-49b70000", "d43f7d09-49b71000"}, ids("49b7", "49b71"))
	require.Equal(t, []string{"d43f7d09-49b70000", "d43f7d09-49b71000", "d43f7d09-a0000000"}, ids("49b7", "49b71", "a"))
	require.Equal(t, []string{"d43f7d09-1000", "d43f7d09-1000"}, ids("1", "1"), "the same event of two handlers")
	last := strings.Repeat("0", 31) + "1"
	require.Equal(t, []string{"d43f7d09-" + strings.Repeat("0", 32), "d43f7d09-" + last}, ids("", last))
	require.Equal(t, []string{"x"}, distinctIDs([]candidate{{Event: control.Event{ID: "x"}}}))
}

// A history comes in order, though its events are read side by side.
func TestShowHistoryOfManyEvents(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	h := f.handlers[0]
	h.events = nil
	for n := range 100 {
		h.events = append(h.events, &control.EventDetail{Event: control.Event{ID: id(n), TaskID: oneTask, Status: "in_progress", State: "delivered", ReceivedAt: testNow}})
	}
	r := run(t, env, "show", "--task", oneTask, "--address", f.addr)
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, 1, strings.Count(r.stdout, "Task\t"))
	at := 0
	for n := range 100 {
		next := strings.Index(r.stdout[at:], fmt.Sprintf("\n%d. in_progress", n+1))
		require.Positive(t, next, n)
		at += next
		require.Contains(t, r.stdout[at:at+strings.IndexByte(r.stdout[at+1:], '\n')+1], id(n))
	}
}
