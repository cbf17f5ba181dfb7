package control

import "time"

// FoundMax bounds Found.Events.
const FoundMax = 20

// Found is the answer to a search for events by the beginning of their ids, or by their
// task.
type Found struct {
	// Events are the newest that fit, the newest first; at most FoundMax.
	Events []Event `json:"events"`

	// More is true if others fit too.
	More bool `json:"more,omitempty"`

	// TaskID is what was searched for if events have it as the id of their task.
	TaskID string `json:"taskId,omitempty"`

	// Since is present if not all ids were compared: with those of the events that
	// arrived before, only if they are dead. Then others may have the same beginning.
	Since *time.Time `json:"since,omitempty"`
}
