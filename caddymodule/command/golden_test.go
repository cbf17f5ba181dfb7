package command

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// goldenCases are commands that ask the API. What they print is in testdata.
var goldenCases = []struct {
	name  string
	args  string // separated by spaces
	setup func(f *fakeAPI, env *environment)
}{
	{name: "status", args: "status"},
	{name: "status_color", args: "status --color always"},
	{name: "status_json", args: "status --json"},
	{name: "status_name_json", args: "status default --json"},
	{name: "status_name_unknown", args: "status nobody"},
	{name: "status_name_bad", args: "status a/b"},
	{name: "status_two_names", args: "status a -n b"},
	{name: "status_check", args: "status --check", setup: held},
	{name: "status_check_json", args: "status default --check --json", setup: held},
	{name: "status_check_well", args: "status --check", setup: well},
	{name: "status_check_bad", args: "status --check --max-quarantined 2", setup: bad},
	{name: "status_check_borne", args: "status --check --max-unavailable 2 --max-too-large 1 --max-invalid 5 --max-inbox-used 91 --max-pending-age 2h --max-hold 1h --max-dead 4", setup: borne},
	{name: "status_check_away", args: "status --check", setup: away},
	{name: "status_check_number_bad", args: "status --check --max-dead -1"},
	{name: "status_check_duration_bad", args: "status --check --max-hold never"},
	{name: "status_limit_unasked", args: "status --max-dead 3"},
	{name: "status_recent_bad", args: "status --recent 2h"},
	{name: "status_check_unknown", args: "status nobody --check"},
	{name: "status_away_json", args: "status default --json", setup: away},
	{name: "status_none", args: "status", setup: none},
	{name: "status_several", args: "status", setup: several},
	{name: "status_several_check", args: "status --check", setup: several},
	{name: "handler_several", args: "list", setup: several},
	{name: "handler_chosen", args: "list -n avatars --limit 1", setup: several},
	{name: "handler_none", args: "list", setup: none},

	{name: "list", args: "list"},
	{name: "list_color", args: "list --color=always"},
	{name: "list_limit", args: "list --limit 3"},
	{name: "list_json", args: "list --json --limit 0"},
	{name: "list_filter", args: "list --state dead,delivered --since 3h --until 2026-11-23T11:30:00Z --oldest-first"},
	{name: "list_task", args: "list --task 任务-1 --type ecommercelistingset"},
	{name: "list_none", args: "list --type img2img"},
	{name: "list_state_bad", args: "list --state done"},
	{name: "list_state_empty", args: "list --state="},
	{name: "list_since_bad", args: "list --since yesterday"},
	{name: "list_limit_bad", args: "list --limit -1"},
	{name: "list_task_empty", args: "list --task="},
	{name: "show", args: "show " + id(2)},
	{name: "show_json", args: "show --json " + id(2)},
	{name: "show_pending", args: "show " + id(4)},
	{name: "show_many_attempts", args: "show " + id(2), setup: manyAttempts},
	{name: "show_replayed", args: "show " + id(2), setup: replayed},
	{name: "show_missing", args: "show " + id(99)},
	{name: "show_bad", args: "show 12"},

	{name: "status_pressure", args: "status", setup: pressed(8, 40, 12)},
	{name: "status_pressure_color", args: "status --color always", setup: pressed(8, 40, 12)},
	{name: "status_pressure_check", args: "status --check", setup: pressed(8, 40, 12)},
	{name: "status_recovering", args: "status", setup: pressed(9, 1, 0)},
	{name: "status_recovering_idle", args: "status", setup: pressed(9, 0, 0)},
	{name: "status_some_failed", args: "status", setup: pressed(32, 1040, 3)},
	{name: "status_idle", args: "status", setup: pressed(32, 0, 0)},
	{name: "status_older_caddy", args: "status", setup: olderCaddy},
	{name: "list_older_caddy", args: "list", setup: olderCaddy},
	{name: "show_older_caddy", args: "show " + id(2), setup: olderCaddy},
	{name: "status_unsettled", args: "status", setup: unsettled},
	{name: "status_unsettled_check", args: "status --check", setup: unsettled},
	{name: "status_several_pressure", args: "status", setup: severalUnderPressure},

	{name: "destinations_status", args: "status", setup: withDestinations},
	{name: "destinations_status_color", args: "status --color always", setup: withDestinations},
	{name: "destinations_status_check", args: "status --check --max-dead 2 --max-pending-age 1h", setup: withDestinations},
	{name: "destinations_status_check_well", args: "status --check --destination default", setup: withDestinations},
	{name: "destinations_status_away", args: "status", setup: destinationsAway},
	{name: "destinations_status_several", args: "status", setup: destinationsOfSeveral},
	{name: "destinations_status_one", args: "status --destination archive --check", setup: withDestinations},
	{name: "destinations_status_left", args: "status default --destination shop", setup: withDestinations},
	{name: "destinations_status_left_json", args: "status --destination shop --check --json", setup: withDestinations},
	{name: "destinations_status_default", args: "status --destination default", setup: withDestinations},
	{name: "destinations_status_unknown", args: "status --destination nowhere", setup: withDestinations},
	{name: "destinations_status_nothing_left", args: "status", setup: nothingLeft},
	{name: "destinations_status_older_caddy", args: "status --destination default", setup: olderCaddy},
	{name: "destinations_list", args: "list", setup: withDestinations},
	{name: "destinations_list_one", args: "list --destination shop --state dead", setup: withDestinations},
	{name: "destinations_list_none", args: "list --destination stagin", setup: withDestinations},
	{name: "destinations_list_dead", args: "list --state dead", setup: withDestinations},
	{name: "destinations_replay_dead", args: "replay --state dead --yes", setup: withDestinations},
	{name: "destinations_list_none_here", args: "list --destination staging --state dead", setup: withDestinations},
	{name: "destinations_purge_none", args: "purge --destination stagin --yes", setup: withDestinations},
	{name: "destinations_tail_unknown", args: "tail --destination stagin -n 4", setup: happeningsAtStaging},
	{name: "destinations_list_bad", args: "list --destination a/b", setup: withDestinations},
	{name: "destinations_show", args: "show " + id(2), setup: withDestinations},
	{name: "destinations_show_color", args: "show --color always " + id(2), setup: withDestinations},
	{name: "destinations_show_one", args: "show " + id(1), setup: withDestinations},
	{name: "destinations_show_skipped", args: "show " + id(5), setup: withDestinations},
	{name: "destinations_replay_one", args: "replay --destination shop --to staging " + id(2), setup: withDestinations},
	{name: "destinations_replay_more", args: "replay --to default " + id(5), setup: withDestinations},
	{name: "destinations_replay_unknown", args: "replay --to nowhere " + id(5), setup: withDestinations},
	{name: "destinations_replay_same", args: "replay --destination shop --to shop --all", setup: withDestinations},
	{name: "destinations_replay_many", args: "replay --destination shop --to staging --yes", setup: withDestinations},
	{name: "destinations_replay_dry", args: "replay --destination staging --dry-run", setup: withDestinations},
	{name: "destinations_replay_no_filter", args: "replay --to staging --yes", setup: withDestinations},
	{name: "destinations_purge_one", args: "purge --destination shop " + id(2), setup: withDestinations},
	{name: "destinations_purge_many", args: "purge --destination shop --state pending,dead --yes", setup: withDestinations},
	{name: "destinations_hold", args: "hold --destination staging", setup: withDestinations},
	{name: "destinations_hold_all", args: "hold", setup: withDestinations},
	{name: "destinations_hold_unknown", args: "hold --destination shop", setup: withDestinations},
	{name: "destinations_hold_bad", args: "hold --destination="},
	{name: "destinations_resume", args: "resume --destination archive", setup: withDestinations},
	{name: "destinations_tail", args: "tail --destination staging -n 4", setup: happeningsAtStaging},

	{name: "status_unattended", args: "status", setup: withUnattended},
	{name: "status_unattended_check", args: "status --check", setup: withUnattended},
	{name: "status_unattended_json", args: "status --json", setup: withUnattended},

	{name: "replay_one", args: "replay " + id(2)},
	{name: "replay_one_json", args: "replay --json " + id(2)},
	{name: "replay_one_pending", args: "replay " + id(4)},
	{name: "replay_one_missing", args: "replay " + id(99)},
	{name: "replay_one_filter", args: "replay --state dead " + id(2)},
	{name: "replay_dry", args: "replay --all --dry-run"},
	{name: "replay_many", args: "replay --state pending,dead,superseded --yes"},
	{name: "replay_many_json", args: "replay --all --limit 2 --yes --json"},
	{name: "replay_unasked", args: "replay --state dead"},
	{name: "replay_no_filter", args: "replay --yes"},
	{name: "replay_all_and_filter", args: "replay --all --state dead --yes"},
	{name: "replay_error", args: "replay --all --yes", setup: bulkFails},
	{name: "purge_one", args: "purge " + id(1)},
	{name: "purge_one_leased", args: "purge " + id(4)},
	{name: "purge_state_empty", args: "purge --state= --type zap --yes"},
	{name: "purge_many", args: "purge --state pending,delivered --yes"},
	{name: "purge_dry_json", args: "purge --state dead --dry-run --json"},

	{name: "hold", args: "hold --reason migration --for 30m"},
	{name: "hold_until", args: "hold --until 2026-11-23T14:00:00+01:00"},
	{name: "hold_json", args: "hold --json"},
	{name: "hold_both", args: "hold --for 1h --until 2026-11-23T14:00:00Z"},
	{name: "hold_past", args: "hold --until 2026-11-23T11:00:00Z"},
	{name: "hold_for_bad", args: "hold --for soon"},
	{name: "resume", args: "resume", setup: held},
	{name: "resume_json", args: "resume --json", setup: held},
	{name: "resume_nothing", args: "resume"},

	{name: "quarantine_list", args: "quarantine list"},
	{name: "quarantine_list_json", args: "quarantine list --json --limit 2"},
	{name: "quarantine_show", args: "quarantine show 7"},
	{name: "quarantine_show_text", args: "quarantine show 8"},
	{name: "quarantine_show_binary", args: "quarantine show 9"},
	{name: "quarantine_show_json", args: "quarantine show 9 --json"},
	{name: "quarantine_show_missing", args: "quarantine show 6"},
	{name: "quarantine_show_bad", args: "quarantine show -- -6"},
	{name: "quarantine_release", args: "quarantine release 7 9"},
	{name: "quarantine_release_some", args: "quarantine release 6 7 8"},
	{name: "quarantine_release_all", args: "quarantine release --all --yes"},
	{name: "quarantine_release_all_json", args: "quarantine release --all --yes --json"},
	{name: "quarantine_release_nothing", args: "quarantine release"},
	{name: "quarantine_delete", args: "quarantine delete 7 8 6"},
	{name: "quarantine_delete_json", args: "quarantine delete 7 6 --json"},
	{name: "quarantine_unknown", args: "quarantine empty"},

	{name: "backup_of_nats", args: "backup copy.db", setup: backupFails(http.StatusNotImplemented, "the inbox is kept by \"nats\", which makes no copy of itself")},
	{name: "backup_under_way", args: "backup copy.db", setup: backupFails(http.StatusConflict, "a backup of the inbox is being made already")},
	{name: "backup_exists", args: "backup golden_test.go"},
	{name: "backup_no_file", args: "backup"},

	{name: "explain", args: "explain 54.212.95.175"},
	{name: "explain_color", args: "explain 54.212.95.175 --color=always"},
	{name: "explain_refused", args: "explain 10.0.0.5 --forwarded-for 203.0.113.9"},
	{name: "explain_json", args: "explain 10.0.0.5 --json --forwarded-for 203.0.113.9"},
	{name: "explain_bad", args: "explain example.com"},

	{name: "tail", args: "tail", setup: happenings},
	{name: "tail_color", args: "tail -n 3 --color=always", setup: happenings},
	{name: "tail_json", args: "tail --lines 2 --json", setup: happenings},
	{name: "tail_kind_bad", args: "tail --kind found"},
	{name: "tail_kind_empty", args: "tail --kind="},
	{name: "tail_lines_bad", args: "tail -n 0"},
	{name: "tail_refused", args: "tail"},

	{name: "server_error", args: "list", setup: listFails},
	{name: "color_bad", args: "list --color=sometimes"},
	{name: "flag_unknown", args: "list --nope"},
	{name: "command_unknown", args: "bogus"},
}

