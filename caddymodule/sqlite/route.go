package sqlite

import (
	"database/sql/driver"
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// slots is a set of slots: bit n is slot n.
type slots int64

// defaultOnly is the set with the default destination alone.
const defaultOnly slots = 1

func (s slots) has(q *queue) bool { return s&q.bit() != 0 }

// route is where an event goes, and where its deliveries have ended.
type route struct {
	to        slots
	open      slots // where it is pending
	delivered slots
	dead      slots
	settledAt int64 // the last end, in µs
	stored    bool  // it has a row in routes
}

// set returns the route with a delivery in a state.
func (r route) set(q *queue, s inbox.State, now int64) route {
	r = r.without(q)
	r.to |= q.bit()
	switch s {
	case inbox.Pending:
		r.open |= q.bit()
		return r
	case inbox.Delivered:
		r.delivered |= q.bit()
	case inbox.Dead:
		r.dead |= q.bit()
	default: // superseded
	}
	r.settledAt = max(r.settledAt, now)
	return r
}

// without returns the route without a delivery.
func (r route) without(q *queue) route {
	r.to &^= q.bit()
	r.open &^= q.bit()
	r.delivered &^= q.bit()
	r.dead &^= q.bit()
	return r
}

// state returns the event's own state, see inbox.Summarize.
func (r route) state() inbox.State {
	switch {
	case r.to == 0:
		return inbox.Skipped
	case r.open != 0:
		return inbox.Pending
	case r.dead != 0:
		return inbox.Dead
	case r.delivered != 0:
		return inbox.Delivered
	default:
		return inbox.Superseded
	}
}

// isDone reports whether the event is kept only for a while.
func (r route) isDone() bool { return r.open == 0 && r.dead == 0 }

// ended returns the state of a delivery that is neither pending nor dead.
func (r route) ended(q *queue) state {
	if r.delivered.has(q) {
		return delivered
	}
	return superseded
}

const (
	readRoute   = `SELECT slots, open, delivered, dead, settled_at FROM routes WHERE seq = ?`
	insertRoute = `INSERT INTO routes (slots, open, delivered, dead, settled_at, seq) VALUES (?, ?, ?, ?, ?, ?)`
	updateRoute = `UPDATE routes SET slots = ?, open = ?, delivered = ?, dead = ?, settled_at = ? WHERE seq = ?`
)

// scanRoute reads the columns of readRoute.
func scanRoute(row []driver.Value) route {
	return route{
		to: slots(integer(row[0])), open: slots(integer(row[1])), delivered: slots(integer(row[2])), dead: slots(integer(row[3])),
		settledAt: integer(row[4]), stored: true,
	}
}

// route returns the row of an event; it is not stored if the event goes to the default
// destination alone.
func (t *tx) route(seq int64) (r route, err error) {
	if t.meta.routed == 0 {
		return route{}, nil
	}
	err = t.c.query(readRoute, func(row []driver.Value) error {
		r = scanRoute(row)
		return nil
	}, seq)
	return r, err
}

// setRoute stores where an event goes from now on.
func (t *tx) setRoute(seq int64, before, after route) error {
	query := updateRoute
	if !before.stored {
		query = insertRoute
		t.meta.routed++
	}
	t.meta.events[before.state()]--
	t.meta.events[after.state()]++
	return t.writeRoute(query, seq, after)
}

func (t *tx) writeRoute(query string, seq int64, r route) error {
	if r.isDone() {
		t.ends(seq, r.settledAt)
	}
	return t.c.exec(query, int64(r.to), int64(r.open), int64(r.delivered), int64(r.dead), r.settledAt, seq)
}

// changed counts that a delivery has changed from one state to another.
func (t *tx) changed(q *queue, seq int64, from state, fresh bool, to state) error {
	c := t.of(q)
	c.leaves(seq, from, fresh)
	c.counters.count(to, false, +1)
	if from.public() == to.public() {
		return nil
	}
	r, err := t.route(seq)
	switch {
	case err != nil:
		return err
	case r.stored:
		return t.setRoute(seq, r, r.set(q, to.public(), t.now))
	}
	t.meta.events[from.public()]--
	t.meta.events[to.public()]++
	if to == delivered || to == superseded {
		t.ends(seq, t.now)
	}
	return nil
}

// queues returns the queues of a set.
func (t *tx) queues(set slots) ([]*queue, error) {
	if set == defaultOnly {
		return t.w.usualOnly, nil
	}
	var all []*queue
	for slot := range maxSlots {
		if set&(slots(1)<<slot) == 0 {
			continue
		}
		q := t.w.queues.bySlot[slot]
		if q == nil {
			return nil, fmt.Errorf("an event goes to the slot %d, which no destination has", slot)
		}
		all = append(all, q)
	}
	return all, nil
}

// destination returns the queue of that name; nil if there is none, or if it counts as
// gone.
func (t *tx) destination(name string) *queue {
	q := t.w.queues.find(name)
	if q == nil || (!q.asked.Load() && !q.isDefault() && t.of(q).counters.empty()) {
		return nil
	}
	return q
}

// destinations returns the queues to which an event goes, and their set. If one of them
// does not exist, it refuses the request.
func (t *tx) destinations(r *request, e *inbox.Event) (to []*queue, set slots, ok bool) {
	names := e.GoesTo()
	if len(names) == 1 && names[0] == inbox.DefaultDestination {
		return t.w.usualOnly, defaultOnly, true
	}
	for _, name := range names {
		q := t.destination(name)
		if q == nil {
			r.err = fmt.Errorf("event %s: the destination %q has no queue: %w", e.ID, name, inbox.ErrNotFound)
			return nil, 0, false
		}
		to, set = append(to, q), set|q.bit()
	}
	return to, set, true
}

// removeDelivery deletes a delivery and its attempts. The event's own state is up to the
// caller.
func (t *tx) removeDelivery(q *queue, seq int64, s state, fresh bool) error {
	if err := t.c.exec(q.sql(`DELETE FROM delivery$ WHERE seq = ?`), seq); err != nil {
		return err
	}
	t.of(q).leaves(seq, s, fresh)
	return t.c.exec(q.sql(`DELETE FROM attempts$ WHERE seq = ?`), seq)
}

// removeEvent deletes an event that has no delivery any more.
func (t *tx) removeEvent(seq int64, s inbox.State, routed bool) error {
	queries := []string{`DELETE FROM events WHERE seq = ?`, `DELETE FROM traces WHERE seq = ?`}
	if routed {
		queries = append(queries, `DELETE FROM routes WHERE seq = ?`)
		t.meta.routed--
	}
	if t.w.outcomes.Load() {
		queries = append(queries, `DELETE FROM outcomes WHERE seq = ?`)
	}
	for _, query := range queries {
		if err := t.c.exec(query, seq); err != nil {
			return err
		}
	}
	t.meta.events[s]--
	t.meta.stale++
	return nil
}
