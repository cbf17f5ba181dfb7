// Package callback implements the format of Fotor's callbacks: it parses a body,
// reporting every problem at once if it is not a callback, and makes the event that
// the callback becomes, with its id.
//
// The format is that of https://docs.fotor.com/webhook as modified on 2025-01-22,
// plus what public clients of the same API handle beyond it. docs/event.md and the
// JSON Schemas in schema/ define what is accepted and which event it becomes.
//
// Read the files in this order, which is that of a callback:
//   - callback.go: Parse, and what it returns
//   - parse.go, values.go, url.go: reading the body, once; problem.go: what is wrong
//     with it; rules.go: what a user may decide
//   - identity.go: the event's id, from the canonical form of what was read, which
//     canonical.go and number.go write
//   - event.go: writing the event; outcome.go: what of it counts when it is compared with
//     what Fotor's API says
//
// The package does not depend on HTTP or Caddy. Its functions may be called from any
// number of goroutines.
package callback

import (
	"fmt"
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxDepth is how deep a callback's objects and arrays may be nested; the document
// itself is the first level. The event holds undocumented members one level deeper,
// and common receivers read no deeper than 512 levels (PHP) or about 1000 (Python,
// SQLite). It also bounds the time that the canonical form of a hostile body takes,
// which grows with depth times length.
const maxDepth = 500

// Callback is a body that Parse has accepted. It refers to the body's bytes.
type Callback struct {
	// TaskID and Type are not empty, but may be any other text, including control
	// characters.
	TaskID, Type string

	// Status is the meaning of the task's status number, by the rules.
	Status inbox.Status

	id       string // of the event
	formerID string // the event's id in older versions; empty if it is the same
	unmade   bool   // it is not the same, but not made yet
	size     int    // of the body, in bytes
	code     int    // Fotor's status number
	rules    *Rules

	taskID, taskType jsonString
	businessID       jsonString
	resultURL        jsonString
	avatars          []avatar
	noAvatars        jsonString // if there are no avatars: null, [], or nil if absent
	hsfw, nsfw       optionalBool
	extra            []member
}

// jsonString is a string as JSON in its shortest spelling, with quotation marks; null
// if the body has null in its place, nil if it is absent.
type jsonString []byte

var (
	emptyString = jsonString(`""`)
	emptyArray  = jsonString(`[]`)
	jsonNull    = jsonString(`null`)
)

// isNothing reports whether s is absent, null or empty.
func (s jsonString) isNothing() bool { return len(s) <= len(emptyString) || s[0] == 'n' }

// callbacks reuses the memory of callbacks.
var callbacks = sync.Pool{New: func() any { return &Callback{avatars: make([]avatar, 0, usualAvatars)} }}

// usualAvatars is the number of templates for which room is made at first.
const usualAvatars = 4

func newCallback() *Callback { return callbacks.Get().(*Callback) }

// Free lets another callback have the memory of this one, which must not be used any
// more. It may be left to the garbage collector instead; c may be nil.
func (c *Callback) Free() {
	if c == nil || c.size > MaxPooledBody {
		return
	}
	avatars := c.avatars[:cap(c.avatars)]
	for i := range avatars {
		images := avatars[i].images[:cap(avatars[i].images)]
		clear(images)
		avatars[i] = avatar{images: images[:0]}
	}
	*c = Callback{avatars: avatars[:0]}
	callbacks.Put(c)
}

// addAvatar adds an avatar without images, but with the room for them that another
// callback had.
func (c *Callback) addAvatar() *avatar {
	n := len(c.avatars)
	if n == cap(c.avatars) {
		c.avatars = append(c.avatars, avatar{})
	}
	c.avatars = c.avatars[:n+1]
	a := &c.avatars[n]
	*a = avatar{images: a.images[:0]}
	return a
}

// avatar is an element of avatarResult: the images of one template.
type avatar struct {
	templateID jsonString
	images     []avatarImage
	noImages   jsonString // if there are no images: null, [], or nil if absent
	extra      []member
}

type avatarImage struct {
	id, url    jsonString
	hsfw, nsfw optionalBool
	extra      []member
}

// member is an undocumented member of an object as it arrived: the name with quotation
// marks, the value with any white space inside it.
type member struct{ name, value []byte }

// optionalBool is a boolean that may be absent.
type optionalBool uint8

const (
	boolAbsent optionalBool = iota
	boolNull                // counts as absent
	boolFalse
	boolTrue
	boolUnusable // of another type; a problem has been recorded
)

// isTrue reports whether a flag is true in either of its two spellings.
func isTrue(hsfw, nsfw optionalBool) bool { return hsfw == boolTrue || nsfw == boolTrue }

// Parse parses a callback in Fotor's documented format. It accepts exactly what
// schema/callback.schema.json accepts, plus the status numbers of the rules, provided
// that the body is I-JSON (RFC 7493: one document, UTF-8, no lone surrogates, no name
// twice in an object) and nested at most 500 levels deep. A byte order mark before it
// is ignored, but counts in byte offsets. For any other body the error is an
// *InvalidError.
//
// The callback refers to the body, which must not change until the last use of the
// callback.
func Parse(body []byte, rules *Rules) (*Callback, error) {
	return newParser(body, rules).parse()
}

// ParseLazily is Parse for a callback that is about to be stored. The id that it had in
// older versions is only made if somebody calls the MakeFormerID of its event: so neither
// may the body change nor the callback be freed before the last call.
//
// Of a body longer than MaxPooledBody it is made at once: its callback may be many times
// as large, and need not stay in memory for its event.
func ParseLazily(body []byte, rules *Rules) (*Callback, error) {
	p := newParser(body, rules)
	p.lazy = len(body) <= MaxPooledBody
	return p.parse()
}

func (p *parser) parse() (*Callback, error) {
	defer p.free()

	if err := p.document(); err != nil {
		return nil, notJSON(err, p.mark)
	}
	if len(p.problems) > 0 {
		// a body that is nested too deep is reported as not JSON
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