func TestGolden(t *testing.T) {
	for _, c := range goldenCases {
		t.Run(c.name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			if c.setup != nil {
				c.setup(f, env)
			}
			args := strings.Fields(c.args)
			given := args
			if c.name != "command_unknown" && c.name != "quarantine_unknown" {
				given = append([]string{args[0], "--address", f.addr}, args[1:]...)
			}
			if args[0] == "quarantine" {
				given = append([]string{args[0], args[1], "--address", f.addr}, args[2:]...)
			}
			golden(t, c.name, args, run(t, env, given...), f.addr, "ADDRESS")
		})
	}
}

func held(f *fakeAPI, _ *environment) {
	f.handlers[0].Pressure = control.Pressure{Limit: 0, Concurrency: 32, Attempts: 4, Failed: 4}
	f.handlers[0].Holds = []control.Hold{
		{By: control.ByOperator, Since: ago(10 * time.Minute), Until: new(testNow.Add(20 * time.Minute)), Reason: "migration"},
		{By: control.ByUpstream, Since: ago(time.Minute), Until: new(testNow.Add(4 * time.Second)), Reason: "upstream answered 503"},
	}
}

// away makes the inbox unreachable: its numbers are unknown.
func away(f *fakeAPI, _ *environment) {
	h := f.handlers[0]
	h.Error = "nats: no servers available for connection"
	h.Events, h.OldestPending, h.Quarantined, h.InboxBytes, h.InboxLimit = nil, nil, nil, nil, nil
	h.Recent.Unavailable = 3
	h.Recent.LastUnavailable = &control.Unavailable{At: ago(time.Minute), Reason: "nats: no responders"}
	h.Holds = []control.Hold{{By: control.ByUpstream, Since: ago(time.Minute), Reason: "upstream answered 503"}}
}

