package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// This file tracks tasks whose final events have not come, and looks them up.

var (
	// ErrNotAsking is returned if a handler is to track a task, but never asks Fotor.
	ErrNotAsking = errors.New("the handler has no fotor_api, so Fotor would never be asked for a task: " +
		"expected a block fotor_api with an API key in its config, see docs/tasks.md")

	// ErrNotTracking is returned if the handler's inbox cannot track tasks.
	ErrNotTracking = errors.New("the handler's inbox cannot track tasks: expected one that can, such as sqlite or nats")
)

// TaskIDsError is returned if tasks cannot be tracked by these ids. None of them is then.
type TaskIDsError struct {
	// Problems has one for each bad id, at its place in a TrackRequest.
	Problems []Problem
}

// Error implements error.
func (e *TaskIDsError) Error() string {
	first := e.Problems[0]
	text := "no task was tracked: " + first.Pointer + " " + first.Detail
	if more := len(e.Problems) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more problems", more)
	}
	return text
}

// CheckTaskIDs returns a *TaskIDsError if one of the ids, or their number, is not what can
// be tracked at once.
func CheckTaskIDs(ids []string) error {
	var problems []Problem
	if n := len(ids); n == 0 || n > inbox.MaxTrack {
		problems = []Problem{{"/tasks", fmt.Sprintf("has %d ids; expected 1 to %d", n, inbox.MaxTrack)}}
		return &TaskIDsError{problems}
	}
	for i, id := range ids {
		if err := CheckTaskID(id); err != nil {
			problems = append(problems, Problem{"/tasks/" + strconv.Itoa(i), err.Error()})
		}
	}
	if problems != nil {
		return &TaskIDsError{problems}
	}
	return nil
}

// CheckTaskID returns what is wrong with the id of a task, in words; nil if it can be
// tracked.
func CheckTaskID(id string) error {
	switch {
	case id == "":
		return errors.New("is empty; expected the id of a task")
	case len(id) > inbox.MaxTaskID:
		return fmt.Errorf("has %d bytes; expected the id of a task, of at most %d", len(id), inbox.MaxTaskID)
	case !utf8.ValidString(id):
		return errors.New("is not UTF-8; expected the id of a task")
	}
	return nil
}

// Tracker returns what tracks tasks in an inbox, or ErrNotTracking.
func Tracker(in inbox.Inbox) (inbox.Tracker, error) {
	if tracker, ok := in.(inbox.Tracker); ok {
		return tracker, nil
	}
	return nil, ErrNotTracking
}

// ListTasks returns a page of the tasks whose final events have not come.
func ListTasks(ctx context.Context, g Gateway, page inbox.Page) (Tasks, error) {
	tracker, err := Tracker(g.Inbox())
	if err != nil {
		return Tasks{}, err
	}
	tasks, next, err := tracker.Tasks(ctx, page)
	if err != nil {
		return Tasks{}, err
	}
	answer := Tasks{Tasks: make([]Task, 0, len(tasks)), Asking: g.Asking(), Next: next}
	for i := range tasks {
		answer.Tasks = append(answer.Tasks, taskOf(&tasks[i]))
	}
	return answer, nil
}

// ShowTask returns one of them, or inbox.ErrNotFound.
func ShowTask(ctx context.Context, in inbox.Inbox, id string) (Task, error) {
	tracker, err := Tracker(in)
	if err != nil {
		return Task{}, err
	}
	task, err := tracker.Task(ctx, id)
	return taskOf(&task), err
}

// Untrack forgets one of them, or returns inbox.ErrNotFound.
func Untrack(ctx context.Context, in inbox.Inbox, id string) error {
	tracker, err := Tracker(in)
	if err != nil {
		return err
	}
	removed, err := tracker.Untrack(ctx, id)
	if err == nil && removed == 0 {
		err = inbox.ErrNotFound
	}
	return err
}

func taskOf(t *inbox.Task) Task {
	return Task{
		TaskID: t.ID, Source: t.Source.String(), Since: t.Since.UTC(), Due: t.Due.UTC(),
		Asked: t.Asked, AskedAt: optionalTime(t.AskedAt), Answer: t.Answer,
	}
}
