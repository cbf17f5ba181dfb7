package metrics

import "github.com/prometheus/client_golang/prometheus"

// LearntResult is what became of a task in an answer, or of the answer.
type LearntResult string

// The results of learning a task.
const (
	LearntStored  LearntResult = "stored"  // the task is known from now on
	LearntKnown   LearntResult = "known"   // it was known already
	LearntFailed  LearntResult = "failed"  // it was not stored, or not in time
	LearntInvalid LearntResult = "invalid" // its id cannot be stored
	LearntUnread  LearntResult = "unread"  // the answer could not be read, though it may name a task
)

var learntResults = []LearntResult{LearntStored, LearntKnown, LearntFailed, LearntInvalid, LearntUnread}

// Learnt counts the tasks that were learnt for one handler.
type Learnt struct {
	handler string
	results map[LearntResult]prometheus.Counter
}

// LearntFor returns the counters for the handler of that name. They must be released.
func LearntFor(handler string) *Learnt {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.users[handler]++
	l := &Learnt{handler: handler, results: make(map[LearntResult]prometheus.Counter)}
	for _, result := range learntResults {
		l.results[result] = all.tasksLearnt.WithLabelValues(handler, string(result))
	}
	return l
}

// Add counts n results.
func (l *Learnt) Add(result LearntResult, n int) { l.results[result].Add(float64(n)) }

// Release ends one use of the counters. It may be called of nil.
func (l *Learnt) Release() {
	if l != nil {
		all.release(l.handler)
	}
}
