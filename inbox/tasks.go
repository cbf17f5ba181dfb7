package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

const (
	// MaxTaskID is the length in bytes of the longest task id that can be tracked.
	MaxTaskID = 256

	// DefaultTasks is the number of tasks that a handler tracks at most, unless its
	// Policy says otherwise.
	DefaultTasks = 100_000

	// MaxTrack is the largest number of tasks of one Track, Untrack, LeaseTasks or
	// SettleTasks.
	MaxTrack = 1000

	// MaxTaskLease is the longest time for which a task is leased. It bounds what a
	// wrong clock can do.
	MaxTaskLease = time.Hour
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
	// ID is Fotor's id of the task, 1 to MaxTaskID bytes of UTF-8, any of them.
	ID string

	// Source is how it became known first, and Since when, in UTC, to the microsecond.
	Source TaskSource
	Since  time.Time

	// Due is when it may be asked for next, to the microsecond; zero means at once. The
	// Policy may make it due sooner.
	Due time.Time

	// Asked counts the questions that Fotor answered or that were in vain, AskedAt is
	// the time of the last one, and Answer what that came to, in words, in at most
	// MaxReason bytes of UTF-8.
	Asked   int
	AskedAt time.Time
	Answer  string

	// Ref is the inbox's own reference to the lease of a task that LeaseTasks has
	// returned. SettleTasks needs it; it is not stored.
	Ref int64
}

// Check returns an error unless the task could be found again once stored.
func (t *Task) Check() error {
	if err := CheckTaskID(t.ID); err != nil {
		return err
	}
	switch {
	case t.Since.IsZero():
		return fmt.Errorf("task %q has no time since when it is known", t.ID)
	case t.Source > FromOperator:
		return fmt.Errorf("task %q has source %d; expected 0, 1 or 2", t.ID, t.Source)
	case t.Asked < 0:
		return fmt.Errorf("task %q was asked for %d times; expected 0 or more", t.ID, t.Asked)
	}
	return nil
}

// CheckTaskID returns an error unless a task with this id can be tracked.
func CheckTaskID(id string) error {
	switch {
	case id == "":
		return errors.New("a task without an id; expected 1 to 256 bytes, such as 39371b3800cc4a7e9e24867b0dfdf25b")
	case len(id) > MaxTaskID:
		return fmt.Errorf("the task id %.40q… has %d bytes; expected at most %d", id, len(id), MaxTaskID)
	case !utf8.ValidString(id):
		return fmt.Errorf("the task id %.80q is not UTF-8", id)
	}
	return nil
}

