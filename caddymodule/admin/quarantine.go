package admin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// listedProblems is how many problems of a callback a list shows.
const listedProblems = 3

func (c *call) listQuarantine() error {
	p := c.params("limit", "cursor")
	page := p.page()
	if err := p.failure(); err != nil {
		return err
	}
	suspects, next, err := c.gateway.Inbox().Suspects(c.r.Context(), page)
	if err != nil {
		return pageFailure(p, err)
	}
	answer := control.Quarantine{Callbacks: make([]control.Quarantined, 0, len(suspects)), Next: next}
	for _, s := range suspects {
		callback, err := quarantinedOf(s)
		if err != nil {
			return err
		}
		callback.Problems = callback.Problems[:min(len(callback.Problems), listedProblems)]
		answer.Callbacks = append(answer.Callbacks, callback)
	}
	return c.answer(http.StatusOK, answer)
}

func quarantinedOf(s *inbox.Suspect) (control.Quarantined, error) {
	problems := []control.Problem{}
	if len(s.Problems) > 0 {
		if err := json.Unmarshal(s.Problems, &problems); err != nil {
			return control.Quarantined{}, fmt.Errorf("the problems of quarantined callback %d: %w", s.ID, err)
		}
	}
	return control.Quarantined{
		ID:           s.ID,
		ReceivedAt:   s.ReceivedAt.UTC(),
		LastAt:       s.Last.UTC(),
		Count:        s.Count,
		SourceIP:     s.SourceIP,
		Status:       s.Status,
		Size:         len(s.Body),
		Problems:     problems,
		ProblemCount: len(problems),
	}, nil
}

// suspectID returns the id in the path.
func (c *call) suspectID() (int64, error) {
	id, err := strconv.ParseInt(c.id, 10, 64)
	if err != nil || id < 1 || strconv.FormatInt(id, 10) != c.id {
		return 0, failure(http.StatusNotFound, errors.New("that is no id of a quarantined callback: expected a number"))
	}
	return id, c.params().failure()
}

func (c *call) showQuarantined() error {
	id, err := c.suspectID()
	if err != nil {
		return err
	}
	suspect, err := c.gateway.Inbox().Suspect(c.r.Context(), id)
	if err != nil {
		return inboxFailure(err)
	}
	callback, err := quarantinedOf(suspect)
	if err != nil {
		return err
	}
	detail := control.QuarantinedDetail{Quarantined: callback}
	detail.Body, detail.BodyEncoding = bodyOf(suspect.Body)
	return c.answer(http.StatusOK, detail)
}

// bodyOf returns a body as a text, and how that is encoded.
func bodyOf(body []byte) (text, encoding string) {
	if utf8.Valid(body) {
		return string(body), control.BodyText
	}
	return base64.StdEncoding.EncodeToString(body), control.BodyBase64
}

func (c *call) release() error {
	id, err := c.suspectID()
	if err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	released, err := c.gateway.Release(ctx, id)
	if invalid, ok := errors.AsType[*control.InvalidError](err); ok {
		return c.answer(http.StatusUnprocessableEntity, control.Refused{Error: invalid.Error(), Problems: invalid.Problems})
	}
	if err != nil {
		return inboxFailure(err)
	}
	c.audit("callback released from quarantine by hand", zap.Int64("quarantine_id", id), zap.String("event_id", released.ID))
	return c.answer(http.StatusOK, released)
}

func (c *call) deleteQuarantined() error {
	id, err := c.suspectID()
	if err != nil {
		return err
	}
	if err := c.gateway.Inbox().Unquarantine(c.r.Context(), id); err != nil {
		return inboxFailure(err)
	}
	c.audit("callback deleted from quarantine by hand", zap.Int64("quarantine_id", id))
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
