package sqlite

import (
	"database/sql/driver"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
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

// retirement removes events whose deliveries all ended as delivered or superseded longer
// than Policy.Keep ago, and skipped ones. While the inbox is nearly full it removes the oldest of any age:
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
	if e := &w.meta.events; e[inbox.Delivered]+e[inbox.Superseded]+e[inbox.Skipped] == 0 {
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

const (
	readEnds = `SELECT seq, state, settled_at FROM delivery WHERE seq > ? ORDER BY seq LIMIT ?`

	// readAllEnds is for when there are rows in routes. Those of the default destination
	// and of routes are merged in the order of arrival.
	readAllEnds = `SELECT d.seq AS seq, d.state, d.settled_at, NULL, NULL, NULL, NULL FROM delivery d
		WHERE d.seq > ?1 AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.seq = d.seq)
		UNION ALL SELECT seq, NULL, settled_at, slots, open, delivered, dead FROM routes WHERE seq > ?1
		ORDER BY 1 LIMIT ?2`
)

// ended is an event that may have ended everywhere.
type ended struct {
	seq       int64
	state     state // of its only delivery, unless it has a route
	route     route
	settledAt int64
}

// scanEnded reads the columns of readEnds or readAllEnds.
func scanEnded(row []driver.Value) ended {
	e := ended{seq: integer(row[0]), state: state(integer(row[1])), settledAt: integer(row[2])}
	if row[1] == nil {
		e.route = scanRoute(append(row[3:7:7], row[2]))
	}
	return e
}

// isDone reports whether the event is kept only for a while.
func (e *ended) isDone() bool {
	if e.route.stored {
		return e.route.open == 0 && e.route.dead == 0
	}
	return e.state == delivered || e.state == superseded
}

// retire removes an event that is done.
func (t *tx) retire(e *ended) error {
	if !e.route.stored {
		if err := t.removeDelivery(t.w.usual, e.seq, e.state, false); err != nil {
			return err
		}
		return t.removeEvent(e.seq, e.state.public(), false)
	}
	queues, err := t.queues(e.route.to)
	for _, q := range queues {
		if err == nil {
			err = t.removeDelivery(q, e.seq, e.route.ended(q), false)
		}
	}
	if err != nil {
		return err
	}
	return t.removeEvent(e.seq, e.route.state(), true)
}

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
		query := readEnds
		if t.meta.routed > 0 {
			query = readAllEnds
		}
		var expired []ended
		err := t.c.query(query, func(row []driver.Value) error {
			seen++
			e := scanEnded(row)
			next.after = e.seq
			switch {
			case !e.isDone():
			case e.settledAt <= limit:
				expired = append(expired, e)
			default:
				next.oldest = min(next.oldest, e.settledAt)
			}
			return nil
		}, next.after, w.limits.retireStep)
		if err != nil {
			return err
		}
		for i := range expired {
			if err := t.retire(&expired[i]); err != nil {
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
