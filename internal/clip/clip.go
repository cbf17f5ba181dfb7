// Package clip bounds texts from outside.
package clip

import "strings"

// Text returns the beginning of a text in at most that many bytes, which ends between
// characters. Bytes that are no UTF-8 are dropped.
func Text(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// Ellipsis returns a text of at most that many bytes as it is, and the beginning of a longer
// one as Text does, followed by "…".
func Ellipsis(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return Text(s, most) + "…"
}
