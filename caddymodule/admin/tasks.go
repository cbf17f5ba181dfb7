package admin

import (
	"errors"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxTaskBody bounds the body of a request with tasks, in bytes: inbox.MaxTrack ids of
// inbox.MaxTaskID bytes, each byte written as \u00xx, fit in.
const maxTaskBody = 2 << 20

func (c *call) track() error {
	if err := c.params().failure(); err != nil {
		return err
	}
	var request control.TrackRequest
	if err := c.bodyUpTo(maxTaskBody, &request); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	tracked, err := c.gateway.Track(ctx, inbox.FromOperator, request.Tasks...)
	if bad, ok := errors.AsType[*control.TaskIDsError](err); ok {
		return c.answer(http.StatusUnprocessableEntity, control.Refused{Error: bad.Error(), Problems: bad.Problems})
	}
	if err != nil {
		return taskFailure(err)
	}
	c.audit("tasks tracked by hand", zap.Int("added", tracked.Added), zap.Int("known", tracked.Known))
	return c.answer(http.StatusOK, tracked)
}

func (c *call) listTasks() error {
	p := c.params("limit", "cursor", "order")
	page := p.Page()
	if err := p.failure(); err != nil {
		return err
	}
	answer, err := control.ListTasks(c.r.Context(), c.gateway, page)
	switch {
	case errors.Is(err, inbox.ErrCursor):
		return pageFailure(p, err)
	case err != nil:
		return taskFailure(err)
	}
	return c.answer(http.StatusOK, answer)
}

// taskID returns the id in the path. Unlike other ids it may have any characters.
func (c *call) taskID() (string, error) {
	id, err := url.PathUnescape(c.id)
	if err != nil {
		return "", failure(http.StatusNotFound, err) // not reached: net/http has parsed it
	}
	if control.CheckTaskID(id) != nil {
		return "", failure(http.StatusNotFound, errors.New("that is no id of a task: expected 1 to 256 bytes of UTF-8"))
	}
	return id, c.params().failure()
}

func (c *call) showTask() error {
	id, err := c.taskID()
	if err != nil {
		return err
	}
	task, err := control.ShowTask(c.r.Context(), c.gateway.Inbox(), id)
	if err != nil {
		return taskFailure(err)
	}
	return c.answer(http.StatusOK, task)
}

func (c *call) untrack() error {
	id, err := c.taskID()
	if err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := control.Untrack(ctx, c.gateway.Inbox(), id); err != nil {
		return taskFailure(err)
	}
	c.audit("task untracked by hand", zap.String("task_id", id))
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// taskFailure returns an error about tasks with the status that belongs to it.
func taskFailure(err error) error {
	switch {
	case errors.Is(err, control.ErrNotAsking):
		return failure(http.StatusConflict, err)
	case errors.Is(err, control.ErrNotTracking):
		return failure(http.StatusNotImplemented, err)
	case errors.Is(err, inbox.ErrNotFound):
		return failure(http.StatusNotFound, errors.New("no such task is tracked: its final event may have come, or nobody has named it"))
	}
	return inboxFailure(err)
}
