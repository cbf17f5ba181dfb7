package gateway

import (
	"strings"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// recentStep is the time for which callbacks are counted together.
	recentStep  = 10 * time.Second
	recentSteps = int64(control.RecentMax/recentStep) + 1 // with the one that has begun
)

// recent counts what became of callbacks, in each step of the last hour. Its size does
// not grow with their number.
type recent struct {
	now   func() time.Time
	began time.Time

	mu    sync.Mutex
	steps [recentSteps]struct {
		number int64 // counted from began; an old number means that the counts are out of date
		counts control.Recent
	}
	last *control.Unavailable
}

func newRecent(now func() time.Time) *recent { return &recent{now: now, began: now()} }

// step returns the number of the current step. The time is that of the monotonic clock,
// so that setting the clock neither hides nor repeats anything.
func (r *recent) step() int64 { return max(0, int64(r.now().Sub(r.began)/recentStep)) }

// add counts what became of a callback.
func (r *recent) add(outcome Outcome) {
	number := r.step()
	r.mu.Lock()
	defer r.mu.Unlock()
	step := &r.steps[number%recentSteps]
	if step.number != number {
		step.number, step.counts = number, control.Recent{}
	}
	if count := outcome.count(&step.counts); count != nil {
		*count++
	}
}

// fails records why something could not be stored.
func (r *recent) fails(err error) {
	reason := err.Error()
	if len(reason) > inbox.MaxReason {
		reason = strings.ToValidUTF8(reason[:inbox.MaxReason], "")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &control.Unavailable{At: r.now().UTC(), Reason: reason}
}

// sum returns the counts from that long ago until now.
func (r *recent) sum(back time.Duration) control.Recent {
	back = min(max(back, control.RecentMin), control.RecentMax)
	number := r.step()
	first := max(0, number-int64((back+recentStep-1)/recentStep))
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := control.Recent{From: r.began.Add(time.Duration(first) * recentStep).UTC()}
	if r.last != nil {
		last := *r.last
		sum.LastUnavailable = &last
	}
	for n := first; n <= number; n++ {
		step := &r.steps[n%recentSteps]
		if step.number != n {
			continue
		}
		sum.Accepted += step.counts.Accepted
		sum.Duplicates += step.counts.Duplicates
		sum.Refused += step.counts.Refused
		sum.TooLarge += step.counts.TooLarge
		sum.Invalid += step.counts.Invalid
		sum.NotKept += step.counts.NotKept
		sum.Unavailable += step.counts.Unavailable
	}
	return sum
}
