package mock

import (
	"maps"
	"time"
)

// EntryKind is what has happened.
type EntryKind string

// The kinds.
const (
	Submitted EntryKind = "submitted" // a task
	Refused   EntryKind = "refused"   // a request to the API: the key, too often, no such path
	Asked     EntryKind = "asked"     // a question was answered
	Called    EntryKind = "called"    // a callback was sent
	Forged    EntryKind = "forged"    // so was one of a stranger
	Lost      EntryKind = "lost"      // a callback was not sent
)

// Entry is something that has happened. Texts may have anything that a request had.
type Entry struct {
	Kind   EntryKind `json:"kind"`
	At     time.Time `json:"at"`
	TaskID string    `json:"taskId,omitempty"`
	Type   string    `json:"type,omitempty"`

	// Status is the task's in the callback or the answer: in_progress, completed or failed.
	Status string `json:"status,omitempty"`

	// HTTPStatus is that of the answer that was given, or got for a callback; 0 if there was
	// none.
	HTTPStatus int    `json:"httpStatus,omitempty"`
	Error      string `json:"error,omitempty"`

	// Repeat says that a callback had been sent before.
	Repeat bool `json:"repeat,omitempty"`

	// Took is how long the answer to a callback took.
	Took time.Duration `json:"-"`
}

// log tells what has happened.
func (s *Server) log(e *Entry) {
	if s.config.Log == nil {
		return
	}
	s.logging.Lock()
	defer s.logging.Unlock()
	if s.ended.Err() != nil {
		return
	}
	e.At = time.Now()
	s.config.Log(*e)
}

func statusName(status int) string {
	switch status {
	case InProgress:
		return "in_progress"
	case Completed:
		return "completed"
	default:
		return "failed"
	}
}

// Counts are what has happened so far.
type Counts struct {
	Submitted int64 // tasks
	Failed    int64 // of them, those that fail, or will

	Questions map[int]int64 // by HTTP status; 0: the connection was closed without an answer

	Callbacks map[int]int64 // sent, by the status of the answer; 0: no answer
	Repeated  int64         // of them, those that had been sent before
	Forged    int64         // of them, those of a stranger
	Lost      int64         // not sent
}

func (c *Counts) call(e *Entry) {
	if e.Kind == Lost {
		c.Lost++
		return
	}
	if c.Callbacks == nil {
		c.Callbacks = make(map[int]int64)
	}
	c.Callbacks[e.HTTPStatus]++
	if e.Repeat {
		c.Repeated++
	}
	if e.Kind == Forged {
		c.Forged++
	}
}

// Counts returns what has happened so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts
	counts.Questions, counts.Callbacks = maps.Clone(counts.Questions), maps.Clone(counts.Callbacks)
	return counts
}

// maxAsked is how many times of questions are kept.
const maxAsked = 100_000

// question counts a question that has arrived.
func (s *Server) question(now time.Time) {
	if len(s.asked) >= 2*maxAsked {
		s.asked = append(s.asked[:0], s.asked[maxAsked:]...)
	}
	s.asked = append(s.asked, now)
}

// Most returns the most questions in any window of that length, among the last 100,000,
// whatever they were answered: what a rate is held against. A rate of n a second with evenly
// spaced questions is at most n+1 in a second, as both ends of the window may have one.
func (s *Server) Most(window time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, first := 0, 0
	for i, at := range s.asked {
		for at.Sub(s.asked[first]) > window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
