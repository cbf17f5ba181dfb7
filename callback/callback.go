package callback

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// maxDepth is how deep a callback's objects and arrays may be nested, the
	// document itself being the first level. The event holds undocumented
	// members one level deeper, and common receivers read no deeper than 512
	// (PHP) or about 1000 (Python, SQLite). It also bounds the time that a
	// hostile body takes to be put into canonical form, which grows with the
	// depth times the length.
	maxDepth = 500

	// maxProblems bounds the problems that are listed within avatarResult.
	// The document's own members, a handful, are always listed.
	maxProblems = 100

	// maxPointer and maxDetail bound the texts of a problem, in bytes.
	maxPointer = 256
	maxDetail  = 200
)

// Problem is one thing wrong with a callback.
type Problem struct {
	// Pointer is the JSON Pointer (RFC 6901) of the value that is wrong or
	// missing; "" is the whole document.
	Pointer string `json:"pointer"`

	// Detail says what is wrong and what is expected, in at most 200 bytes.
	// Of the body it repeats at most a few offending characters, escaped.
	Detail string `json:"detail"`
}

// InvalidError says why a body is not a callback.
type InvalidError struct {
	// NotJSON says that the body is not one I-JSON document; otherwise it is one,
	// but not a callback.
	NotJSON bool

	// Problems lists everything that is wrong at once, at least one, in byte
	// order of their pointers. Of the problems within avatarResult it lists the
	// first 100; a problem with the pointer "" then says how many there are
	// beyond. A body that is not JSON has one problem.
	Problems []Problem
}

// Error names the status and the first problems.
func (e *InvalidError) Error() string {
	const shown = 3
	var b strings.Builder
	if e.NotJSON {
		b.WriteString("body is not JSON")
	} else {
		b.WriteString("body is not a Fotor callback")
	}
	for i, p := range e.Problems[:min(shown, len(e.Problems))] {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		if p.Pointer != "" {
			fmt.Fprintf(&b, "%q ", p.Pointer)
		}
		b.WriteString(p.Detail)
	}
	if more := len(e.Problems) - shown; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// Callback is a body that has been found to be a Fotor callback. It refers to
// the body's bytes.
type Callback struct {
	// TaskID and Type are not empty, but may hold any other text, control
	// characters included.
	TaskID, Type string
	Status       inbox.Status

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

// invalid reports the recorded problems as an error.
func (p *parser) invalid() *InvalidError {
	if p.unlisted > 0 {
		p.add("", fmt.Sprintf("has %d more problems within avatarResult, which are not listed", p.unlisted))
	}
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return &InvalidError{Problems: p.problems}
}

// notJSON makes the error for a body that is not one I-JSON document. Only a
// repeated name has a place that can be pointed to; what else is wrong with the
// syntax makes every place behind it doubtful, so its byte offset must do: that
// in the body, the bytes that were skipped before the document counted.
func notJSON(err error, skipped int64) *InvalidError {
	problem := Problem{Detail: err.Error()}
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		problem.Pointer = boundPointer(syntax.JSONPointer)
		problem.Detail = fmt.Sprintf("is the second member of this name in its object, at byte offset %d", skipped+syntax.ByteOffset)
		if problem.Pointer != string(syntax.JSONPointer) {
			problem.Detail = fmt.Sprintf("holds an object with two members of the same name, the second at byte offset %d", skipped+syntax.ByteOffset)
		}
	case errors.Is(err, io.ErrUnexpectedEOF) && errors.As(err, &syntax):
		problem.Detail = fmt.Sprintf("unexpected end in the middle of a value at byte offset %d", skipped+syntax.ByteOffset)
	case errors.As(err, &syntax):
		problem.Detail = fmt.Sprintf("%v at byte offset %d", syntax.Err, skipped+syntax.ByteOffset)
	}
	problem.Detail = boundText(problem.Detail, maxDetail)
	return &InvalidError{NotJSON: true, Problems: []Problem{problem}}
}

// boundPointer returns p, or if that is too long the pointer of the nearest
// value around it that is not.
func boundPointer(p jsontext.Pointer) string {
	for len(p) > maxPointer {
		p = p.Parent()
	}
	return string(p)
}

// boundText cuts s to at most limit bytes of valid UTF-8.
func boundText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}
