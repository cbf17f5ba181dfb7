package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// hostile has control characters, in both of their forms: it colours, retitles and clears
// a terminal, reverses text, and rings the bell.
const hostile = "\x1b[31m\x1b]0;title\x07\u009b2J\u202etxt.exe\u2066\u200b\x00\x7f\r\n\t\U000e0001"

// fill sets every text of a value to hostile, and gives every list an element.
func fill(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // of the kinds that the API's types have
	case reflect.String:
		v.SetString(hostile)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{"` + "\u202e\u009b\x7f" + `":"` + "\u202e\u009b\x7f\U000e0001" + `\u001b"}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(testNow))
			return
		}
		for _, field := range v.Fields() {
			fill(field)
		}
	}
}

// rawJSON encodes without the escapes that encoding/json adds, so that the JSON has as much
// of hostile as is allowed.
func rawJSON(t *testing.T, v any) string {
	t.Helper()
	fill(reflect.ValueOf(v).Elem())
	encoded, err := json.Marshal(v)
	require.NoError(t, err)
	raw := strings.ReplaceAll(string(encoded), `\u007f`, "\x7f")
	require.Contains(t, raw, "\u202e")
	return raw
}

// hostileServer answers every request with hostile texts.
func hostileServer(t *testing.T) string {
	t.Helper()
	event := rawJSON(t, &control.Event{})
	suspect := rawJSON(t, &control.Quarantined{})
	answers := map[string]string{
		"/fotor_webhook/h/find":                        rawJSON(t, &control.Found{}),
		"/fotor_webhook/":                              rawJSON(t, &control.Handlers{}),
		"/fotor_webhook/h":                             rawJSON(t, &control.Handler{}),
		"/fotor_webhook/h/events":                      `{"events":[` + event + `,` + event + `]}`,
		"/fotor_webhook/h/events/" + id(1):             rawJSON(t, &control.EventDetail{}),
		"/fotor_webhook/h/events/" + id(1) + "/replay": rawJSON(t, &control.Done{}),
		"/fotor_webhook/h/replay":                      rawJSON(t, &control.Bulk{}),
		"/fotor_webhook/h/purge":                       rawJSON(t, &control.Bulk{}),
		"/fotor_webhook/h/hold":                        rawJSON(t, &control.Holds{}),
		"/fotor_webhook/h/resume":                      rawJSON(t, &control.Holds{}),
		"/fotor_webhook/h/quarantine":                  `{"callbacks":[` + suspect + `]}`,
		"/fotor_webhook/h/quarantine/1":                rawJSON(t, &control.QuarantinedDetail{}),
		"/fotor_webhook/h/quarantine/1/release":        rawJSON(t, &control.Released{}),
		"/fotor_webhook/h/tasks":                       `{"tasks":[` + rawJSON(t, &control.Task{}) + `],"asking":true}`,
		"/fotor_webhook/h/explain":                     rawJSON(t, &control.Explanation{}),
	}
	refused := rawJSON(t, &control.Refused{})
	notice := rawJSON(t, &control.Notice{})
	_, addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/stream"):
			fmt.Fprintf(w, "event: %s\nid: 1\ndata: %s\n\n", "\x1b[31m", notice)
		case r.URL.Path == "/callback":
			w.Header().Set("Content-Type", mediaProblem)
			w.WriteHeader(http.StatusUnprocessableEntity)
			writeBody(w, rawJSON(t, &gatewayAnswer{}))
		case strings.HasSuffix(r.URL.Path, "/quarantine/2/release"):
			w.WriteHeader(http.StatusUnprocessableEntity)
			writeBody(w, refused)
		case answers[r.URL.Path] != "":
			writeBody(w, answers[r.URL.Path])
		case strings.HasSuffix(r.URL.Path, "/"+id(2)):
			w.WriteHeader(http.StatusInternalServerError)
			writeBody(w, "\x1b[2J\xff\xfe "+hostile)
		default:
			w.WriteHeader(http.StatusTeapot)
			writeBody(w, refused)
		}
	}))
	return addr
}

