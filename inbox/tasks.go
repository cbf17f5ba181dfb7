package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// MaxTaskID is the length in bytes of the longest task id that can be tracked.
	MaxTaskID = 256

	// DefaultTasks is the number of tasks that a handler tracks at most, unless its
	// Policy says otherwise.
	DefaultTasks = 100_000

	// MaxTrack is the largest number of tasks of one Track, Untrack or SettleTasks.
	MaxTrack = 1000
)

// TaskSource is how a task became known.
type TaskSource uint8

// The sources of tasks.
const (
	FromNotice     TaskSource = iota // an in-progress callback was accepted
	FromSubmission                   // its submission was answered through this gateway
	FromOperator                     // somebody named it
)

// String returns "callback", "submission" or "operator".
func (s TaskSource) String() string {
	switch s {
	case FromNotice:
		return "callback"
	case FromSubmission:
		return "submission"
	case FromOperator:
		return "operator"
	default:
		return "unknown"
	}
}

// Task is a task whose final event has not come: Fotor is asked for it when it is due.
type Task struct {
	// ID is Fotor's id of the task, 1 to MaxTaskID bytes of UTF-8.
	ID string

	// Source is how it became known first, and Since when, in UTC, to the microsecond.
	Source TaskSource
	Since  time.Time

	// Due is when it may be asked for next.
	Due time.Time

	// Asked counts the questions that Fotor answered or that were in vain, AskedAt is
	// the time of the last one, and Answer what that came to, in words, in at most
	// MaxReason bytes of UTF-8.
	Asked   int
	AskedAt time.Time
	Answer  string
}

// Check returns an error unless the task could be found again once stored.
func (t *Task) Check() error {
	switch {
	case t.ID == "":
		return errors.New("a task without an id")
	case len(t.ID) > MaxTaskID:
		return fmt.Errorf("the task id %.40q… has %d bytes; expected at most %d", t.ID, len(t.ID), MaxTaskID)
	case t.Since.IsZero():
		return fmt.Errorf("task %q has no time since when it is known", t.ID)
	}
	return nil
}

// TaskWant says which tasks a LeaseTasks is for.
type TaskWant struct {
	// Max is the largest number wanted, at least 1.
	Max int

	// Newest is how many of Max are the tasks that became known last, out of turn. The
	// others come in the order in which they became due.
	Newest int

	// Until is when the leases end by themselves.
	Until time.Time
}

// TaskStats is a summary of the tracked tasks that is cheap to compute.
type TaskStats struct {
	// Waiting counts the tracked tasks, Due those of them that are due.
	Waiting, Due int64

	// Oldest is when the one became known that has waited longest; zero if there is none.
	Oldest time.Time

	// Dropped counts the tasks that were forgotten because there were more than
	// Policy.Tasks, since the inbox was opened.
	Dropped int64
}

// Tracker is implemented by an Inbox that tracks tasks whose final events have not come.
// Each task is tracked once, durably. Putting a task's final event ends that by itself,
// whatever becomes of the event then.
type Tracker interface {
	// Track stores tasks, and returns once they are on stable storage. It leaves out
	// those that are tracked already, which stay as they are, and those whose final
	// event is stored. It returns how many were new. Beyond Policy.Tasks those that
	// have been known for longest are dropped.
	Track(ctx context.Context, tasks ...Task) (added int, err error)

	// Untrack forgets tasks, and returns how many of them were tracked.
	Untrack(ctx context.Context, ids ...string) (removed int, err error)

	// LeaseTasks returns tasks that are due and leased to nobody, at once; none if there
	// are none. Nobody else gets them until they are settled, or the leases end, or the
	// inbox is closed. A task whose final event was put is never leased.
	LeaseTasks(ctx context.Context, w TaskWant) ([]Task, error)

	// SettleTasks ends leases and stores Due, Asked, AskedAt and Answer. A task that is
	// not tracked any more stays so.
	SettleTasks(ctx context.Context, tasks ...Task) error

	// Task returns a tracked task, or ErrNotFound.
	Task(ctx context.Context, id string) (Task, error)

	// Tasks lists the tracked tasks, those that became known last first unless the page
	// says otherwise, in pages as List does.
	Tasks(ctx context.Context, p Page) (tasks []Task, next string, err error)

	// TaskStats returns a summary.
	TaskStats(ctx context.Context) (TaskStats, error)
}
