package command

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// terminalOf makes stdout a terminal of that width.
func terminalOf(env *environment, width int) {
	env.stdoutTerminal = true
	env.terminalWidth = func() int { return width }
}

// terminalCases are commands on a terminal.
var terminalCases = map[string]struct {
	args  string
	setup func(*fakeAPI, *environment)
}{
	"status":              {"status", nil},
	"status_bad":          {"status --check", bad},
	"status_away":         {"status", away},
	"status_older_caddy":  {"status", olderCaddy},
	"status_unattended":   {"status", withUnattended},
	"status_several":      {"status", severalUnderPressure},
	"status_many":         {"status", tenHandlers},
	"status_many_refused": {"status", manyRefused},
	"status_clock":        {"status", otherClock},
	"status_destinations": {"status", withDestinations},
	"status_destination":  {"status --destination archive", withDestinations},
	"list":                {"list", nil},
	"list_destinations":   {"list", withDestinations},
	"show":                {"show " + id(2), nil},
	"show_destinations":   {"show " + id(2), withDestinations},
	"tail":                {"tail -n 10", happenings},
	"tail_destination":    {"tail --destination staging -n 4", happeningsAtStaging},
	"quarantine_list":     {"quarantine list", nil},
	"quarantine_show":     {"quarantine show 7", nil},
	"explain":             {"explain 54.212.95.175", nil},
	"replay":              {"replay --all --dry-run", nil},
	"hold":                {"hold --destination archive --reason maintenance --for 30m", withDestinations},
}

func (f *fakeAPI) args(args string) []string {
	words := strings.Fields(args)
	return append(words, "--address", f.addr)
}

// TestTerminalGolden runs commands on terminals: nothing but the body of an event may be
// wider than they are.
func TestTerminalGolden(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(terminalCases)) {
		c := terminalCases[name]
		for _, width := range []int{80, 132} {
			t.Run(fmt.Sprint(name, "_", width), func(t *testing.T) {
				f, env := startFake(t, sampleHandler("default")), testEnvironment()
				terminalOf(env, width)
				env.getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
				if c.setup != nil {
					c.setup(f, env)
				}
				r := run(t, env, f.args(c.args)...)
				fits(t, r.stdout, width)
				golden(t, fmt.Sprintf("terminal_%s_%d", name, width), strings.Fields(c.args), r, f.addr, "ADDRESS")
			})
		}
	}
}

// fits checks that no line is wider than the terminal.
func fits(t require.TestingT, output string, width int) {
	for line := range strings.Lines(output) {
		require.LessOrEqual(t, shownWidth(strings.TrimSuffix(line, "\n")), width, "%q", line)
	}
}

// tenHandlers makes ten handlers with three destinations each.
func tenHandlers(f *fakeAPI, env *environment) {
	f.handlers = nil
	for i := range 10 {
		one := &fakeAPI{handlers: []*fakeHandler{sampleHandler("default")}}
		withDestinations(one, env)
		h := one.handlers[0]
		h.Name = fmt.Sprintf("handler-%d", i)
		h.Destinations = h.Destinations[1:]
		if i != 4 {
			h.Destinations[1].Configured, h.Destinations[1].Pressure = true, &control.Pressure{Limit: 32, Concurrency: 32}
		}
		f.handlers = append(f.handlers, h)
	}
}

func manyRefused(f *fakeAPI, _ *environment) {
	h := f.handlers[0]
	h.Refusals = nil
	for i := range control.MaxRefusals {
		address := fmt.Sprintf("2001:db8:85a3:8d3:1319:8a2e:370:%x", i)
		h.Refusals = append(h.Refusals, control.Refusal{Address: address, Peer: "[" + address + "]:54321", Reason: "not in allow or allow_from", Count: 123_456, Last: ago(time.Minute)})
	}
}

// otherClock makes the server's clock, and so its times, be two hours behind.
func otherClock(f *fakeAPI, _ *environment) {
	const behind = -2 * time.Hour
	f.ahead = behind
	h := f.handlers[0]
	for _, at := range []*time.Time{
		h.OldestPending, &h.ConfigLoaded, &h.LastMinute.From, h.LastCallback, h.Destinations[0].LastDelivery, &h.Recent.From, &f.process.Started,
		&h.Refusals[0].Last, &h.Refusals[1].Last,
	} {
		*at = at.Add(behind)
	}
}

// colours matches texts that are painted and have an end, and those that are not.
var colours = regexp.MustCompile(`\x1b\[[1-9][0-9;]*m[^\x1b]*\x1b\[0m|[^\x1b]`)

