package sqlite

import (
	"database/sql/driver"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// bigOrder is the order of a task with many events at one destination.
type bigOrder struct {
	finals          []int64 // final events, oldest first
	active          []int64 // events that were pending and not blocked, oldest first
	noneToSupersede bool    // there is a final event, and no in-progress one is blocked
}

// join records that an event may be pending and not blocked.
func (o *bigOrder) join(seq int64, final bool) {
	o.active = insertSorted(o.active, seq)
	if final {
		o.finals = insertSorted(o.finals, seq)
	}
}

func insertSorted(seqs []int64, seq int64) []int64 {
	if at, found := slices.BinarySearch(seqs, seq); !found {
		seqs = slices.Insert(seqs, at, seq)
	}
	return seqs
}

const goesTo = `SELECT 1 FROM events e LEFT JOIN routes r ON r.seq = e.seq WHERE e.seq = ? AND ifnull(r.slots, 1) & $bit`

// hasFinal reports whether a final event of the task goes to the destination.
func (t *tx) hasFinal(q *queue, o *bigOrder) (bool, error) {
	for len(o.finals) > 0 {
		n, err := t.c.number(q.sql(goesTo), o.finals[len(o.finals)-1])
		if err != nil || n != 0 {
			return n != 0, err
		}
		o.finals = o.finals[:len(o.finals)-1]
	}
	return false, nil
}

const (
	firstWaiting = `SELECT d.seq, d.due, e.status FROM delivery$ d JOIN events e ON e.seq = d.seq
		WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? ORDER BY d.seq LIMIT 1`

	noticesWaiting = `SELECT d.seq FROM delivery$ d JOIN events e ON e.seq = d.seq
		WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? AND e.status = 0`

	supersedeWaiting = `UPDATE delivery$ SET state = 4, settled_at = ?, task_key = NULL WHERE seq IN (` + noticesWaiting + `) RETURNING seq`

	// The routes of these notices, by the states that their events get.
	countRoutesWaiting = `SELECT count(*), sum(open = $bit AND dead != 0), sum(open = $bit AND dead = 0 AND delivered != 0),
		sum(open = $bit AND dead = 0 AND delivered = 0) FROM routes WHERE seq IN (` + noticesWaiting + `)`

	closeRoutesWaiting = `UPDATE routes SET open = open & ~$bit, settled_at = max(settled_at, ?) WHERE seq IN (` + noticesWaiting + `)`
)

// orderBig does what order does, without reading the events that stay blocked.
func (t *tx) orderBig(q *queue, b *bigTask) error {
	t.w.tasks.touch(b)
	o := b.at(q)
	final, err := t.hasFinal(q, o)
	if err != nil {
		return err
	}
	if err := t.supersedeBig(q, b, o, final); err != nil {
		return err
	}
	active, leased, err := t.readActive(q, b, o, final)
	if err != nil {
		return err
	}
	if !leased {
		if active, err = t.choose(q, b, active); err != nil {
			return err
		}
	}
	o.active = o.active[:0]
	for i, e := range active {
		if e.leased || (!leased && i == 0) {
			o.active = append(o.active, e.seq)
			continue
		}
		e.leased = false
		if err := t.move(q, b.key, e, blocked); err != nil {
			return err
		}
	}
	return nil
}

// supersedeBig supersedes the blocked in-progress events once there is a final
// one. In-progress events that come later are never blocked.
func (t *tx) supersedeBig(q *queue, b *bigTask, o *bigOrder, final bool) error {
	if !final || o.noneToSupersede {
		o.noneToSupersede = final
		return nil
	}
	routed, err := t.closeRoutes(q, b)
	if err != nil {
		return err
	}
	n := int64(0)
	err = t.c.query(q.sql(supersedeWaiting), func(row []driver.Value) error {
		n++
		t.ends(integer(row[0]), t.now)
		return nil
	}, t.now, b.key, b.taskID)
	if err != nil {
		return err
	}
	c := t.of(q)
	c.counters.count(blocked, false, -n)
	c.counters.count(superseded, false, n)
	t.meta.events[inbox.Pending] -= n - routed
	t.meta.events[inbox.Superseded] += n - routed
	o.noneToSupersede = true
	return nil
}

// closeRoutes prepares supersedeBig: it records in routes that the blocked in-progress
// events have ended, and returns how many of them are there.
func (t *tx) closeRoutes(q *queue, b *bigTask) (routed int64, err error) {
	if t.meta.routed == 0 {
		return 0, nil
	}
	err = t.c.query(q.sql(countRoutesWaiting), func(row []driver.Value) error {
		routed = integer(row[0])
		for i, s := range []inbox.State{inbox.Dead, inbox.Delivered, inbox.Superseded} {
			ended := integer(row[1+i])
			t.meta.events[inbox.Pending] -= ended
			t.meta.events[s] += ended
		}
		return nil
	}, b.key, b.taskID)
	if err != nil || routed == 0 {
		return routed, err
	}
	return routed, t.c.exec(q.sql(closeRoutesWaiting), t.now, b.key, b.taskID)
}

// readActive returns the active events that still are, oldest first. It
// supersedes those in progress if there is a final event.
func (t *tx) readActive(q *queue, b *bigTask, o *bigOrder, final bool) (active []taskEvent, leased bool, err error) {
	for _, seq := range o.active {
		e, ok, err := t.readBigAt(q, b, seq)
		switch {
		case err != nil:
			return nil, false, err
		case !ok || e.state.ended() || e.state == blocked:
			continue
		}
		e.leased = !t.revoke(q, seq)
		if final && !e.final && !e.leased {
			if err := t.move(q, b.key, e, superseded); err != nil {
				return nil, false, err
			}
			continue
		}
		leased = leased || e.leased
		active = append(active, e)
	}
	return active, leased, nil
}

// choose puts first the event that may go: the oldest of the active and the
// blocked ones.
func (t *tx) choose(q *queue, b *bigTask, active []taskEvent) ([]taskEvent, error) {
	var first taskEvent
	err := t.c.query(q.sql(firstWaiting), func(row []driver.Value) error {
		first = taskEvent{seq: integer(row[0]), due: integer(row[1]), state: blocked, final: inbox.Status(integer(row[2])).Final()} //nolint:gosec // as it was stored
		return nil
	}, b.key, b.taskID)
	if err != nil || first.seq == 0 || (len(active) > 0 && active[0].seq < first.seq) {
		return active, err
	}
	t.revoke(q, first.seq)
	if err := t.move(q, b.key, first, first.state.unblocked(first.due)); err != nil {
		return nil, err
	}
	return slices.Insert(active, 0, first), nil
}