// TestHostileTexts runs every command against a server all of whose texts are hostile.
// None may reach the terminal unchanged.
func TestHostileTexts(t *testing.T) {
	addr := hostileServer(t)
	for _, command := range []string{
		"status", "status h", "status h --check", "status h --destination x", "list -n h", "list -n h --destination x", "show -n h " + id(1), "show -n h " + id(2),
		"show -n h 0000", "purge -n h 0000", "show --task x -n h",
		"replay -n h " + id(1), "replay -n h --all --yes", "purge -n h --all --dry-run", "hold -n h", "resume -n h",
		"quarantine list -n h", "quarantine show -n h 1", "quarantine release -n h 1", "quarantine release -n h 2",
		"quarantine release -n h 3", "quarantine delete -n h 3", "explain -n h 192.0.2.1", "tail --handler h -n 1",
		"list -n other", "list", "send", "tasks -n h", "untrack -n h \u202e", "track -n other a",
	} {
		for _, form := range []string{"", " --json", " --color never"} { // the last one on a terminal
			t.Run(command+form, func(t *testing.T) {
				args := append(strings.Fields(command+form), "--address", addr)
				if command == "send" {
					args = append(strings.Fields(command+form), "http://"+addr+"/callback")
				}
				env := testEnvironment()
				if form == " --color never" {
					terminalOf(env, 2000)
				}
				r := run(t, env, args...)
				safe(t, r.stdout)
				safe(t, r.stderr)
				shown := r.stdout + r.stderr
				require.NotEmpty(t, shown)
				require.Contains(t, shown, `\u202e`)
				switch {
				case env.stdoutTerminal:
					require.NotContains(t, r.stdout, "\t")
				case strings.HasPrefix(command, "list -n h") && form == "":
					for line := range strings.Lines(r.stdout) {
						require.Equal(t, len(eventColumns)-1, strings.Count(line, "\t"), "a tab of a text is no column: %q", line)
					}
				}
				if form == " --json" && r.stdout != "" && command != "send" {
					requireSameJSON(t, r.stdout)
				}
			})
		}
	}
}

// requireSameJSON checks that escapes have not changed the texts in JSON.
func requireSameJSON(t *testing.T, document string) {
	t.Helper()
	texts := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			if strings.Contains(v, "title") && v != "" {
				require.Equal(t, hostile, v)
				texts++
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	for documents := json.NewDecoder(strings.NewReader(document)); documents.More(); {
		var v any
		require.NoError(t, documents.Decode(&v))
		walk(v)
	}
	require.Positive(t, texts)
}

// TestHostileArguments has arguments that a script may pass on unchecked.
func TestHostileArguments(t *testing.T) {
	for _, args := range [][]string{
		{"list", "--config", hostile},
		{"list", "--" + hostile},
		{"list", "--address", hostile},
		{"show", hostile},
		{"status", hostile},
		{"list", "--state", hostile},
		{"list", "--since", hostile},
		{"list", hostile},
		{hostile},
		{"list", "--limit", hostile},
		{"explain", hostile},
		{"list", "--destination", hostile},
		{"replay", "--all", "--to", hostile},
		{"send", hostile},
		{"send", "http://h", "--file", hostile},
	} {
		r := run(t, testEnvironment(), args...)
		require.Equal(t, exitFailed, r.code)
		safe(t, r.stdout)
		safe(t, r.stderr)
	}
}

// TestHostileSend has a server whose problems and status line are hostile.
func TestHostileSend(t *testing.T) {
	problem, err := json.Marshal(map[string]any{"title": hostile, "errors": []control.Problem{{Pointer: hostile, Detail: hostile}}})
	require.NoError(t, err)
	for name, body := range map[string]string{"problem": string(problem), "text": hostile + "\xff", "array": `[1]`} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", mediaProblem)
				w.WriteHeader(http.StatusUnprocessableEntity)
				writeBody(w, body)
			}))
			for _, form := range []string{"--json", "--json=false"} {
				r := run(t, testEnvironment(), "send", url, form)
				safe(t, r.stdout)
				safe(t, r.stderr)
				require.Equal(t, exitNo, r.code)
			}
		})
	}
}