// Whatever the columns are, a line fits if the terminal has room for one character.
func TestTablesFitEveryTerminal(t *testing.T) {
	texts := rapid.StringOf(rapid.RuneFrom([]rune("ab 任务é1,…–\x1b\u0301\u202eא\U0001f600\U0001f1e9\ufe0f가\u1161")))
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 200).Draw(t, "width")
		p := printer{aligned: true, color: rapid.Bool().Draw(t, "color"), width: func() int { return width }}
		var columns []column
		for range rapid.IntRange(1, 9).Draw(t, "columns") {
			c := column{
				title: rapid.StringMatching(`[A-Z ]{1,14}`).Draw(t, "title"), right: rapid.Bool().Draw(t, "right"),
				rank: rapid.IntRange(0, 3).Draw(t, "rank"), least: rapid.IntRange(0, 20).Draw(t, "least"), width: rapid.IntRange(0, 48).Draw(t, "least width"),
			}
			if rapid.Bool().Draw(t, "short") {
				c.short = withoutYear
			}
			columns = append(columns, c)
		}
		table := &table{printer: p, columns: columns}
		for part := range 2 {
			var rows [][]string
			for range rapid.IntRange(0, 5).Draw(t, "rows") {
				var cells []string
				for range columns {
					cells = append(cells, p.paint(quoted(texts.Draw(t, "cell")), text.FgRed))
				}
				rows = append(rows, cells)
			}
			shown := table.part(rows, part == 0)
			fits(t, shown, width)
			want := len(rows)
			if part == 0 {
				want++
			}
			require.Equal(t, want, strings.Count(shown, "\n"))
			require.Empty(t, colours.ReplaceAllString(shown, ""), "colours end: %q", shown)
		}
	})
}

// The least important column is shortened first, and left out last of all.
func TestColumnsGiveWayByRank(t *testing.T) {
	columns := []column{{title: "A"}, {title: "B", rank: 2, least: 4}, {title: "C", rank: 1, least: 5}}
	row := [][]string{{"aaaaaaaa", "bbbbbbbb", "cccccccc"}}
	for width, want := range map[int]string{
		0:  "A         B         C\naaaaaaaa  bbbbbbbb  cccccccc\n",
		28: "A         B         C\naaaaaaaa  bbbbbbbb  cccccccc\n",
		27: "A         B        C\naaaaaaaa  bbbbbb…  cccccccc\n",
		24: "A         B     C\naaaaaaaa  bbb…  cccccccc\n",
		21: "A         B     C\naaaaaaaa  bbb…  cccc…\n",
		20: "A         C\naaaaaaaa  cccccccc\n",
		15: "A         C\naaaaaaaa  cccc…\n",
		14: "A\naaaaaaaa\n",
		3:  "A\naa…\n",
		1:  "A\n…\n",
	} {
		p := printer{aligned: true, width: func() int { return width }}
		require.Equal(t, want, p.table(columns, row), width)
	}
	tabs := printer{width: func() int { return 5 }}
	require.Equal(t, "A\tB\tC\naaaaaaaa\tbbbbbbbb\tcccccccc\n", tabs.table(columns, row))
	numbers := []column{{title: "N", right: true}, {title: "TEXT"}}
	require.Equal(t, "N\tTEXT\n1234567\t1,234\n", tabs.table(numbers, [][]string{{"1,234,567", "1,234"}}))
}

// Values and sentences are wrapped, with their colours.
func TestProseFitsTheTerminal(t *testing.T) {
	texts := rapid.StringOf(rapid.RuneFrom([]rune("ab 任务é1,…–\x1b\u0301א  ")))
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(leastProse+20, 100).Draw(t, "width")
		p := printer{aligned: true, color: rapid.Bool().Draw(t, "color"), width: func() int { return width }}
		f := &fields{printer: p}
		for range rapid.IntRange(1, 4).Draw(t, "fields") {
			value := quoted(texts.Draw(t, "before")) + " " + p.paint(quoted(texts.Draw(t, "painted")), text.FgRed) + quoted(texts.Draw(t, "after"))
			f.add(rapid.StringMatching(`[A-Z][a-z ]{0,15}`).Draw(t, "name"), value)
		}
		fits(t, f.String(), width)
		for line := range strings.Lines(f.String()) {
			last := strings.LastIndexByte(line, '\x1b')
			require.True(t, last < 0 || strings.HasPrefix(line[last:], "\x1b[0m"), "colours end: %q", line)
		}
	})
	narrow := printer{aligned: true, width: func() int { return 30 }}
	list := &fields{printer: narrow}
	list.add("Name", "one two three four five six seven")
	require.Equal(t, "Name  one two three four five\n      six seven\n", list.String())
	list.aligned = false
	require.Equal(t, "Name\tone two three four five six seven\n", list.String())
}

// Where the pages of a list have other widths, the columns line up all the same.
func TestPartsOfATableLineUp(t *testing.T) {
	p := printer{aligned: true}
	table := &table{printer: p, columns: []column{{title: "STATE", width: 10}, {title: "NOTE"}}}
	require.Equal(t, "STATE       NOTE\ndead        x\n", table.part([][]string{{"dead", "x"}}, true))
	require.Equal(t, "superseded  y\nmuch longer than that  z\n", table.part([][]string{{"superseded", "y"}, {"much longer than that", "z"}}, false))
}