// bad makes the handler exceed every limit.
func bad(f *fakeAPI, env *environment) {
	held(f, env)
	h := f.handlers[0]
	h.Events.Dead, h.OldestPending = 4, new(ago(61*time.Minute))
	h.InboxBytes, h.InboxLimit = new(int64(91)), new(int64(100))
	h.Recent = control.Recent{
		From: ago(10 * time.Minute), Unavailable: 2, TooLarge: 1, Invalid: 5, NotKept: 1,
		LastUnavailable: &control.Unavailable{At: ago(2 * time.Minute), Reason: "inbox is full: a\x1b[31mred\x1b[0m limit"},
	}
}

func well(f *fakeAPI, _ *environment) {
	f.handlers[0].Events.Dead = 0
}

// borne brings the handler to the limits of its test, but not beyond.
func borne(f *fakeAPI, env *environment) {
	bad(f, env)
	f.handlers[0].Recent.NotKept = 0
}

// manyAttempts makes an event with more attempts than records of them.
func manyAttempts(f *fakeAPI, _ *environment) {
	e := f.handlers[0].events[1]
	e.Attempts, e.Deliveries[0].Attempts = 150, 150
}

// replayed makes an event one that was moved, replayed, tried once more, and replayed again.
func replayed(f *fakeAPI, _ *environment) {
	d := &f.handlers[0].events[1].Deliveries[0]
	d.Replays = []control.Replay{
		{At: ago(45 * time.Minute), After: 1, From: "shop"}, {At: ago(30 * time.Minute), After: 2},
	}
}