// CheckTasks returns an error unless all tasks pass their Check and there are no more
// than MaxTrack.
func CheckTasks(tasks []Task) error {
	if err := checkNumber(len(tasks)); err != nil {
		return err
	}
	for i := range tasks {
		if err := tasks[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckTaskIDs is CheckTasks for ids.
func CheckTaskIDs(ids []string) error {
	if err := checkNumber(len(ids)); err != nil {
		return err
	}
	for _, id := range ids {
		if err := CheckTaskID(id); err != nil {
			return err
		}
	}
	return nil
}

func checkNumber(tasks int) error {
	if tasks > MaxTrack {
		return fmt.Errorf("%d tasks at once; expected at most %d", tasks, MaxTrack)
	}
	return nil
}

// Tracked returns the task that is to be tracked when the event is put. ok is false if
// none is: if Track is zero, the event is final, or the task's id is too long.
func (e *Event) Tracked() (t Task, ok bool) {
	if e.Track.IsZero() || e.Status.Final() {
		return t, false
	}
	t = Task{ID: e.TaskID, Source: FromNotice, Since: e.ReceivedAt, Due: e.Track}
	return t, t.Check() == nil
}

// TaskDue returns when a task becomes due whose time is set to that: then, but no more
// than MaxTaskWait from now.
func (p *Policy) TaskDue(due, now time.Time) time.Time {
	if p.TaskTooLate(due, now) {
		return now.Add(p.MaxTaskWait)
	}
	return due
}

// TaskTooLate reports whether a task cannot be meant to be due as late as that.
func (p *Policy) TaskTooLate(due, now time.Time) bool {
	return p.MaxTaskWait > 0 && due.After(now.Add(p.MaxTaskWait+DueSlack))
}

// MaxTasks returns the largest number of tracked tasks.
func (p *Policy) MaxTasks() int {
	if p.Tasks <= 0 {
		return DefaultTasks
	}
	return p.Tasks
}

// TaskWant says which tasks a LeaseTasks is for.
type TaskWant struct {
	// Max is the largest number wanted, 1 to MaxTrack.
	Max int

	// Newest is how many of Max are, out of turn, those that were never asked for and
	// became due last, the last one first: of all tasks they are the newest. The others
	// come in the order in which they became due.
	Newest int

	// Until is when the leases end by themselves, at most MaxTaskLease from now.
	Until time.Time
}

// Check returns an error unless the numbers make sense.
func (w *TaskWant) Check() error {
	if w.Max < 1 || w.Max > MaxTrack || w.Newest < 0 || w.Newest > w.Max {
		return fmt.Errorf("lease of %d tasks, of them %d of the newest: expected 1 to %d, and no more of the newest", w.Max, w.Newest, MaxTrack)
	}
	return nil
}

// Length returns how long the leases last, at most MaxTaskLease.
func (w *TaskWant) Length(now time.Time) time.Duration {
	return min(MaxTaskLease, max(0, w.Until.Sub(now)))
}

// TaskStats is a summary of the tracked tasks that is cheap to compute.
type TaskStats struct {
	// Waiting counts the tracked tasks, Due those of them that are due, leased or not.
	Waiting, Due int64

	// Oldest is Since of the one that was tracked first; zero if there is none.
	Oldest time.Time

	// Dropped counts the tasks that this inbox forgot because there were more than
	// Policy.Tasks, since it was opened.
	Dropped int64
}

// Tracker is implemented by an Inbox that tracks tasks whose final events have not come.
// Each task is tracked once, durably. Putting a task's final event ends that by itself,
// whatever becomes of the event then. Putting an in-progress event begins it, see
// Event.Track.
type Tracker interface {
	// Track stores tasks, and returns once they are on stable storage. It leaves out
	// those that are tracked already, which stay as they are, and those whose final
	// event is stored. It returns how many were new. Beyond Policy.Tasks those that
	// were tracked first are dropped. It stores all that are new, or with an error none
	// or some of them; it may be called again. A full inbox is ErrFull.
	Track(ctx context.Context, tasks ...Task) (added int, err error)

	// Untrack forgets tasks, leased or not, and returns how many of them were tracked.
	Untrack(ctx context.Context, ids ...string) (removed int, err error)

	// LeaseTasks returns tasks that are due and leased to nobody, at once; none if there
	// are none. Nobody else gets them until they are settled, or the leases end, or the
	// inbox is closed. A task whose final event was put is never leased.
	//
	// A task that is due later than Policy.MaxTaskWait allows, because of a wrong clock,
	// is due that long after an inbox notices, and a call notices.
	LeaseTasks(ctx context.Context, w TaskWant) ([]Task, error)

	// SettleTasks ends leases, those that Ref names, and stores Due, Asked, AskedAt and
	// Answer. It leaves out a task that is not tracked any more, and one whose lease has
	// ended by itself if somebody else has got it since.
	SettleTasks(ctx context.Context, tasks ...Task) error

	// Task returns a tracked task, or ErrNotFound.
	Task(ctx context.Context, id string) (Task, error)

	// Tasks lists the tracked tasks, those that were tracked last first unless the page
	// says otherwise, in pages as List does.
	Tasks(ctx context.Context, p Page) (tasks []Task, next string, err error)

	// TaskStats returns a summary. Of an inbox that several gateways share it may be
	// some moments old.
	TaskStats(ctx context.Context) (TaskStats, error)
}

// TaskNotFound is ErrNotFound with the id of a task.
func TaskNotFound(id string) error { return fmt.Errorf("task %.80q: %w", id, ErrNotFound) }
