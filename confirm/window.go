package confirm

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// inTurn and newest are how many callbacks are leased at most: in the order in which
	// they came, and those that came last. If more come than may be asked for, the
	// questions are mostly for the latter, so that they do not wait as long as the others.
	inTurn = 64
	newest = 16

	// oldestEvery is the share of the questions that are for the callback that has waited
	// for longest: one in so many.
	oldestEvery = 4

	// leastAsked is how often Fotor is asked at least before a callback is rejected,
	// whatever its age: the gateway may have been off for days.
	leastAsked = 3

	// mostAsked is how often Fotor is asked at most for a callback whose age is unknown,
	// because the clock was ahead when it came.
	mostAsked = 12

	// firstPause is that before a callback is asked for again. It doubles, up to a quarter
	// of the patience, or MostPause.
	firstPause = 5 * time.Second
)

// MostPause is the longest time until a callback is asked for again.
const MostPause = 5 * time.Minute

// waiting is a leased callback.
type waiting struct {
	lease     *inbox.Lease
	deadline  time.Time // when it counts that Fotor cannot be asked
	notBefore time.Time // of the next question
	busy      bool      // it is being asked for, or decided
}

// window are the callbacks that are leased, in the order in which they came.
type window struct {
	waiting []*waiting
	newest  int // of them leased out of turn
	turns   int
}

// room returns how many more may be leased, and how many of them out of turn.
func (w *window) room() (max, outOfTurn int) {
	outOfTurn = newest - w.newest
	return inTurn - (len(w.waiting) - w.newest) + outOfTurn, outOfTurn
}

// add adds a callback.
func (w *window) add(c *waiting) {
	at := len(w.waiting)
	for at > 0 && w.waiting[at-1].lease.Event.ReceivedAt.After(c.lease.Event.ReceivedAt) {
		at--
	}
	w.waiting = append(w.waiting, nil)
	copy(w.waiting[at+1:], w.waiting[at:])
	w.waiting[at] = c
	if c.lease.Newest {
		w.newest++
	}
}

// remove removes a callback.
func (w *window) remove(c *waiting) {
	for i, other := range w.waiting {
		if other == c {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			if c.lease.Newest {
				w.newest--
			}
			return
		}
	}
}

// next returns the callback that is to be asked for now, nil if none is; otherwise it is
// busy. It also returns when one may be, zero if only a change can tell.
func (w *window) next(now time.Time) (c *waiting, at time.Time) {
	oldest := w.turns%oldestEvery == 0
	for _, other := range w.waiting {
		switch {
		case other.busy:
		case other.notBefore.After(now):
			if at.IsZero() || other.notBefore.Before(at) {
				at = other.notBefore
			}
		case c == nil || !oldest:
			c = other
		}
	}
	return c, at
}

// expired returns the callbacks that have waited for too long, which are busy then, and
// when the next ones have, zero if there are none.
func (w *window) expired(now time.Time) (all []*waiting, at time.Time) {
	for _, c := range w.waiting {
		switch {
		case c.busy:
		case !c.deadline.After(now):
			c.busy = true
			all = append(all, c)
		case at.IsZero() || c.deadline.Before(at):
			at = c.deadline
		}
	}
	return all, at
}
