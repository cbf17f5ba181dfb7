// Package percent encodes texts from outside, so that they can stand in a header.
package percent

import "strings"

// Max is the length in bytes to which an encoded text is cut.
const Max = 1024

// Encode encodes a text as the CloudEvents HTTP protocol binding says in 3.1.3.2: what is
// not printable ASCII, and space, double quote and percent, become percent-encoded UTF-8.
// So do the bytes of also. A text that is too long is cut.
func Encode(s, also string) string {
	plain := func(c byte) bool {
		return c > ' ' && c < 0x7f && c != '"' && c != '%' && strings.IndexByte(also, c) < 0
	}
	clean := len(s) <= Max
	for i := 0; clean && i < len(s); i++ {
		clean = plain(s[i])
	}
	if clean {
		return s
	}
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < Max-2; i++ {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
