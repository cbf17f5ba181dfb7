// Package show makes texts for people: texts from outside, in which nothing invisible is
// hidden, and durations. It is for the command line and the dashboard.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
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

// Text escapes what nobody would see, or would see elsewhere, except for line feeds and
// spaces: what is not printable, letters that are blank, and marks, such as accents, that
// have no character before them to stand on.
func Text(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	var e eye
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case e.sees(r, size) || r == '\n':
			b.WriteRune(r)
		case invalid(r, size):
			fmt.Fprintf(&b, `\x%02x`, s[0])
		default:
			escape := strconv.QuoteRuneToASCII(r)
			b.WriteString(escape[1 : len(escape)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// Value is Text for what stands alone, such as an id: spaces and line feeds at its ends are
// escaped, too.
func Value(s string) string {
	inner := strings.Trim(s, edges)
	before := s[:len(s)-len(strings.TrimLeft(s, edges))]
	after := s[len(before)+len(inner):]
	return escapeEdges.Replace(before) + Text(inner) + escapeEdges.Replace(after)
}

const edges = " \n"

var escapeEdges = strings.NewReplacer(" ", `\x20`, "\n", `\n`)

// JSON replaces by \u escapes, which mean the same, what Text escapes. JSON may have bidi
// overrides and C1 control characters as they are.
func JSON(document []byte) []byte {
	out := make([]byte, 0, len(document)+64)
	var e eye
	for len(document) > 0 {
		r, size := utf8.DecodeRune(document)
		switch {
		case e.sees(r, size) || r == '\n':
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

// eye reads a text as people do.
type eye struct{ base bool } // the character before is one that a mark can stand on

// sees reports whether the next character of a text is seen, and in its place.
func (e *eye) sees(r rune, size int) bool {
	if r >= '!' && r <= '~' {
		e.base = r != '"' // a mark after it is the first of a text in quotes
		return true
	}
	seen := !invalid(r, size) && strconv.IsPrint(r) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && !strings.ContainsRune(blank, r)
	if seen && unicode.In(r, unicode.Mn, unicode.Me) {
		return e.base
	}
	e.base = seen && r != ' '
	return seen
}

// invalid reports whether what was decoded is a byte that is not UTF-8.
func invalid(r rune, size int) bool { return r == utf8.RuneError && size == 1 }

// blank are printable characters without ink that Unicode does not list as ignorable: of
// music, Braille and hieroglyphs.
const blank = "\u2800\U00013441\U00013442\U0001d159"

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