// TestHostileTransport has an error that quotes what the server sent.
func TestHostileTransport(t *testing.T) {
	env := testEnvironment()
	env.transport = roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("malformed HTTP status code %s", hostile)
	})
	r := run(t, env, "send", "http://fotor.test")
	require.Equal(t, exitFailed, r.code)
	safe(t, r.stdout)
}

func TestQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "",
		"avatar 任务 é – 한국어":   "avatar 任务 é – 한국어",
		`say "hi"`:            `say "hi"`,
		"a\nb":                `"a\nb"`,
		"\x1b[31mred":         `"\x1b[31mred"`,
		"c1 \u009b":           `"c1 \u009b"`,
		"evil\u202etxt":       `"evil\u202etxt"`,
		"isolate\u2066":       `"isolate\u2066"`,
		"zero\u200bwidth":     `"zero\u200bwidth"`,
		"line\u2028separator": `"line\u2028separator"`,
		"tag\U000e0001":       `"tag\U000e0001"`,
		"private\ue000":       `"private\ue000"`,
		"bad \xff\xc3":        `"bad \xff\xc3"`,
		"no-break\u00a0space": `"no-break\u00a0space"`,
		"replacement \ufffd":  "replacement \ufffd",
		"quote \" and \x1b":   `"quote \" and \x1b"`,
	} {
		require.Equal(t, want, quoted(text))
		require.True(t, printable(quoted(text)))
		require.True(t, printable(strings.ReplaceAll(escapeText(text), "\n", "")))
	}
	require.Equal(t, "two\nlines\\x1b\\xff\\u202e\\t", escapeText("two\nlines\x1b\xff\u202e\t"))
	require.Equal(t, "abc…", cut("abcdef", 4))
	require.Equal(t, "任务…", cut("任务任务", 6))
	require.Equal(t, `"\x1…`, cut("\x1b\x1b", 5))
}

func TestEscapeJSON(t *testing.T) {
	for raw, want := range map[string]string{
		`{"a":"任务"}`:             `{"a":"任务"}`,
		"[\"\u202e\"]":           `["\u202e"]`,
		"[\"\U000e0001\"]":       `["\udb40\udc01"]`,
		"[\"\U0001bca0\"]":       `["\ud82f\udca0"]`,
		"[\"\x7f\u0085\"]":       `["\u007f\u0085"]`,
		"[\n\"\xff\"]":           "[\n\"\\ufffd\"]",
		`["\u001b` + "\u009b\"]": `["\u001b\u009b"]`,
	} {
		got := escapeJSON([]byte(raw))
		require.Equal(t, want, string(got))
		var before, after any
		require.NoError(t, json.Unmarshal([]byte(raw), &before))
		require.NoError(t, json.Unmarshal(got, &after))
		require.Equal(t, before, after)
	}
}

// FuzzTexts looks for text that reaches a terminal unchanged, and for JSON whose meaning
// changes.
func FuzzTexts(f *testing.F) {
	f.Add(hostile)
	f.Add("\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		safe(t, quoted(text))
		safe(t, cut(text, 8))
		safe(t, escapeText(text))
		encoded := []byte(`"` + strings.Map(func(r rune) rune {
			if r < ' ' || r == '"' || r == '\\' {
				return -1
			}
			return r
		}, text) + `"`)
		var before, after string
		require.NoError(t, json.Unmarshal(encoded, &before), strconv.Quote(text))
		escaped := escapeJSON(encoded)
		safe(t, string(escaped))
		require.NoError(t, json.Unmarshal(escaped, &after))
		require.Equal(t, before, after)
	})
}
