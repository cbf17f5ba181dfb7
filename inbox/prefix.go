package inbox

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// MinPrefix is the least number of digits of a Prefix.
	MinPrefix = 4

	// LongPrefix is the number of digits from which on a Prefix counts as that of one
	// task: that a million events of others have one with the same digits by chance is
	// less likely than one in a hundred million.
	LongPrefix = shortKey + shortContent

	// The digits of the key of the task and of the content in a short id.
	shortKey, shortContent = 8, 4

	// keyDigits is the number of digits of the key of the task, with which an id begins.
	keyDigits = 16
)

// ShortID returns the short form of an event's id: the first 8 digits of it, a hyphen,
// and the first 4 of those in which the events of a task differ, such as d43f7d09-49b7.
// It is a Prefix. What is no id is returned as it is.
func ShortID(id string) string { return ShortIDOf(id, shortContent) }

// ShortIDOf is ShortID with that number of digits after the hyphen, 1 to 32.
func ShortIDOf(id string, digits int) string {
	if _, err := ParseID(id); err != nil {
		return id
	}
	return id[:shortKey] + "-" + id[keyDigits:keyDigits+digits]
}

// Prefix selects events by the first digits of their ids: of the id as a whole, or, with
// a hyphen between them, of the key of the task and of the rest.
type Prefix struct{ key, content string }

// ParsePrefix parses a Prefix: the first digits of an id, or a short id. The error says
// what is expected.
func ParsePrefix(s string) (p Prefix, err error) {
	key, content, hyphen := strings.Cut(s, "-")
	if !hyphen && len(s) > keyDigits {
		key, content = s[:keyDigits], s[keyDigits:]
	}
	if !hexDigits(key) || !hexDigits(content) || hyphen && content == "" ||
		len(key) < MinPrefix || len(key) > keyDigits || len(content) > IDLength-keyDigits {
		err = fmt.Errorf("expected the first digits of an event's id, %d to %d of 0-9 and a-f, such as d43f7d09 or d43f7d09-49b7", MinPrefix, IDLength)
	}
	return Prefix{key, content}, err
}

func hexDigits(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// String returns the prefix as ParsePrefix takes it.
func (p Prefix) String() string {
	if len(p.key) == keyDigits || p.content == "" {
		return p.key + p.content
	}
	return p.key + "-" + p.content
}

// Matches reports whether an id has the prefix.
func (p Prefix) Matches(id string) bool {
	return len(id) == IDLength && strings.HasPrefix(id, p.key) && strings.HasPrefix(id[keyDigits:], p.content)
}

// Long reports whether the prefix has so many digits that the events that have it are
// taken to be of one task.
func (p Prefix) Long() bool { return len(p.key)+len(p.content) >= LongPrefix }

// OfTask reports whether the prefix has the whole key of a task.
func (p Prefix) OfTask() bool { return len(p.key) == keyDigits }

// OnlyKey reports whether all events of the tasks with these keys have the prefix.
func (p Prefix) OnlyKey() bool { return p.content == "" }

// Whole reports whether the prefix is a whole id.
func (p Prefix) Whole() bool { return len(p.key)+len(p.content) == IDLength }

// TaskKeys returns the first and the last TaskKey that have the prefix.
func (p Prefix) TaskKeys() (first, last uint64) {
	missing := keyDigits - len(p.key)
	// ParsePrefix has seen to the digits
	first, _ = strconv.ParseUint(p.key+strings.Repeat("0", missing), 16, 64)
	last, _ = strconv.ParseUint(p.key+strings.Repeat("f", missing), 16, 64)
	return first, last
}
