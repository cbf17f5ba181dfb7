package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// quoted makes a text from outside safe for a terminal: it is unchanged, or in quotes
// with escapes if it has anything that is not printable, such as control characters, bidi
// overrides and bytes that are not UTF-8.
func quoted(s string) string {
	if printable(s) {
		return s
	}
	return strconv.Quote(s)
}

// cut is quoted, shortened to at most that many characters.
func cut(s string, most int) string {
	s = quoted(s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

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
func (env *environment) localTimeWithAge(t time.Time) string {
	shown := env.localTime(t)
	switch ahead := t.Sub(env.now()); {
	case ahead.Abs() < time.Second:
		return shown + " (now)"
	case ahead > 0:
		return fmt.Sprintf("%s (in %s)", shown, span(ahead))
	default:
		return fmt.Sprintf("%s (%s ago)", shown, span(-ahead))
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
