package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func (c *call) listEvents() error {
	p := c.params(append([]string{"limit", "cursor", "order"}, control.FilterParams...)...)
	filter, page := p.Filter(), p.Page()
	if err := p.failure(); err != nil {
		return err
	}
	answer, err := control.ListEvents(c.r.Context(), c.gateway.Inbox(), filter, page)
	if err != nil {
		return pageFailure(p, err)
	}
	return c.answer(http.StatusOK, answer)
}

// pageFailure returns the failure of a list.
func pageFailure(p params, err error) error {
	if errors.Is(err, inbox.ErrCursor) {
		p.Fail("cursor", "%w", err)
		return p.failure()
	}
	return inboxFailure(err)
}

func (c *call) showEvent() error {
	if err := c.params().failure(); err != nil {
		return err
	}
	detail, err := control.ShowEvent(c.r.Context(), c.gateway.Inbox(), c.id)
	if err != nil {
		return inboxFailure(err)
	}
	return c.answer(http.StatusOK, detail)
}

func (c *call) purgeEvent() error {
	p := c.params("destination")
	destination := p.Destination("destination")
	if err := p.failure(); err != nil {
		return err
	}
	if err := control.Purge(c.r.Context(), c.gateway, c.id, destination); err != nil {
		return inboxFailure(err)
	}
	c.audit("event purged by hand", append(named(destination, ""), zap.String("event_id", c.id))...)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) replayEvent() error {
	p := c.params("destination", "to")
	destination, to := p.Destination("destination"), p.to()
	if err := p.failure(); err != nil {
		return err
	}
	if err := c.configured(to); err != nil {
		return err
	}
	if err := control.Again(c.r.Context(), c.gateway, c.id, destination, to); err != nil {
		return inboxFailure(err)
	}
	c.audit("event replayed by hand", append(named(destination, to), zap.String("event_id", c.id))...)
	return c.answer(http.StatusOK, control.Done{ID: c.id, State: inbox.Pending.String()})
}

// answer answers with JSON.
func (c *call) answer(status int, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	if err := encode(c.w, v); err != nil {
		// the client has gone, and it is too late for another answer
		c.logger.Debug("answer not sent", zap.Error(err))
	}
	return nil
}

// encode writes v as one line of JSON.
func encode(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // it is never part of a page
	return encoder.Encode(v)
}
