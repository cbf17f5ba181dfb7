package fotorapi

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxTaskID is the most bytes that the id of a task may have to be asked for. Fotor's have 32.
const MaxTaskID = 512

// checkTaskID makes sure that an id can be one segment of a path. It is escaped there; but
// "." and ".." mean something even then, to some servers also beside escaped slashes.
func checkTaskID(id string) error {
	var reason string
	switch {
	case id == "":
		reason = "it is empty"
	case len(id) > MaxTaskID:
		reason = fmt.Sprintf("it has %d bytes: expected at most %d", len(id), MaxTaskID)
	case !utf8.ValidString(id):
		reason = "it is not UTF-8"
	case slices.ContainsFunc(strings.FieldsFunc(id, isSlash), isDots):
		reason = `it has "." or ".." where a path would`
	default:
		return nil
	}
	return &Error{Kind: Unaskable, reason: "a task with this id cannot be asked for: " + reason}
}

func isSlash(r rune) bool { return r == '/' || r == '\\' }

func isDots(segment string) bool { return segment == "." || segment == ".." }

// escapeSegment escapes all of an id but unreserved characters (RFC 3986, 2.3).
func escapeSegment(id string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
