package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestMigrateBringsEverything(t *testing.T) {
	const each = 300
	from, target := oldFile(t, each), newMemory(t)
	config := newConfig(t)
	r := run(t, testEnvironment(), "migrate", "--from", from, "--config", config, "--yes", "--json")
	require.Zero(t, r.code, r.stderr)
	var m migrated
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &m))
	require.EqualValues(t, 5*each+1, m.Imported)
	require.Zero(t, m.Duplicates)
	require.EqualValues(t, each, m.Events.Superseded)
	require.EqualValues(t, 2*each+1, m.Events.Pending)
	require.EqualValues(t, 3, m.QuarantineImported)
	require.True(t, m.Done)
	require.Equal(t, 1, target.closed)
	require.Equal(t, 1000, target.policy.Quarantine)
	require.Greater(t, target.policy.Keep, 10*365*24*time.Hour, "nothing goes meanwhile")

	old := openSQLite(t, from) // it is not in use any more, and has what it had
	sameEvents(t, old, target)
	require.NoError(t, old.Close())

	again := run(t, testEnvironment(), "migrate", "--from", from, "--config", config, "--yes", "--json")
	require.Zero(t, again.code, again.stderr)
	require.NoError(t, json.Unmarshal([]byte(again.stdout), &m))
	require.EqualValues(t, 5*each+1, m.Duplicates)
	require.Zero(t, m.Imported)
	require.EqualValues(t, 3, m.QuarantineDuplicates)
	require.Zero(t, m.QuarantineImported)
	require.Len(t, target.suspects, 3)
}

// sameEvents compares the events of two inboxes, and their order within a task.
func sameEvents(t *testing.T, old inbox.Inbox, target *memoryInbox) {
	t.Helper()
	stats, err := old.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(target.ids), events(stats))
	place := make(map[string]int)
	for i, id := range target.ids {
		place[id] = i
		want, err := old.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, target.records[id])
	}
	for id, r := range target.records {
		if task := r.Event.TaskID; strings.HasPrefix(task, "superseded") && r.Event.Status == inbox.InProgress {
			require.Equal(t, inbox.Superseded, r.State)
			require.Less(t, place[id], place[inbox.NewID(task, []byte("completed"))])
		}
	}
	suspects, _, err := old.Suspects(t.Context(), inbox.Page{})
	require.NoError(t, err)
	for i, s := range suspects {
		other := target.suspects[len(suspects)-1-i]
		require.NotEqual(t, s.ID, other.ID)
		s.ID = other.ID
		require.Equal(t, s, other)
	}
}

// Each event brings its deliveries, and each destination its hold by hand.
func TestMigrateBringsDestinations(t *testing.T) {
	from, target := filepath.Join(t.TempDir(), "old.db"), newMemory(t)
	old := openSQLite(t, from)
	queue, err := old.Queue(t.Context(), "staging")
	require.NoError(t, err)
	held := inbox.Hold{Since: testNow.Add(-time.Hour), Reason: "new release"}
	require.NoError(t, queue.SetHold(t.Context(), held))
	for task, destinations := range map[string][]string{"both": {"default", "staging"}, "one": {"staging"}, "none": {}} {
		_, err := old.Put(t.Context(), &inbox.Event{
			ID: inbox.NewID(task, []byte(task)), TaskID: task, Type: "avatar", Status: inbox.Completed,
			ReceivedAt: testNow, Body: []byte(`{}`), Destinations: destinations,
		})
		require.NoError(t, err)
	}
	require.NoError(t, old.Close())

	r := run(t, testEnvironment(), "migrate", "--from", from, "--config", newConfig(t), "--yes")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "3 events imported")
	require.Contains(t, r.stdout, "2 pending, 0 delivered, 0 superseded, 0 dead, 1 skipped.\n")
	old = openSQLite(t, from)
	sameEvents(t, old, target)
	require.NoError(t, old.Close())
	require.Equal(t, map[string]inbox.Hold{"staging": held}, target.holds)
}

// Tracked tasks go with what is known of them, in their order.
func TestMigrateBringsTrackedTasks(t *testing.T) {
	from, target := filepath.Join(t.TempDir(), "old.db"), newMemory(t)
	old := openSQLite(t, from)
	var want []inbox.Task
	for n := range inbox.MaxTrack + 3 { // more than a page
		want = append(want, inbox.Task{
			ID: fmt.Sprint("task ", n), Source: inbox.FromOperator, Since: testNow, Due: testNow.Add(time.Minute),
			Asked: n, AskedAt: testNow.Add(time.Second), Answer: "in progress",
		})
	}
	tracker, ok := old.(inbox.Tracker)
	require.True(t, ok)
	for chunk := range slices.Chunk(want, inbox.MaxTrack) {
		_, err := tracker.Track(t.Context(), chunk...)
		require.NoError(t, err)
	}
	require.NoError(t, old.Close())
	migrate := func(arguments ...string) ran {
		return run(t, testEnvironment(), append([]string{"migrate", "--from", from, "--config", newConfig(t)}, arguments...)...)
	}
	r := migrate("--dry-run")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "1,003 tasks that Fotor is to be asked for as well.\n")
	r = migrate("--yes")
	require.NotZero(t, r.code)
	require.Contains(t, r.stderr, "the tasks that Fotor is to be asked for: the inbox memory cannot take them over")

	target.tasks = &memoryTasks{ended: map[string]bool{want[5].ID: true}}
	want = slices.Delete(want, 5, 6)
	r = migrate("--yes")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "1,002 tasks that Fotor is to be asked for imported, of 1,003.\n")
	require.Equal(t, want, target.tasks.tasks)
	r = migrate("--yes", "--json")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, `"tracked": 1003`)
	require.NotContains(t, r.stdout, "trackedImported", "all were there")
	require.Greater(t, target.policy.Tasks, 1_000_000, "none is dropped meanwhile")
}

