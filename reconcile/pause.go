package reconcile

import (
	"context"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

const (
	// failuresInARow is how many questions in a row must fail before it is taken for a
	// trouble of Fotor's rather than of one task.
	failuresInARow = 3

	// pauseFirst is the first pause then. It doubles with each further failure, up to
	// pauseMost.
	pauseFirst = time.Second
	pauseMost  = time.Minute

	// tooOftenFor is how long all answers must be "too often" before that is taken for a
	// trouble: the rate adapts within that.
	tooOftenFor = time.Minute
)

// State is whether Fotor can be asked.
type State struct {
	// KeyRefused says that the API key was refused. Nothing is asked any more.
	KeyRefused bool

	// Unreachable says that no usable answer has come to the last questions. They go on, one
	// at a time.
	Unreachable bool

	// Since is when that began, or when it was over.
	Since time.Time

	// Reason is the last error; empty if Fotor can be asked.
	Reason string
}

// OK reports whether Fotor can be asked.
func (s State) OK() bool { return !s.KeyRefused && !s.Unreachable }

// health stops the questions while they are of no use.
type health struct {
	observer Observer

	mu       sync.Mutex
	state    State
	failures int       // in a row
	paused   time.Time // when the last pause began
	until    time.Time // no question before
	task     string    // that the last question was about which had no usable answer
	underWay int       // questions

	tooOften      int       // answers in a row
	tooOftenSince time.Time // the first of them
}

func (h *health) current() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// await waits until a question may be put. It reports false when ctx has ended, which it
// waits for if the key was refused.
func (h *health) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		h.mu.Lock()
		refused, wait := h.state.KeyRefused, time.Until(h.until)
		h.mu.Unlock()
		switch {
		case refused:
			<-ctx.Done()
		case wait > 0:
			sleep.For(ctx, wait)
		default:
			return true
		}
	}
	return false
}

// ready reports whether await would not wait.
func (h *health) ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.state.KeyRefused && time.Until(h.until) <= 0
}

// begin records that a question is put. It is under way until end.
func (h *health) begin() (began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.underWay++
	return time.Now()
}

func (h *health) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.underWay--
}

// probe returns the task to ask for in order to find out whether Fotor can be asked again,
// as nobody has another question: "" if there is no need.
func (h *health) probe() (task string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.state.Unreachable || h.underWay > 0 || time.Since(h.until) < pollEvery {
		return ""
	}
	return h.task
}

// answered records that Fotor has answered.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.tooOften, h.until = 0, 0, time.Time{}
	if h.state.Unreachable {
		h.change(State{Since: time.Now()})
	}
}

// failed records that there was no usable answer to a question about a task. If it was put
// before the last pause began, it says nothing about the time since.
func (h *health) failed(task string, began time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.KeyRefused || !began.After(h.paused) {
		return
	}
	h.failures++
	if h.failures < failuresInARow {
		return
	}
	pause := pauseMost
	if n := h.failures - failuresInARow; n < 6 {
		pause = min(pauseFirst<<n, pauseMost)
	}
	h.paused = time.Now()
	h.until = h.paused.Add(pause)
	h.trouble(task, h.paused, err)
}

// askedTooOften records that Fotor has not answered a question about a task because there
// were too many. The rate is lowered by that, so there is no pause.
func (h *health) askedTooOften(task string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.KeyRefused {
		return
	}
	if h.tooOften++; h.tooOften == 1 {
		h.tooOftenSince = time.Now()
	}
	if h.state.Unreachable || h.tooOften >= failuresInARow && time.Since(h.tooOftenSince) >= tooOftenFor {
		h.trouble(task, h.tooOftenSince, err)
	}
}

// trouble records that Fotor cannot be asked. The caller has locked h.mu.
func (h *health) trouble(task string, since time.Time, err error) {
	h.task = task
	if h.state.Unreachable {
		h.state.Reason = err.Error()
		return
	}
	h.change(State{Unreachable: true, Since: since, Reason: err.Error()})
}

// refused records that the key was refused.
func (h *health) refused(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.state.KeyRefused {
		h.change(State{KeyRefused: true, Since: time.Now(), Reason: err.Error()})
	}
}

// change sets the state. The caller has locked h.mu.
func (h *health) change(s State) {
	h.state = s
	h.observer.Changed(s)
}
