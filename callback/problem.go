package callback

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
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

	// Detail says what is wrong and what is expected, in at most 200 bytes. It quotes
	// at most a few offending characters of the body, escaped.
	Detail string `json:"detail"`
}

// InvalidError says why a body is not a callback.
type InvalidError struct {
	// NotJSON is true if the body is not one I-JSON document; otherwise it is one, but
	// not a callback.
	NotJSON bool

	// Problems lists everything that is wrong, at least one problem, in byte order of
	// their pointers. Of the problems within avatarResult it lists the first 100; a
	// problem with the pointer "" then says how many more there are. A body that is
	// not JSON has one problem.
	Problems []Problem
}

// Error implements error. It gives the first problems.
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

// invalid returns the recorded problems as an error.
func (p *parser) invalid() *InvalidError {
	if p.unlisted > 0 {
		p.add("", fmt.Sprintf("has %d more problems within avatarResult, which are not listed", p.unlisted))
	}
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return &InvalidError{Problems: p.problems}
}

// notJSON makes the error for a body that is not one I-JSON document. Only a repeated
// name has a pointer: any other fault of the syntax makes the structure doubtful, so
// that its byte offset must do. Offsets are in the body, including the bytes that
// were skipped before the document.
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

// boundPointer returns p, or if it is too long, the pointer of the nearest enclosing
// value that is not.
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
