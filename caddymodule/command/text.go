package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
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

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// escapeText escapes what is not printable, except for line feeds.
func escapeText(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n' || strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			escape := strconv.QuoteRuneToASCII(r)
			b.WriteString(escape[1 : len(escape)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// escapeJSON replaces what is not printable in JSON by \u escapes, which mean the same.
// JSON may have bidi overrides and C1 control characters as they are.
func escapeJSON(document []byte) []byte {
	if printable(string(document)) {
		return document
	}
	out := make([]byte, 0, len(document)+64)
	for len(document) > 0 {
		r, size := utf8.DecodeRune(document)
		switch {
		case r == '\n' || strconv.IsPrint(r) && (r != utf8.RuneError || size > 1):
			out = append(out, document[:size]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		document = document[size:]
	}
	return out
}

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

// span formats a duration for people, with its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return latency(d)
	case d < time.Minute:
		return units(d, time.Second, "s", time.Second, "")
	case d < time.Hour:
		return units(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return units(d, time.Hour, "h", time.Minute, "m")
	default:
		return units(d, day, "d", time.Hour, "h")
	}
}

func units(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	s := strconv.FormatInt(int64(d/large), 10) + largeName
	if rest := d % large / small; rest > 0 && smallName != "" {
		s += " " + strconv.FormatInt(int64(rest), 10) + smallName
	}
	return s
}

// latency formats a short duration with about three digits.
func latency(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

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
