package gateway

import (
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

const (
	// recentStep is the time for which callbacks are counted together.
	recentStep  = 10 * time.Second
	recentSteps = int(control.RecentMax/recentStep) + 1 // with the one that has begun

	minuteStep  = time.Second
	minuteSteps = int(time.Minute/minuteStep) + 1
)

// recent counts what became of callbacks, in the last hour and more exactly in the last
// minute. Its size does not grow with their number.
type recent struct {
	now   func() time.Time
	began time.Time

	mu           sync.Mutex
	hour, minute ring
	last         *control.Unavailable
	callback     time.Time // the last that was accepted or a repeat; zero if there was none
}

func newRecent(now func() time.Time) *recent {
	return &recent{
		now: now, began: now(),
		hour:   ring{recentStep, make([]ringStep, recentSteps)},
		minute: ring{minuteStep, make([]ringStep, minuteSteps)},
	}
}

// age returns the time since began. It is that of the monotonic clock, so that setting the
// clock neither hides nor repeats anything.
func (r *recent) age(now time.Time) time.Duration { return max(0, now.Sub(r.began)) }

// ring counts by steps of time. Times are passed as the age of the counts.
type ring struct {
	step  time.Duration
	steps []ringStep
}

type ringStep struct {
	number int64 // an old number means that the counts are out of date
	counts control.Recent
}

// at returns the counts of the current step.
func (r *ring) at(age time.Duration) *control.Recent {
	number := int64(age / r.step)
	step := &r.steps[number%int64(len(r.steps))]
	if step.number != number {
		*step = ringStep{number: number}
	}
	return &step.counts
}

// sum adds up the counts from that long ago until now, and returns the age at which they
// begin.
func (r *ring) sum(back, age time.Duration) (sum control.Recent, from time.Duration) {
	number := int64(age / r.step)
	first := max(0, number-int64((back+r.step-1)/r.step))
	for n := first; n <= number; n++ {
		step := &r.steps[n%int64(len(r.steps))]
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
	return sum, time.Duration(first) * r.step
}

// add counts what became of a callback.
func (r *recent) add(outcome Outcome) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, counts := range []*control.Recent{r.hour.at(r.age(now)), r.minute.at(r.age(now))} {
		if count := outcome.count(counts); count != nil {
			*count++
		}
	}
	if outcome == Accepted || outcome == Duplicate {
		r.callback = now
	}
}

// fails records why something could not be stored.
func (r *recent) fails(err error) {
	reason := clip.Text(err.Error(), inbox.MaxReason)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &control.Unavailable{At: r.now().UTC(), Reason: reason}
}

// sum returns the counts from that long ago until now.
func (r *recent) sum(back time.Duration) control.Recent {
	back = min(max(back, control.RecentMin), control.RecentMax)
	r.mu.Lock()
	defer r.mu.Unlock()
	sum, from := r.hour.sum(back, r.age(r.now()))
	sum.From = r.began.Add(from).UTC()
	if r.last != nil {
		last := *r.last
		sum.LastUnavailable = &last
	}
	return sum
}

// lastMinute returns the counts of the last minute.
func (r *recent) lastMinute() control.Recent {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum, from := r.minute.sum(time.Minute, r.age(r.now()))
	sum.From = r.began.Add(from).UTC()
	return sum
}

// lastCallback returns when a callback was accepted last, or was a repeat; nil if none was.
func (r *recent) lastCallback() *time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.callback.IsZero() {
		return nil
	}
	return new(r.callback.UTC())
}