// The counts have the events of every state, or a file would not be taken for moved whole.
func TestMigrateCountsEveryState(t *testing.T) {
	var m migrated
	for i, state := range inbox.States {
		m.add(state, 1)
		require.EqualValues(t, i+1, m.total(), state)
	}
	require.Contains(t, m.text(), "Of the file: 1 pending, 1 delivered, 1 superseded, 1 dead, 1 skipped.\n")
}

func TestMigrateMayBeInterrupted(t *testing.T) {
	from, target := oldFile(t, 300), newMemory(t)
	config := newConfig(t)
	env := testEnvironment()
	ctx, cancel := context.WithCancel(t.Context())
	target.beforeImport = func(string) error {
		if len(target.ids) == 400 {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	r := run(t, env, "migrate", "--from", from, "--config", config, "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout, "400 events imported into the inbox memory of handler default.\n")
	require.Contains(t, r.stderr, "run the command again to go on\n")
	require.NotContains(t, r.stdout, "rm ")
	require.Equal(t, 1, target.closed)

	target.beforeImport = nil
	r = run(t, env, "migrate", "--from", from, "--config", config, "--yes")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "1,101 events imported into the inbox memory of handler default. 400 there already.\n")
	old := openSQLite(t, from)
	sameEvents(t, old, target)
	require.NoError(t, old.Close())
}

func TestMigrateGolden(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  string
		setup func(t *testing.T, from string, target *memoryInbox, env *environment)
	}{
		{name: "migrate", args: "--yes"},
		{name: "migrate_json", args: "--yes --json"},
		{name: "migrate_dry", args: "--dry-run"},
		{name: "migrate_unasked"},
		{name: "migrate_declined", setup: answers("n\n")},
		{name: "migrate_held", args: "--yes", setup: func(t *testing.T, from string, _ *memoryInbox, _ *environment) {
			old := openSQLite(t, from)
			setHold(t, old, inbox.Hold{Since: ago(time.Hour), Reason: "move"})
			require.NoError(t, old.Close())
		}},
		{name: "migrate_full", args: "--yes", setup: func(_ *testing.T, _ string, target *memoryInbox, _ *environment) {
			target.beforeImport = func(string) error { return inbox.ErrFull }
		}},
		{name: "migrate_warning", args: "--yes", setup: func(_ *testing.T, _ string, target *memoryInbox, _ *environment) {
			target.warn = "one replica"
		}},
		{name: "migrate_lost", args: "--yes", setup: func(_ *testing.T, _ string, target *memoryInbox, _ *environment) {
			target.lose = func(r *inbox.Record) bool { return r.State == inbox.Dead }
		}},
		{name: "migrate_retired", args: "--yes", setup: func(_ *testing.T, _ string, target *memoryInbox, _ *environment) {
			target.lose = func(r *inbox.Record) bool { return r.State == inbox.Delivered }
		}},
		{name: "migrate_no_server", args: "--yes", setup: func(t *testing.T, _ string, _ *memoryInbox, _ *environment) {
			memoryInboxes.Delete(t.Name())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, target, env := oldFile(t, 2), newMemory(t), testEnvironment()
			if c.setup != nil {
				c.setup(t, from, target, env)
			}
			args := append([]string{"migrate", "--from", from, "--config", newConfig(t)}, strings.Fields(c.args)...)
			shown := append([]string{"migrate", "--from", "FILE", "--config", "caddy.json"}, strings.Fields(c.args)...)
			ran := run(t, env, args...)
			golden(t, c.name, shown, ran, from, "FILE", t.Name(), "BOX",
				inbox.NewID("dead 0", []byte("completed")), "ID", anyImported(ran.stderr), "ID")
			require.Equal(t, c.name == "migrate_held", target.holds[inbox.DefaultDestination].InForce(testNow))
		})
	}
}

func TestMigrateShowsItsProgress(t *testing.T) {
	from, target, env := oldFile(t, 1), newMemory(t), testEnvironment()
	answers("yes\n")(t, from, target, env)
	r := run(t, env, "migrate", "--from", from, "--config", newConfig(t))
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "into the inbox memory of handler default? [y/N] ")
	require.Contains(t, r.stderr, "imported ... done!")
	require.Len(t, target.ids, 6)
}

