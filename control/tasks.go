package control

import "time"

// TrackRequest is the body of POST …/tasks.
type TrackRequest struct {
	Tasks []string `json:"tasks"` // Fotor's ids, 1 to inbox.MaxTrack
}

// Tracked is what became of tasks that were to be tracked.
type Tracked struct {
	// Added counts those that are tracked from now on.
	Added int `json:"added"`

	// Known counts the others: they are tracked already, or their final event has come.
	Known int `json:"known"`
}

// Task is a task whose final event has not come.
type Task struct {
	TaskID string    `json:"taskId"`
	Source string    `json:"source"` // how it became known: callback, submission, operator
	Since  time.Time `json:"since"`  // when it became known
	Due    time.Time `json:"due"`    // when Fotor is asked for it next; past if it waits for its turn

	// Asked counts the questions so far. AskedAt is when the last one was asked, and
	// Answer what came of it, in words; both absent if there was none.
	Asked   int        `json:"asked"`
	AskedAt *time.Time `json:"askedAt,omitempty"`
	Answer  string     `json:"answer,omitempty"`
}

// Tasks is a page of a list, the tasks that became known last first unless the request
// asks otherwise.
type Tasks struct {
	Tasks []Task `json:"tasks"`

	// Asking is false if the handler has no fotor_api: then nobody asks for them.
	Asking bool `json:"asking"`

	// Next is the cursor of the next page; absent at the end.
	Next string `json:"next,omitempty"`
}

// TaskStats is a summary of the tasks whose final events have not come.
type TaskStats struct {
	Waiting int64 `json:"waiting"` // all of them
	Due     int64 `json:"due"`     // those that Fotor may be asked for now

	// Oldest is when the one became known that has waited longest; absent if there is
	// none.
	Oldest *time.Time `json:"oldest,omitempty"`

	// Dropped counts those that were forgotten because there were too many, since the
	// inbox was opened.
	Dropped int64 `json:"dropped"`
}