func TestTheWidthOfATerminal(t *testing.T) {
	for name, c := range map[string]struct {
		columns  string
		terminal int // -1: stdout is none
		want     int
	}{
		"the terminal's":                   {"", 120, 120},
		"a terminal that does not tell":    {"", 0, 80},
		"COLUMNS is preferred":             {"60", 120, 60},
		"COLUMNS is no number":             {"wide", 120, 120},
		"COLUMNS is 0":                     {"0", 120, 120},
		"COLUMNS is negative":              {"-5", 120, 120},
		"COLUMNS is too large":             {"99999999", 120, 120},
		"no terminal":                      {"", -1, 0},
		"no terminal, but COLUMNS (watch)": {"100", -1, 100},
	} {
		t.Run(name, func(t *testing.T) {
			env := testEnvironment()
			env.getenv = func(name string) string { return map[string]string{"COLUMNS": c.columns}[name] }
			if c.terminal >= 0 {
				terminalOf(env, c.terminal)
			}
			require.Equal(t, c.want, env.lineWidth())
		})
	}
}

// Colours and columns are for people only, unless they are asked for.
func TestWhenThereAreColours(t *testing.T) {
	for name, c := range map[string]struct {
		terminal       bool
		env            map[string]string
		flag           string
		color, aligned bool
	}{
		"a terminal":              {true, nil, "auto", true, true},
		"NO_COLOR":                {true, map[string]string{"NO_COLOR": "0"}, "auto", false, true},
		"NO_COLOR is empty":       {true, map[string]string{"NO_COLOR": ""}, "auto", true, true},
		"a dumb terminal":         {true, map[string]string{"TERM": "dumb"}, "auto", false, true},
		"a pipe":                  {false, map[string]string{"COLUMNS": "40"}, "auto", false, false},
		"asked for on a pipe":     {false, nil, "always", true, true},
		"asked for with NO_COLOR": {true, map[string]string{"NO_COLOR": "1"}, "always", true, true},
		"asked not to":            {true, nil, "never", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f, env := startFake(t, sampleHandler("default")), testEnvironment()
			if c.terminal {
				terminalOf(env, 80)
			}
			env.getenv = func(name string) string { return c.env[name] }
			r := run(t, env, f.args("list --color "+c.flag)...)
			require.Equal(t, c.color, strings.Contains(r.stdout, "\x1b["))
			require.Equal(t, !c.aligned, strings.Contains(r.stdout, "\t"))
			if !c.aligned {
				require.Contains(t, r.stdout, id(2), "nothing is cut")
			}
		})
	}
}

// A terminal that is made smaller is asked again.
func TestTheWidthIsAskedForWhenItPrints(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	happenings(f, env)
	widths := []int{200, 80, 40}
	terminalOf(env, 0)
	env.terminalWidth = func() int {
		width := widths[0]
		widths = widths[1:]
		return width
	}
	r := run(t, env, f.args("tail -n 3")...)
	lines := strings.Split(r.stdout, "\n")
	require.Greater(t, shownWidth(lines[0]), 80)
	require.Greater(t, shownWidth(lines[1]), 40)
	fits(t, lines[1], 80)
	fits(t, lines[2], 40)
}

// What strangers send may neither move nor widen columns.
func TestTextsThatTerminalsDrawDifferentlyAreEscaped(t *testing.T) {
	for given, want := range map[string]string{
		"任务-1":                      "任务-1",
		"café":                      "café",
		"cafe\u0301":                "cafe\u0301",
		"a\u0301\u0302":             "a\u0301\u0302",
		"Straße – 12 €":             "Straße – 12 €",
		"\u0301a":                   `"\u0301a"`,
		"a\u0301\u0302\u0303\u0304": `"a\u0301\u0302\u0303\u0304"`,
		"שלום 12":                   `"\u05e9\u05dc\u05d5\u05dd 12"`,
		"\u0661":                    `"\u0661"`,
		"❤\ufe0f":                   `"❤\ufe0f"`,
		"👍\U0001f3fd":               `"👍\U0001f3fd"`,
		"🇩🇪":                        `"\U0001f1e9\U0001f1ea"`,
		"1\u20e3":                   `"1\u20e3"`,
		"\u1112\u1161":              "\"\u1112\\u1161\"",
		"א\"\\":                     `"\u05d0\"\\"`,
		"א\x1b[31m":                 `"\u05d0\x1b[31m"`,
		"한국어":                       "한국어",
		"\u202eabc":                 `"\u202eabc"`,
	} {
		require.Equal(t, want, quoted(given))
		safe(t, quoted(given))
		require.True(t, steady(quoted(given)))
	}
}

func TestTheClocksAreCompared(t *testing.T) {
	for ahead, want := range map[time.Duration]time.Duration{
		0: 0, 3 * time.Second: 0, -3 * time.Second: 0, 4 * time.Second: 4 * time.Second, -time.Hour: -time.Hour,
	} {
		f, env := startFake(t, sampleHandler("default")), testEnvironment()
		f.ahead = ahead
		c, err := newClient(f.addr, nil)
		require.NoError(t, err)
		c.now = env.now
		_, err = c.ask(context.Background(), call{})
		require.NoError(t, err)
		require.Equal(t, want, time.Duration(c.ahead.Load()))
	}
}
