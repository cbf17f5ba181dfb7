// Package callback knows the format of Fotor's callbacks: it reads one, with
// every problem at once if it is none, and makes the event that it becomes, and
// that event's identity.
//
// The format is that of https://docs.fotor.com/webhook as modified on 2025-01-22,
// with what public clients of the same API have seen beyond it; docs/event.md and
// the JSON Schemas in schema/ say what is accepted and what becomes of it. The
// files have it in the order in which it happens: parse.go, values.go and url.go
// read the body's bytes, once; identity.go writes the canonical form of what was
// read (canonical.go, number.go), from which the id is made; event.go writes the
// event.
//
// The package knows nothing of HTTP or Caddy. Its functions may be called from
// any number of goroutines.
package callback

import (
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxDepth is how deep a callback's objects and arrays may be nested, the
// document itself being the first level. The event holds undocumented
// members one level deeper, and common receivers read no deeper than 512
// (PHP) or about 1000 (Python, SQLite). It also bounds the time that a
// hostile body takes to be put into canonical form, which grows with the
// depth times the length.
const maxDepth = 500

// Callback is a body that has been found to be a Fotor callback. It refers to
// the body's bytes.
type Callback struct {
	// TaskID and Type are not empty, but may hold any other text, control
	// characters included.
	TaskID, Type string

	// Status is what the task's status number means, by the rules.
	Status inbox.Status

	id       string // the event's
	formerID string // that older versions gave it; empty if it is the same
	size     int    // the body's
	code     int    // the status as Fotor's number
	rules    *Rules

	taskID, taskType jsonString
	businessID       jsonString
	resultURL        jsonString
	avatars          []avatar
	noAvatars        jsonString // what is there in place of avatars: null, [] or nothing
	hsfw, nsfw       optionalBool
	extra            []member
}

// jsonString is a string as JSON in its shortest spelling, quotation marks included;
// null if that was there in its place, nil if it was not there.
type jsonString []byte

var (
	emptyString = jsonString(`""`)
	emptyArray  = jsonString(`[]`)
	jsonNull    = jsonString(`null`)
)

// isNothing reports whether s is absent, null or empty.
func (s jsonString) isNothing() bool { return len(s) <= len(emptyString) || s[0] == 'n' }

// avatar is an element of avatarResult: what one template made.
type avatar struct {
	templateID jsonString
	images     []avatarImage
	noImages   jsonString // what is there in place of images: null, [] or nothing
	extra      []member
}

type avatarImage struct {
	id, url    jsonString
	hsfw, nsfw optionalBool
	extra      []member
}

// member is an undocumented member of an object as it arrived: its name with
// quotation marks, its value with whatever white space is inside.
type member struct{ name, value []byte }

// optionalBool is a boolean that may be absent.
type optionalBool uint8

const (
	boolAbsent optionalBool = iota
	boolNull                // which is absent too
	boolFalse
	boolTrue
	boolUnusable // of another type, which is a problem on record
)

// isTrue reports whether either spelling of a flag says that something is so.
func isTrue(hsfw, nsfw optionalBool) bool { return hsfw == boolTrue || nsfw == boolTrue }

// Parse reads a callback in Fotor's documented format. It accepts
// exactly what schema/callback.schema.json accepts, and the further statuses of
// the rules, provided that the body is I-JSON (RFC 7493: one document, UTF-8, no
// lone surrogates, no name twice in an object) and nested at most 500 levels
// deep. A byte order mark before it is ignored, but counts in byte offsets. What
// is wrong with any other body is an *InvalidError.
//
// The callback refers to the body, which must not change until the last use of
// the callback.
func Parse(body []byte, rules *Rules) (*Callback, error) {
	p := newParser(body, rules)
	defer p.free()

	if err := p.document(); err != nil {
		return nil, notJSON(err, p.mark)
	}
	if len(p.problems) > 0 {
		// what is no JSON for the gateway is told as that
		_, depth := p.canonicalizer.canonicalize(p.body)
		if err := checkDepth(depth); err != nil {
			return nil, notJSON(err, 0)
		}
		return nil, p.invalid()
	}
	if err := p.identify(); err != nil {
		return nil, notJSON(err, 0)
	}
	return p.c, nil
}

func checkDepth(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested %d levels deep; at most %d are read", depth, maxDepth)
	}
	return nil
}
