package fotorwebhook

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/mediatype"
)

// validate returns the callback of a request, or the answer that refuses it.
func validate(header http.Header, body []byte, rules *callback.Rules) (c *callback.Callback, refused *answer) {
	if detail := mediatype.Unsupported(header); detail != "" {
		a := answerMedia(detail)
		return nil, &a
	}
	return answerOf(callback.ParseLazily(body, rules))
}

// validateBody is validate for a body from the quarantine, which has no headers.
func validateBody(body []byte, rules *callback.Rules) (c *callback.Callback, refused *answer) {
	return answerOf(callback.Parse(body, rules))
}

func answerOf(c *callback.Callback, err error) (*callback.Callback, *answer) {
	if err == nil {
		return c, nil
	}
	invalid, ok := errors.AsType[*callback.InvalidError](err)
	if !ok { // Parse returns no other error
		invalid = &callback.InvalidError{NotJSON: true, Problems: []callback.Problem{{Detail: err.Error()}}}
	}
	a := answerInvalid(invalid)
	return nil, &a
}

// reasons returns the problems for which a callback is refused, at least one: of a
// callback whose body was not parsed, the answer's detail.
func (a *answer) reasons() []callback.Problem {
	if len(a.problems) == 0 {
		return []callback.Problem{{Detail: a.detail}}
	}
	return a.problems
}

// suspectOf returns what the quarantine keeps of a refused callback.
func suspectOf(c received, refused *answer) *inbox.Suspect {
	return &inbox.Suspect{
		ReceivedAt: c.receivedAt,
		SourceIP:   c.source.String(),
		Status:     refused.status,
		Problems:   appendProblems(nil, refused.reasons()),
		Body:       bytes.Clone(c.body),
	}
}