// pressed makes a destination get fewer attempts at once than the 32 that are configured.
func pressed(limit, attempts, failed int) func(*fakeAPI, *environment) {
	return func(f *fakeAPI, _ *environment) {
		f.handlers[0].Events.Dead = 0
		f.handlers[0].Pressure = control.Pressure{Limit: limit, Concurrency: 32, Attempts: attempts, Failed: failed}
	}
}

// unsettled makes an inbox that cannot store what became of attempts.
func unsettled(f *fakeAPI, _ *environment) {
	f.handlers[0].Events.Dead, f.handlers[0].Holds = 0, nil
	f.handlers[0].Pressure = control.Pressure{Limit: 32, Concurrency: 32, Attempts: 40, Delivered: 40, Unsettled: &control.Unsettled{
		Outcomes: 124, Since: ago(time.Minute), Reason: "storing in /inbox.db: disk I/O error",
	}}
}

// olderCaddy makes the API that of an older Caddy, which knows neither pressure nor
// destinations.
func olderCaddy(f *fakeAPI, _ *environment) {
	h := f.handlers[0]
	h.Pressure, h.Destinations, h.Config.Destinations = control.Pressure{}, nil, nil
	f.process, h.ConfigLoaded, h.LastMinute, h.LastCallback = control.Process{}, time.Time{}, control.Recent{}, nil
	for _, e := range h.events {
		e.Deliveries = nil
	}
}

