package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxSlots is the number of slots for destinations: those that are configured, and as
// many that are left behind. A set of slots fits an integer.
const maxSlots = 2 * inbox.MaxDestinations

// slotSchema makes the tables of a slot, like those of the default destination in
// version 1 and 2. A migration that changes these has to change those of all slots.
// For $ see queue.sql.
var slotSchema = []string{
	`CREATE TABLE delivery$ (
		seq           INTEGER PRIMARY KEY,
		state         INTEGER NOT NULL,
		attempts      INTEGER NOT NULL DEFAULT 0,
		due           INTEGER NOT NULL DEFAULT 0,
		settled_at    INTEGER NOT NULL DEFAULT 0,
		last_at       INTEGER NOT NULL DEFAULT 0,
		last_duration INTEGER NOT NULL DEFAULT 0,
		last_status   INTEGER NOT NULL DEFAULT 0,
		last_reason   TEXT    NOT NULL DEFAULT '',
		task_key      INTEGER
	) STRICT`,
	`CREATE INDEX delivery_pending$ ON delivery$ (state, seq)    WHERE state <= 2`,
	`CREATE INDEX delivery_due$     ON delivery$ (due)           WHERE state = 1`,
	`CREATE INDEX delivery_blocked$ ON delivery$ (task_key, seq) WHERE state = 2`,
	`CREATE INDEX delivery_dead$    ON delivery$ (seq)           WHERE state = 5`,
	`CREATE TABLE attempts$ (
		seq      INTEGER NOT NULL,
		n        INTEGER NOT NULL,
		at       INTEGER NOT NULL,
		duration INTEGER NOT NULL,
		status   INTEGER NOT NULL,
		reason   TEXT    NOT NULL,
		PRIMARY KEY (seq, n)
	) WITHOUT ROWID, STRICT`,
	`CREATE TABLE hold$ (
		id     INTEGER PRIMARY KEY CHECK (id = 1),
		since  INTEGER NOT NULL,
		until  INTEGER NOT NULL,
		ended  INTEGER NOT NULL,
		reason TEXT    NOT NULL
	) STRICT`,
}

var dropSlot = []string{`DROP TABLE delivery$`, `DROP TABLE attempts$`, `DROP TABLE hold$`}

// Queue returns the queue of a destination, and makes it if there is none.
func (s *store) Queue(ctx context.Context, destination string) (inbox.Queue, error) {
	if err := inbox.CheckDestination(destination); err != nil {
		return nil, err
	}
	select {
	case <-s.closing:
		return nil, s.errClosed()
	default:
	}
	if q := s.queues.ask(destination); q != nil {
		return q, nil
	}
	r := &makeQueue{request: newRequest(ctx), name: destination}
	if err := s.submit(r); err != nil {
		return nil, err
	}
	return r.queue, nil
}

// makeQueue is the request to make a queue.
type makeQueue struct {
	request
	name  string
	queue *queue
}

func (r *makeQueue) apply(t *tx) (err error) {
	r.err = nil
	if r.queue = t.w.queues.ask(r.name); r.queue != nil {
		return nil
	}
	for _, q := range t.made {
		if q.name == r.name {
			r.queue = q
			return nil
		}
	}
	slot, err := t.freeSlot()
	if err != nil {
		return err
	}
	if slot == 0 {
		r.err = t.w.tooMany(r.name)
		return nil
	}
	r.queue, err = t.makeQueue(slot, r.name)
	return err
}

func (r *makeQueue) grows() bool { return true }

// freeSlot returns a slot that no destination has, 0 if there is none.
func (t *tx) freeSlot() (int, error) {
	for slot, q := range t.w.queues.bySlot {
		if q == nil && t.changes[slot] == nil {
			return slot, nil
		}
	}
	for slot, q := range t.w.queues.bySlot {
		if q != nil && t.changes[slot] == nil && q.isGone() {
			dropped, err := t.drop(q)
			if dropped || err != nil {
				return slot, err
			}
		}
	}
	return 0, nil
}

const insertDestination = `INSERT INTO destinations VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0, 0)`

// makeQueue makes the tables of a destination, which gets the events that are stored
// from now on.
func (t *tx) makeQueue(slot int, name string) (*queue, error) {
	q := newQueue(t.w.store, slot, name, counters{lowSeq: t.meta.nextSeq})
	q.asked.Store(true)
	for _, statement := range slotSchema {
		if err := t.c.exec(q.sql(statement)); err != nil {
			return nil, err
		}
	}
	t.made = append(t.made, q)
	t.of(q)
	return q, t.c.exec(insertDestination, int64(slot), name, t.meta.nextSeq)
}

// drop removes the tables of a destination that is gone, and its hold. It reports false
// if somebody has asked for it meanwhile.
func (t *tx) drop(q *queue) (bool, error) {
	if !t.w.queues.removeUnasked(q) {
		return false, nil
	}
	t.dropped = append(t.dropped, q)
	for _, statement := range dropSlot {
		if err := t.c.exec(q.sql(statement)); err != nil {
			return false, err
		}
	}
	return true, t.c.exec(`DELETE FROM destinations WHERE slot = ?`, int64(q.slot))
}

// tooMany says what to do if all slots are taken.
func (s *store) tooMany(name string) error {
	var left []string
	for _, q := range s.queues.list() {
		if !q.asked.Load() {
			left = append(left, q.name)
		}
	}
	const named = 5
	what := "restart Caddy to forget those that no config names any more"
	if len(left) > 0 {
		what = fmt.Sprintf("purge or replay elsewhere what is left of those that no config names any more, such as %s",
			strings.Join(left[:min(named, len(left))], ", "))
	}
	return fmt.Errorf("no room for the destination %q: the inbox has %d destinations already, the most that it keeps; %s", name, maxSlots, what)
}

const (
	readDestinations = `SELECT slot, name, low_seq, fresh, ready, retry, blocked, delivered, superseded, dead FROM destinations`

	updateDestination = `UPDATE destinations SET low_seq = ?, fresh = ?, ready = ?, retry = ?, blocked = ?, delivered = ?,
		superseded = ?, dead = ? WHERE slot = ?`
)

// loadQueues reads the destinations from the file.
func (w *writer) loadQueues() error {
	w.usual = newQueue(w.store, 0, inbox.DefaultDestination, w.meta.counters)
	w.usual.asked.Store(true)
	w.usualOnly = []*queue{w.usual}
	loaded := []*queue{w.usual}
	err := w.conn.query(readDestinations, func(row []driver.Value) error {
		var c counters
		for i, p := range c.fields() {
			*p = integer(row[2+i])
		}
		slot := integer(row[0])
		if slot < 1 || slot >= maxSlots {
			return fmt.Errorf("the destination %.80q has slot %d; expected 1 to %d", text(row[1]), slot, maxSlots-1)
		}
		loaded = append(loaded, newQueue(w.store, int(slot), text(row[1]), c))
		return nil
	})
	for _, q := range loaded {
		if err != nil {
			return err
		}
		q.hold, err = readHold(w.conn, q)
		q.publish(q.counters, w.meta.nextSeq, w.meta.routed > 0)
		w.queues.add(q)
	}
	return err
}

// fields returns the columns of the counters in order.
func (c *counters) fields() []*int64 {
	fields := make([]*int64, 0, 2+len(c.rows))
	fields = append(fields, &c.lowSeq, &c.fresh)
	for i := range c.rows {
		fields = append(fields, &c.rows[i])
	}
	return fields
}
