package tasks

import (
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
)

// succeeded is the code of an answer to a submission that made a task.
const succeeded = "000"

// submitted is a task in an answer.
type submitted struct {
	TaskID string `json:"taskId"`
}

// named returns the ids of the tasks that an answer names, each once: its data is an object
// with a taskId, as documented, or an array of such objects. An answer whose code is not
// "000", or that has no task, names none.
func named(body []byte) (ids []string, err error) {
	var document struct {
		Code any            `json:"code"`
		Data jsontext.Value `json:"data"`
	}
	if err := json.Unmarshal(body, &document, jsontext.AllowDuplicateNames(true)); err != nil {
		return nil, err
	}
	if document.Code != succeeded {
		return nil, nil
	}
	var tasks []submitted
	switch document.Data.Kind() { //nolint:exhaustive // others have no task
	case '[':
		err = json.Unmarshal(document.Data, &tasks, jsontext.AllowDuplicateNames(true))
	case '{':
		tasks = make([]submitted, 1)
		err = json.Unmarshal(document.Data, &tasks[0], jsontext.AllowDuplicateNames(true))
	}
	for _, task := range tasks {
		if task.TaskID != "" && !slices.Contains(ids, task.TaskID) {
			ids = append(ids, task.TaskID)
		}
	}
	return ids, err
}

// learn stores the tasks that an answer names, and returns once they are on stable
// storage, or it has told that they are not.
func (x *exchange) learn(body []byte) {
	h := x.handler
	ids, err := named(body)
	if err != nil {
		h.learnt.Add(metrics.LearntUnread, 1)
		h.logger.Warn("answer not read: if it names a task, that is not known",
			zap.String("handler", h.Name), zap.Error(err))
	}
	ids = slices.DeleteFunc(ids, func(id string) bool {
		err := control.CheckTaskID(id)
		if err != nil {
			h.learnt.Add(metrics.LearntInvalid, 1)
			h.logger.Error("task not learnt: its id cannot be stored",
				zap.String("handler", h.Name), zap.String("task_id", logfield.Cut(id)), zap.Error(err))
		}
		return err != nil
	})
	if len(ids) == 0 {
		return
	}
	// the client may have gone
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), h.storeTimeout)
	defer cancel()
	for some := range slices.Chunk(ids, inbox.MaxTrack) {
		tracked, err := x.track(ctx, some)
		switch {
		case errors.Is(err, control.ErrNotAsking):
			h.warnNotAsking()
		case err != nil:
			h.learnt.Add(metrics.LearntFailed, len(some))
			h.logger.Error("task not stored: if its callback does not come, Fotor is not asked for it. "+
				"'caddy fotor-webhook track' makes it known",
				zap.String("handler", h.Name), zap.Strings("task_ids", some), zap.Error(err))
		default:
			h.learnt.Add(metrics.LearntStored, tracked.Added)
			h.learnt.Add(metrics.LearntKnown, tracked.Known)
		}
	}
}

// track tracks tasks in the inbox of the newest config, to which callbacks go too; if that
// has no such handler any more, in the one that ran when the exchange began.
func (x *exchange) track(ctx context.Context, ids []string) (control.Tracked, error) {
	gateway, err := control.Open(x.handler.Name)
	switch {
	case err == nil:
		defer x.handler.close(gateway)
	case x.gateway == nil:
		return control.Tracked{}, err
	default:
		gateway = x.gateway
	}
	return gateway.Track(ctx, inbox.FromSubmission, ids...)
}
