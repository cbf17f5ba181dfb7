// Package history counts what happens over the last hour, day and week, for charts. It
// knows neither callbacks nor Caddy, and its size does not grow with what it counts.
//
// Read history.go first, then spread.go: how long things took.
package history

import (
	"sync"
	"time"
)

// Span is a time that ends now, in equal steps.
type Span int

// The spans that are kept.
const (
	Hour Span = iota
	Day
	Week
	spans
)

// size is the number of steps of each span, and their length.
var size = [spans]struct {
	steps int
	step  time.Duration
}{
	Hour: {60, time.Minute},
	Day:  {96, 15 * time.Minute},
	Week: {84, 2 * time.Hour},
}

// Step returns the length of a span's steps.
func (s Span) Step() time.Duration { return size[s].step }

// Length returns the length of a span.
func (s Span) Length() time.Duration { return time.Duration(size[s].steps) * size[s].step }

// Recorder counts events of several kinds in the steps of every span, and keeps how long
// they took. It may be used concurrently.
//
// Steps begin at full minutes, quarters and hours of the clock. If the clock is set back,
// what was counted for times that are in the future then is dropped.
type Recorder struct {
	kinds int
	now   func() time.Time

	mu    sync.Mutex
	rings [spans][]step
	last  time.Time
}

// step is one step of a span.
type step struct {
	number int64 // since 1970; another one means that the counts are out of date
	counts []int64
	took   *spread // nil if nothing was timed
}

// New returns a recorder of so many kinds, which are numbered from 0. The times are those
// of the given clock.
func New(kinds int, now func() time.Time) *Recorder { return &Recorder{kinds: kinds, now: now} }

// Add counts what happens now.
func (r *Recorder) Add(kind int) { r.Took(kind, untimed) }

// Took counts what happens now, and took so long. A negative time is not known.
func (r *Recorder) Took(kind int, took time.Duration) {
	now := r.now()
	r.add(kind, now, now, took)
}

// Happened counts what happened earlier. A negative time that it took is not known.
// What is older than a span, or is in the future, does not count there.
func (r *Recorder) Happened(kind int, at time.Time, took time.Duration) {
	if now := r.now(); !at.After(now) {
		r.add(kind, at, now, took)
	}
}

// untimed stands for a time that is not known.
const untimed time.Duration = -1

func (r *Recorder) add(kind int, at, now time.Time, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.last) {
		r.last = at
	}
	for span := range spans {
		number, newest := numberOf(span, at), numberOf(span, now)
		if newest-number >= int64(size[span].steps) {
			continue
		}
		s := r.at(span, number)
		s.counts[kind]++
		if took >= 0 {
			if s.took == nil {
				s.took = new(spread)
			}
			s.took.add(took)
		}
	}
}

// at returns a step to count in. The caller has locked mu.
func (r *Recorder) at(span Span, number int64) *step {
	if r.rings[span] == nil {
		r.rings[span] = make([]step, size[span].steps)
	}
	s := &r.rings[span][index(span, number)]
	switch {
	case s.counts == nil:
		*s = step{number: number, counts: make([]int64, r.kinds)}
	case s.number != number:
		clear(s.counts)
		*s = step{number: number, counts: s.counts}
	}
	return s
}

func numberOf(span Span, at time.Time) int64 {
	seconds, length := at.Unix(), int64(size[span].step/time.Second)
	if seconds < 0 {
		return (seconds - length + 1) / length
	}
	return seconds / length
}

func index(span Span, number int64) int64 {
	n := int64(size[span].steps)
	return (number%n + n) % n
}

// Last returns when something was counted last; zero if nothing was.
func (r *Recorder) Last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Times is how long things took: the times that half, 95 % and 99 % of them did not
// exceed, to within an eighth. They are zero if nothing was timed.
type Times struct{ P50, P95, P99 time.Duration }

// Point is one step. Only the last one may still change.
type Point struct {
	Counts []int64 // by kind
	Took   Times
}

// Counts is what a span has.
type Counts struct {
	From   time.Time // where the first step begins
	Points []Point   // the last one has begun, and is not over
	Sum    []int64   // by kind
	Took   Times     // of all
}

// Over returns what has happened within a span.
func (r *Recorder) Over(span Span) Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest, n := numberOf(span, r.now()), size[span].steps
	first := newest - int64(n) + 1
	c := Counts{
		From:   time.Unix(first*int64(size[span].step/time.Second), 0).UTC(),
		Points: make([]Point, n), Sum: make([]int64, r.kinds),
	}
	var all spread
	for i := range c.Points {
		p := &c.Points[i]
		p.Counts = make([]int64, r.kinds)
		if r.rings[span] == nil {
			continue
		}
		s := &r.rings[span][index(span, first+int64(i))]
		if s.number != first+int64(i) || s.counts == nil {
			continue
		}
		copy(p.Counts, s.counts)
		for kind, count := range s.counts {
			c.Sum[kind] += count
		}
		if s.took != nil {
			p.Took = s.took.times()
			all.merge(s.took)
		}
	}
	c.Took = all.times()
	return c
}
