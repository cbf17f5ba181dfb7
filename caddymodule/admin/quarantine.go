package admin

import (
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func (c *call) listQuarantine() error {
	p := c.params("limit", "cursor")
	page := p.Page()
	if err := p.failure(); err != nil {
		return err
	}
	answer, err := control.ListQuarantine(c.r.Context(), c.gateway.Inbox(), page)
	if err != nil {
		return pageFailure(p, err)
	}
	return c.answer(http.StatusOK, answer)
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
	detail, err := control.ShowQuarantined(c.r.Context(), c.gateway.Inbox(), id)
	if err != nil {
		return inboxFailure(err)
	}
	return c.answer(http.StatusOK, detail)
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
