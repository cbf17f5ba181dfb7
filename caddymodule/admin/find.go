package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// find searches for events by the beginning of their ids, or by their task.
func (c *call) find() error {
	p := c.params("id")
	id := p.Text("id")
	if !p.Has("id") {
		p.Fail("id", "it is missing: expected the beginning of an event's id, or the id of a task")
	}
	if err := p.failure(); err != nil {
		return err
	}
	found, err := control.FindEvents(c.r.Context(), c.gateway.Inbox(), id)
	switch {
	case errors.Is(err, control.ErrWholeIDs):
		return failure(http.StatusNotImplemented, fmt.Errorf("parameter \"id\": %w", err))
	case err != nil:
		return inboxFailure(err)
	}
	return c.answer(http.StatusOK, found)
}
