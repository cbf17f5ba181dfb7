package dispatch

import (
	"slices"
	"time"
)

// The constants of pressure.
const (
	quiet      = 10 * time.Second // a success that recent, and a row no longer than
	longestRow = 16               // this, counted by events, says that the destination is well
	lowerAfter = 8                // failures in a row, or as many as the limit is
)

// pressure finds out how many attempts at once a destination can take, as TCP does
// for the way to another machine: additive increase, multiplicative decrease (RFC
// 5681). Each success raises the limit by one. A row of failures without a success
// in between halves it, down to a quarter of what is configured: some events must
// get through for it to be seen that the destination is well. Beyond that there is
// the hold.
//
// It counts rows and not shares, because it has to tell a destination in trouble
// from events that fail by themselves. While others are taken now and then, nothing
// is wrong with the destination, and the events that fail wait for their own
// retries. It is a plain state machine, see hold.
type pressure struct {
	most  int // what is configured
	limit int // 1 to most

	row     int       // failures since the last success
	first   int       // of these, first attempts
	since   int       // of the destination, since the limit was set last
	own     bool      // every failure of the row was an answer such as 500
	silent  bool      // one of them was none at all
	alone   bool      // every failure of the row says something of one class only
	tasks   []string  // distinct, of the row, at most runTasks
	askers  []string  // distinct tasks of the row with a Retry-After, at most two
	success time.Time // the last; zero if there was none
}

// resize replaces the largest limit. A limit that was lowered stays.
func (p *pressure) resize(most int) {
	if p.limit == p.most {
		p.limit = most
	}
	p.most, p.limit = most, min(p.limit, most)
}

// taken notes an answer that is no trouble.
func (p *pressure) taken(now time.Time) {
	p.forgive()
	p.success = now
	p.limit = min(p.limit+1, p.most)
}

// forgive forgets the row.
func (p *pressure) forgive() {
	p.row, p.first, p.since, p.own, p.silent = 0, 0, 0, true, false
	p.tasks, p.askers = p.tasks[:0], p.askers[:0]
}

// failed notes trouble that an event of that task met. An attempt that began before
// the last success says nothing of what came after it.
func (p *pressure) failed(t ticket, task string, r *Result) {
	if t.began.Before(p.success) {
		return
	}
	p.own = r.ownFault() && (p.own || p.row == 0)
	p.silent = p.silent || r.silent()
	p.alone = t.alone && (p.alone || p.row == 0)
	p.row++
	if t.first {
		p.first++
	}
	if len(p.tasks) < runTasks && !slices.Contains(p.tasks, task) {
		p.tasks = append(p.tasks, task)
	}
	if r.asksForPause() && len(p.askers) < 2 && !slices.Contains(p.askers, task) {
		p.askers = append(p.askers, task)
	}
	if r.ownFault() {
		return
	}
	if p.since++; p.since >= min(p.limit, lowerAfter) && p.limit > p.least() {
		p.limit = max(p.limit/2, p.least())
		p.since = 0
	}
}

func (p *pressure) least() int { return max(p.most/4, 1) }

// well reports whether the destination has taken an event lately. Since then there
// may be any number of answers such as 500, and of failed retries: those events have
// failed before. But when many first attempts fail otherwise, it must be the
// destination.
func (p *pressure) well(now time.Time) bool {
	return !p.success.IsZero() && now.Sub(p.success) < quiet && (p.own || p.first < longestRow)
}

// condemns reports whether the row is the destination's fault rather than that of
// events which it cannot digest, or of one type that is not answered.
func (p *pressure) condemns(now time.Time) bool {
	return p.row >= runLength && (p.silent || len(p.tasks) >= runTasks) && !p.alone && !p.well(now)
}

// asked reports whether the destination has asked for a pause on more than one
// event's behalf.
func (p *pressure) asked() bool { return len(p.askers) > 1 }

// recover begins anew after a hold, with an eighth of the attempts: enough for the
// newest to have one of their own.
func (p *pressure) recover() {
	p.forgive()
	p.limit = max(p.most/8, 1)
}
