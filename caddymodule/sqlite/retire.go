package sqlite

import (
	"database/sql/driver"
	"time"
)

const (
	// retirePrecision is the part of Policy.Keep by which an event may stay
	// longer, so that the rows are gone through seldom.
	retirePrecision = 100

	// retirePause is the least time between two passes, and the least as a
	// multiple of what a pass took.
	retirePause     = 100 * time.Millisecond
	retirePauseWork = 20

	// untrustedPause is the time between two looks whether the clock can be
	// trusted again.
	untrustedPause = time.Minute

	// retireRoom is the part of the limit that is kept free by removing
	// delivered events before their time.
	retireRoom = 8
)

// retirement removes delivered and superseded events that are older than
// Policy.Keep, or the oldest ones of any age while the inbox is nearly full: to
// take a repeat for a new event costs less than to refuse one. It goes through the rows in order of arrival, a step at a time,
// past those that stay.
type retirement struct {
	nextPass time.Time
	running  bool
	after    int64 // gone through up to this event
	began    time.Time
	oldest   int64 // the first end, in µs, among those that stay
	worked   time.Duration
}

// due returns when the next step may be made, and false if there is nothing
// that could retire.
func (r *retirement) due(w *writer) (time.Time, bool) {
	if w.meta.rows[delivered]+w.meta.rows[superseded] == 0 {
		return time.Time{}, false
	}
	if w.nearlyFull() {
		return time.Time{}, true
	}
	return r.nextPass, true
}

// nearlyFull reports whether events that have come to their end must make room.
func (w *writer) nearlyFull() bool {
	limit := w.maxSize.Load()
	return w.size.used() > limit-limit/retireRoom
}

// reset makes the next pass begin at once, because the policy has changed.
func (r *retirement) reset() { *r = retirement{} }

const readEnds = `SELECT seq, state, settled_at FROM delivery WHERE seq > ? ORDER BY seq LIMIT ?`

// step looks at the next rows.
func (r *retirement) step(w *writer) error {
	began := w.now()
	next := *r
	if !next.running {
		next = retirement{running: true, began: began, oldest: began.UnixMicro()}
	}
	keep := w.policy.Load().Keep
	limit := began.Add(-keep).UnixMicro()
	switch trusted := w.maintenance.clock.Trusted(began); {
	case w.nearlyFull():
		limit = began.UnixMicro()
	case !trusted: // it would be for good
		r.nextPass = began.Add(untrustedPause)
		return nil
	}
	seen := int64(0)
	err := w.transact(func(t *tx) error {
		var expired []taskEvent
		err := t.c.query(readEnds, func(row []driver.Value) error {
			seen++
			next.after = integer(row[0])
			switch s, settledAt := state(integer(row[1])), integer(row[2]); {
			case s != delivered && s != superseded:
			case settledAt <= limit:
				expired = append(expired, taskEvent{seq: next.after, state: s})
			default:
				next.oldest = min(next.oldest, settledAt)
			}
			return nil
		}, next.after, w.limits.retireStep)
		if err != nil {
			return err
		}
		for _, e := range expired {
			if err := t.remove(e.seq, e.state, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	next.worked += w.now().Sub(began)
	if seen < w.limits.retireStep {
		next = retirement{nextPass: next.followUp(keep, w.now())}
	}
	*r = next
	return nil
}

// followUp returns when the pass after this one begins.
func (r *retirement) followUp(keep time.Duration, now time.Time) time.Time {
	first := time.UnixMicro(r.oldest).Add(keep)
	soonest := now.Add(max(retirePause, keep/retirePrecision, retirePauseWork*r.worked))
	if first.Before(soonest) {
		return soonest
	}
	return first
}
