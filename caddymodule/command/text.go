package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
	"golang.org/x/text/unicode/bidi"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// quoted makes a text from outside safe for a terminal: it is unchanged, or in quotes with
// escapes if it has anything that is not printable, such as control characters, bidi
// overrides and bytes that are not UTF-8, or anything that a terminal may draw elsewhere or
// wider than expected.
func quoted(s string) string {
	clear, still := printable(s), steady(s)
	switch {
	case clear && still:
		return s
	case clear:
		s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	default:
		s = strconv.Quote(s)
	}
	if still {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unsteady(r) || unicode.Is(unicode.M, r) {
			b.WriteString(runeEscape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// maxMarks is how many marks a character may have, such as accents: enough for the
// languages that have several, but too few to reach into other lines.
const maxMarks = 2

// steady reports whether all terminals show a printable text in its order, and as wide as is
// expected.
func steady(s string) bool {
	marks := maxMarks // none at the beginning: it would be one of what stands before the text
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			marks = 0
		case unsteady(r):
			return false
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks {
				return false
			}
		default:
			marks = 0
		}
	}
	return true
}

// unsteady reports whether terminals differ about a character: those that are written from
// right to left move what stands beside them, digits of other columns too; and about the
// width of marks that take room, of what changes or joins the character before it, and of
// Hangul in parts, they do not agree.
func unsteady(r rune) bool {
	if unicode.In(r, unicode.Mc, unicode.Me, unicode.Variation_Selector, unicode.Regional_Indicator) ||
		r >= 0x1f3fb && r <= 0x1f3ff || // the tones of an emoji
		r >= 0x1160 && r <= 0x11ff || r >= 0xd7b0 && r <= 0xd7ff {
		return true
	}
	properties, _ := bidi.LookupRune(r)
	switch properties.Class() { //nolint:exhaustive // of those that go to the right
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return false
}

func runeEscape(r rune) string {
	escape := strconv.QuoteRuneToASCII(r)
	return escape[1 : len(escape)-1]
}

// cut is quoted, shortened to a width on a terminal.
func cut(s string, width int) string { return snip(quoted(s), width) }

func printable(s string) bool { return show.Printable(s) }

// escapeText escapes what is not printable, except for line feeds.
func escapeText(s string) string { return show.Text(s) }

// escapeJSON replaces what is not printable in JSON by escapes, which mean the same.
func escapeJSON(document []byte) []byte { return show.JSON(document) }

// indent formats JSON for reading. What is not JSON is returned as text.
func indent(document []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, document, "", "  ") != nil {
		return escapeText(string(document))
	}
	return string(escapeJSON(b.Bytes()))
}

// localTime formats a time for people.
func (env *environment) localTime(t time.Time) string {
	return t.In(env.zone).Format(time.DateTime)
}

// localTimeWithAge formats a time with how long ago that was, or how far ahead it is.
func (s *session) localTimeWithAge(t time.Time) string {
	return s.localTime(t) + " (" + s.age(t) + ")"
}

// age formats how long ago a time was, or how far ahead it is.
func (s *session) age(t time.Time) string {
	switch ahead := t.Sub(s.now()); {
	case ahead.Abs() < time.Second:
		return "now"
	case ahead > 0:
		return "in " + span(ahead)
	default:
		return span(-ahead) + " ago"
	}
}

func span(d time.Duration) string { return show.Span(d) }

func latency(d time.Duration) string { return show.Latency(d) }

func milliseconds(ms float64) time.Duration {
	return time.Duration(ms * float64(time.Millisecond))
}

// configDuration formats a duration of the config, such as "168h0m0s", for people.
func configDuration(s string) string {
	d, err := caddy.ParseDuration(s)
	if err != nil {
		return quoted(s)
	}
	return span(d)
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

func count(n int64) string { return humanize.Comma(n) }

// plural formats a count with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// parseDuration parses a positive duration such as 30m or 3d.
func parseDuration(flag, s string) (time.Duration, error) {
	d, err := caddy.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("--%s %q: expected a duration such as 30m, 2h or 3d", flag, s)
	}
	return d, nil
}

// parseTime parses a time: RFC 3339, or local with or without seconds.
func (env *environment) parseTime(s string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, env.zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
