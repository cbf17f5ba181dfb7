package sqlite

import (
	"database/sql/driver"
	"time"
)

const (
	// retirePrecision is the fraction of Policy.Keep by which an event may stay
	// longer, so that passes are rare.
	retirePrecision = 100

	// The least time between two passes: retirePause, and retirePauseWork times
	// as long as the last pass took.
	retirePause     = 100 * time.Millisecond
	retirePauseWork = 20

	// untrustedPause is the time between two checks whether the clock can be
	// trusted again.
	untrustedPause = time.Minute

	// retireRoom is the fraction of the size limit that is kept free by
	// removing delivered events early.
	retireRoom = 8
)

// retirement removes delivered and superseded events that are older than
// Policy.Keep. While the inbox is nearly full it removes the oldest of any age:
// mistaking a repeat for a new event is better than refusing a new one. It goes
// through the rows in order of arrival, step by step, and skips those that
// stay.
type retirement struct {
	nextPass time.Time
	running  bool
	after    int64 // events up to this one are done
	began    time.Time
	oldest   int64 // the earliest end, in µs, among those that stay
	worked   time.Duration
}

// due returns when the next step is due, and false if there is nothing to
// remove.
func (r *retirement) due(w *writer) (time.Time, bool) {
	if w.meta.rows[delivered]+w.meta.rows[superseded] == 0 {
		return time.Time{}, false
	}
	if w.nearlyFull() {
		return time.Time{}, true
	}
	return r.nextPass, true
}

// nearlyFull reports whether ended events must make room.
func (w *writer) nearlyFull() bool {
	limit := w.maxSize.Load()
	return w.size.used() > limit-limit/retireRoom
}

// reset makes the next pass begin at once, because the policy has changed.
func (r *retirement) reset() { *r = retirement{} }

const readEnds = `SELECT seq, state, settled_at FROM delivery WHERE seq > ? ORDER BY seq LIMIT ?`

// step processes the next rows.
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
	case !trusted: // removal is final
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

// followUp returns when the next pass begins.
func (r *retirement) followUp(keep time.Duration, now time.Time) time.Time {
	first := time.UnixMicro(r.oldest).Add(keep)
	soonest := now.Add(max(retirePause, keep/retirePrecision, retirePauseWork*r.worked))
	if first.Before(soonest) {
		return soonest
	}
	return first
}