// severalUnderPressure makes three handlers: one is held, one is under pressure, and one recovers.
func severalUnderPressure(f *fakeAPI, env *environment) {
	held(f, env)
	for i, name := range []string{"avatars", "videos"} {
		f.handlers = append(f.handlers, sampleHandler(name))
		f.handlers[i+1].Pressure = control.Pressure{Limit: 8, Concurrency: 32, Attempts: 40, Failed: 12 * (1 - i)}
	}
}

func none(f *fakeAPI, _ *environment) { f.handlers = nil }

func several(f *fakeAPI, env *environment) {
	f.handlers = append(f.handlers, sampleHandler("avatars"))
	held(f, env)
	second := f.handlers[1]
	second.Events, second.OldestPending, second.Quarantined = &control.Counts{Delivered: 1}, nil, new(int64(0))
	second.LastCallback = new(ago(579 * time.Millisecond))
}

func bulkFails(f *fakeAPI, _ *environment) {
	f.fail = map[string]apiError{"end of bulk": {text: "the inbox is closed"}}
}

func listFails(f *fakeAPI, _ *environment) {
	f.fail = map[string]apiError{"/fotor_webhook/default/events": {http.StatusServiceUnavailable, "the inbox cannot be read"}}
}

func backupFails(status int, text string) func(*fakeAPI, *environment) {
	return func(f *fakeAPI, _ *environment) {
		f.fail = map[string]apiError{"/fotor_webhook/default/backup": {status, text}}
	}
}

// happenings makes a stream with a notice of every kind, after whose end the handler is
// gone.
func happenings(f *fakeAPI, env *environment) {
	env.pause = noPause
	about := control.Notice{
		Handler: "default", At: testNow.Add(123 * time.Millisecond),
		ID: id(1), TaskID: "39371b3800cc4a7e9e24867b0dfdf25b", Type: "avatar", Status: "completed",
	}
	notices := make([]control.Notice, len(kinds))
	for i, kind := range kinds {
		notices[i] = about
		if i > 5 { // not about an event
			notices[i] = control.Notice{Handler: "default", At: about.At}
		}
		notices[i].Kind = kind
	}
	notices[0].Origin = "api"
	delivered, retried, given, dead := &notices[1], &notices[2], &notices[3], &notices[4]
	delivered.Attempt, delivered.UpstreamStatus, delivered.DurationMS = 1, 204, 12.345
	retried.Attempt, retried.UpstreamStatus, retried.Due, retried.Reason = 2, 503, new(testNow.Add(time.Minute)), "upstream answered 503"
	given.Reason, dead.Attempt, dead.UpstreamStatus, dead.Reason = "held", 9, 410, "upstream answered 410"
	lost, suspect, hold, gap := &notices[5], &notices[6], &notices[7], &notices[9]
	lost.Status, lost.Origin, lost.Asked, lost.Since = "lost", "api", 50, new(testNow.Add(-24*time.Hour))
	suspect.QuarantineID, suspect.SourceIP, suspect.Problems = 7, "54.212.95.175", 2
	hold.By, hold.Until, hold.Reason = control.ByOperator, new(testNow.Add(time.Hour)), "migration"
	gap.Missed = 12
	restarted := *gap
	restarted.Missed = -1
	f.handlers[0].streams = []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, ": ping\n\n")
			writeNotices(w, 1, append(notices, restarted)...)
			f.change(func() { f.handlers = nil })
		},
	}
}

// TestFilterOfPages checks the requests of a list.
func TestFilterOfPages(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	r := run(t, env, "list", "--address", f.addr, "--state", "delivered,dead,superseded", "--since", "3d", "--until", "2026-11-23 12:59", "--limit", "3")
	require.Zero(t, r.code, r.stderr)
	query := "since=2026-11-20T12%3A00%3A00Z&state=delivered%2Cdead%2Csuperseded&until=2026-11-23T11%3A59%3A00Z"
	require.Equal(t, []string{
		"GET /fotor_webhook/",
		"GET /fotor_webhook/default/events?limit=3&" + query,
		"GET /fotor_webhook/default/events?cursor=desc-2&limit=1&" + query,
	}, f.asked())
}

// withUnattended adds inboxes without a handler.
func withUnattended(f *fakeAPI, _ *environment) {
	f.unattended = []control.Unattended{
		{Storage: "sqlite:/var/lib/caddy/fotor_webhook/shop.db", Pending: 12, Quarantined: 1, Tracked: 3},
		{Storage: "sqlite:/srv/a\x1b[31m.db", Error: "/srv/a\x1b[31m.db is damaged"},
	}
}
