package fotorapi

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// Kind is what an error means for whoever has asked.
type Kind uint8

const (
	// Other is no error of this package: the context ended, say.
	Other Kind = iota

	// Unauthorized: Fotor refuses the key (HTTP 401). Nothing more is asked, see Client.
	Unauthorized

	// TooOften: HTTP 429. The budget has slowed down already. Ask again later, but not
	// before RetryAfter.
	TooOften

	// Unavailable: no answer in time, a connection that failed or broke off, an HTTP
	// status such as 5xx, or a redirect, which is not followed. It says nothing about the
	// task. Ask again later.
	Unavailable

	// Unusable: an answer with status 200 that cannot be read: longer than MaxAnswer, no
	// JSON, compressed. It may be about this task only, so others can be asked for. Ask
	// again later.
	Unusable

	// NotKnown: Fotor answers, but not with a task: the code "999" or another that is not
	// "000", HTTP 400, 404 or 410, or no data. It does not mean that the task failed: it may
	// be known later, or belong to another account.
	NotKnown

	// OtherTask: the answer is about another task than the question. That is suspicious:
	// something between here and Fotor mixes answers up, or makes them. Nothing of it
	// should be used.
	OtherTask

	// Unaskable: no question was asked, because the task's id cannot stand in a URL. That
	// will not change.
	Unaskable
)

// String returns the kind as a label, such as too_often.
func (k Kind) String() string {
	switch k {
	case Unauthorized:
		return "unauthorized"
	case TooOften:
		return "too_often"
	case Unavailable:
		return "unavailable"
	case Unusable:
		return "unusable"
	case NotKnown:
		return "not_known"
	case OtherTask:
		return "other_task"
	case Unaskable:
		return "unaskable"
	default:
		return "other"
	}
}

// Error is why a question has no answer. Its text never has the key, is printable, and has
// at most a few hundred bytes. It does not wrap the error of the transport, whose text may
// have anything.
type Error struct {
	Kind Kind

	// Status is the HTTP status; 0 if there was no answer.
	Status int

	// Code is Fotor's code, such as "999"; "" if the answer has none.
	Code string

	// RetryAfter is how long the answer asks to wait, at most MaxRetryAfter; 0 if it does
	// not say.
	RetryAfter time.Duration

	// Took is how long the question took, without waiting for the budget.
	Took time.Duration

	reason string
}

// MaxRetryAfter bounds how long a Retry-After is obeyed: a mistake of Fotor's, or of a proxy,
// must not end all questions.
const MaxRetryAfter = 10 * time.Minute

func (e *Error) Error() string { return e.reason }

// KindOf returns the kind of an error that Task or Check has returned; Other for any other
// error, and for nil.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Other
}

// RetryAfterOf returns the RetryAfter of an error that Task or Check has returned, 0 for any
// other error.
func RetryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// readable makes a text from outside fit for an error: without the key, printable, and short.
func (c *Client) readable(text string) string {
	for _, spelling := range c.spellings {
		text = strings.ReplaceAll(text, spelling, "[key]")
	}
	return bounded(text)
}

// spellings returns how a key may be written in a text: as it is, escaped as in a URL,
// quoted as in Go and JSON.
func spellings(key string) []string {
	quoted := strconv.Quote(key)
	all := []string{key, url.QueryEscape(key), url.PathEscape(key), quoted[1 : len(quoted)-1]}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(all)
}

// maxReason is the length in bytes to which a text from outside is cut.
const maxReason = 160

// bounded makes a text printable and short.
func bounded(text string) string {
	text = show.Text(strings.Join(strings.Fields(text), " "))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}