// anyImported returns the id that an error names. Since several are imported at once, it
// may be any.
func anyImported(stderr string) string {
	_, rest, found := strings.Cut(stderr, "importing the event ")
	if !found {
		return "no id"
	}
	return rest[:inbox.IDLength]
}

func answers(text string) func(*testing.T, string, *memoryInbox, *environment) {
	return func(_ *testing.T, _ string, _ *memoryInbox, env *environment) {
		env.stdin, env.stdinTerminal, env.stderrTerminal = strings.NewReader(text), true, true
	}
}

func TestMigrateRefusals(t *testing.T) {
	from := oldFile(t, 1)
	newMemory(t)
	config := newConfig(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	handler := func(more string) string { return `{"handler":"fotor_webhook","name":"other"` + more + `}` }
	same := newConfig(t, handler(fmt.Sprintf(`,"inbox":{"module":"sqlite","path":%q}`, from)))
	other := newConfig(t, handler(fmt.Sprintf(`,"inbox":{"module":"sqlite","path":%q}`, filepath.Join(dir, "new.db"))))
	for _, c := range []struct {
		from, config, more string
		code               int
		stderr             string
	}{
		{"", config, "", 1, "nothing says which file to move from"},
		{from, config, "--handler a/b", 1, `--handler: "a/b" is no handler's name`},
		{from, config, "--handler nobody", 4, "no handler nobody is in"},
		{from, other, "", 1, "several handlers are in " + other + ", choose one with --handler: default, other"},
		{from, other, "--handler other", 1, "the inbox sqlite cannot take over what became of events"},
		{from, same, "--handler other", 1, "is what handler other of the config stores in"},
		{from, filepath.Join(dir, "none.json"), "", 1, "no such file"},
		{from, write("empty.json", "{}"), "", 4, "no fotor_webhook handler is in"},
		{from, write("bad.json", `{"handler":"fotor_webhook","name":3}`), "", 1, "cannot unmarshal"},
		{from, write("unknown.json", `{"handler":"fotor_webhook","inbox":{"module":"paper"}}`), "", 1, "the inbox of handler default: "},
		{filepath.Join(dir, "none.db"), config, "", 4, "there is no file " + filepath.Join(dir, "none.db")},
		{write("empty.db", ""), config, "", 1, "is no SQLite file"},
		{write("text.db", strings.Repeat("text", 1000)), config, "", 1, "is not an SQLite file"},
		{dir, config, "", 1, "is no SQLite file"},
	} {
		t.Run(c.stderr, func(t *testing.T) {
			args := append([]string{"migrate", "--from", c.from, "--config", c.config, "--yes"}, strings.Fields(c.more)...)
			r := run(t, testEnvironment(), args...)
			require.Equal(t, c.code, r.code, r.stderr)
			require.Contains(t, r.stderr, c.stderr)
			require.Empty(t, r.stdout)
		})
	}
	info, err := os.Stat(filepath.Join(dir, "empty.db"))
	require.NoError(t, err)
	require.Zero(t, info.Size(), "it has not become an inbox")
}

func TestMigrateOfAFileInUse(t *testing.T) {
	from := oldFile(t, 1)
	newMemory(t)
	running := openSQLite(t, from)
	r := run(t, testEnvironment(), "migrate", "--from", from, "--config", newConfig(t), "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, from+" is in use by another inbox of this process")
	require.Contains(t, r.stderr, "reload Caddy with the new inbox, or stop it, before the migration\n")
	require.NoError(t, running.Close())
}

func TestMigrateFillsASmallQuarantineWithTheNewest(t *testing.T) {
	from, target := oldFile(t, 0), newMemory(t)
	config := filepath.Join(t.TempDir(), "caddy.json")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil,
		`{"handler":"fotor_webhook","quarantine":2,"inbox":{"module":"memory","box":%q}}`, t.Name()), 0o600))
	for range 2 {
		r := run(t, testEnvironment(), "migrate", "--from", from, "--config", config, "--yes")
		require.Zero(t, r.code, r.stderr)
		require.Len(t, target.suspects, 2)
		require.Equal(t, "2", string(target.suspects[0].Body))
		require.Equal(t, "0", string(target.suspects[1].Body), "it has arrived again")
		require.EqualValues(t, 2, target.suspects[1].Count)
	}
}

func TestMigrateLeavesAHoldThatIsThere(t *testing.T) {
	from, target := oldFile(t, 0), newMemory(t)
	old := openSQLite(t, from)
	setHold(t, old, inbox.Hold{Since: ago(time.Hour), Reason: "old"})
	require.NoError(t, old.Close())
	target.holds[inbox.DefaultDestination] = inbox.Hold{Since: ago(time.Minute), Reason: "new"}
	r := run(t, testEnvironment(), "migrate", "--from", from, "--config", newConfig(t), "--yes")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "new", target.holds[inbox.DefaultDestination].Reason)
}

func TestPathsForAShell(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/a-b_c.db": "/var/lib/a-b_c.db",
		"/my files/a.db":    "'/my files/a.db'",
		"/it's":             `'/it'\''s'`,
		"":                  "''",
	} {
		require.Equal(t, want, shellQuoted(path))
	}
}
