// Package show makes texts for people: texts from outside, in which nothing invisible is
// hidden, and durations. It is for the command line and the dashboard.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Printable reports whether a text has nothing that is not printable, such as control
// characters, bidi overrides and bytes that are not UTF-8.
func Printable(s string) bool {
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

// Text escapes what is not printable, except for line feeds.
func Text(s string) string {
	if Printable(s) {
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

// JSON replaces what is not printable in JSON by \u escapes, which mean the same.
// JSON may have bidi overrides and C1 control characters as they are.
func JSON(document []byte) []byte {
	if Printable(string(document)) {
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

// Span formats a duration for people, with its two largest units.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return Latency(d)
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

// Latency formats a short duration with about three digits.
func Latency(d time.Duration) string {
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
