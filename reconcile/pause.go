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
	until    time.Time // no question before
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

// answered records that Fotor has answered.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.until = 0, time.Time{}
	if h.state.Unreachable {
		h.change(State{Since: time.Now()})
	}
}

// failed records that there was no usable answer.
func (h *health) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.KeyRefused {
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
	now := time.Now()
	h.until = now.Add(pause)
	if h.state.Unreachable {
		h.state.Reason = err.Error()
		return
	}
	h.change(State{Unreachable: true, Since: now, Reason: err.Error()})
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
