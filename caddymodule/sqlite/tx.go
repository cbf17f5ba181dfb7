package sqlite

import (
	"bytes"
	"database/sql/driver"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// tx is an open transaction, with the changes to the state in memory that
// follow its commit.
type tx struct {
	w   *writer
	c   *conn
	now int64 // in µs

	meta    meta
	changes [maxSlots]*change // by slot, nil if there are none
	made    []*queue
	dropped []*queue
	added   []entry           // entries for the index of tasks
	table   map[int64][]int64 // events read ahead from the parts of the index, by key
	tracked *trackedChange    // nil if no task's tracking has changed
	grown   int64             // bytes added, approximately
	freed   int64             // bytes removed so that others can take their place
	pages   int64             // pages in use after the commit
	free    int64             // free pages after the commit

	suspectBytes int64 // of all suspects after the commit
}

// change is what a transaction changes of one queue.
type change struct {
	queue    *queue
	counters *counters
	before   counters
	hold     inbox.Hold
	settled  map[int64]struct{} // events whose leases end
	stored   []storedEvent      // new events
	left     []int64            // events that are not fresh any more
	wake     bool               // something may be due that was not before
	ready    int64              // the first event that became ready; 0 if none did
}

// of returns the changes of a queue.
func (t *tx) of(q *queue) *change {
	c := t.changes[q.slot]
	if c == nil {
		c = &change{queue: q, before: q.counters, hold: q.hold}
		if q.isDefault() {
			c.counters = &t.meta.counters
		} else {
			c.counters = new(counters)
			*c.counters = q.counters
		}
		t.changes[q.slot] = c
	}
	return c
}

// lookup returns the events of the key, oldest first, including those added in
// this transaction. Some may be gone.
func (t *tx) lookup(key int64) ([]int64, error) {
	seqs, ok := t.table[key]
	if !ok {
		for _, p := range t.w.parts {
			if !p.mayHave(key) {
				continue
			}
			var err error
			if seqs, err = t.readKey(p.n, key, seqs); err != nil {
				return nil, err
			}
		}
	}
	seqs = t.w.index.lookup(key, slices.Clip(seqs))
	for _, e := range t.added {
		if e.key == key {
			seqs = append(seqs, e.seq)
		}
	}
	slices.Sort(seqs)
	return slices.Compact(seqs), nil
}

// readTaskEvent has the event's state at the default destination.
const readTaskEvent = `SELECT e.id, e.task_id, e.status, r.slots, d.state, d.due FROM events e
	LEFT JOIN delivery d ON d.seq = e.seq LEFT JOIN routes r ON r.seq = e.seq WHERE e.seq = ?`

// task returns the events of a task, oldest first, or the bigTask if there are
// many.
func (t *tx) task(key int64, taskID string) ([]taskEvent, *bigTask, error) {
	if b := t.w.tasks.get(key); b != nil && b.taskID == taskID {
		return nil, b, nil
	}
	seqs, err := t.lookup(key)
	if err != nil || len(seqs) == 0 {
		return nil, nil, err
	}
	if len(seqs) > t.w.limits.bigTask {
		b, err := t.buildBig(key, taskID, seqs)
		return nil, b, err
	}
	events := make([]taskEvent, 0, len(seqs))
	for _, seq := range seqs {
		err := t.c.query(readTaskEvent, func(row []driver.Value) error {
			if text(row[1]) == taskID { // else another task with the same key
				events = append(events, scanTaskEvent(seq, row))
			}
			return nil
		}, seq)
		if err != nil {
			return nil, nil, err
		}
	}
	return events, nil, nil
}

// scanTaskEvent reads the columns of readTaskEvent.
func scanTaskEvent(seq int64, row []driver.Value) taskEvent {
	e := taskEvent{
		seq:   seq,
		final: inbox.Status(integer(row[2])).Final(), //nolint:gosec // as it was stored
		to:    defaultOnly,
	}
	if row[3] != nil {
		e.to = slots(integer(row[3]))
	}
	copy(e.id[:], blob(row[0]))
	e.scanState(row[4:])
	return e
}

// scanState reads the state and the time of a delivery, which may have no row.
func (e *taskEvent) scanState(row []driver.Value) {
	e.state, e.due, e.fresh = state(integer(row[0])), integer(row[1]), row[0] == nil
}

// at returns the event with its state at one of its destinations.
func (t *tx) at(q *queue, e taskEvent) (taskEvent, error) {
	if q.isDefault() {
		return e, nil
	}
	e.state, e.due, e.fresh = ready, 0, true
	err := t.c.query(q.sql(`SELECT state, due FROM delivery$ WHERE seq = ?`), func(row []driver.Value) error {
		e.scanState(row)
		return nil
	}, e.seq)
	return e, err
}

// allAt returns the events that go to a destination, with their states there, and with
// room for another one. Those that are pending and not leased cannot be leased until the
// transaction ends.
func (t *tx) allAt(q *queue, events []taskEvent) ([]taskEvent, error) {
	there := make([]taskEvent, 0, len(events)+1)
	for _, e := range events {
		if !e.to.has(q) {
			continue
		}
		e, err := t.at(q, e)
		if err != nil {
			return nil, err
		}
		e.leased = !e.state.ended() && !t.revoke(q, e.seq)
		there = append(there, e)
	}
	return there, nil
}

// revoke keeps an event from being leased until the transaction ends. It
// reports false if the event is leased and this transaction has not settled it.
func (t *tx) revoke(q *queue, seq int64) bool {
	if _, ok := t.of(q).settled[seq]; ok {
		return true
	}
	return q.leases.revoke(seq)
}

// order moves events of the task to other states so that the task is in order at a
// destination.
func (t *tx) order(q *queue, key int64, events []taskEvent) error {
	before := make(map[int64]taskEvent, len(events))
	for _, e := range events {
		before[e.seq] = e
	}
	for _, e := range arrange(events) {
		if err := t.move(q, key, before[e.seq], e.state); err != nil {
			return err
		}
	}
	return nil
}

// orderWaiting puts a task in order if any of its events is blocked.
func (t *tx) orderWaiting(q *queue, key int64, taskID string) error {
	if t.of(q).counters.rows[blocked] == 0 {
		return nil
	}
	n, err := t.c.number(q.sql(`SELECT 1 FROM delivery$ WHERE state = 2 AND task_key = ? LIMIT 1`), key)
	if err != nil || n == 0 {
		return err
	}
	return t.orderTask(q, key, taskID)
}

// orderTask puts a task in order at a destination.
func (t *tx) orderTask(q *queue, key int64, taskID string) error {
	events, big, err := t.task(key, taskID)
	switch {
	case err != nil:
		return err
	case big != nil:
		return t.orderBig(q, big)
	}
	there, err := t.allAt(q, events)
	if err != nil {
		return err
	}
	return t.order(q, key, there)
}

const (
	insertState = `INSERT INTO delivery$ (state, settled_at, task_key, seq) VALUES (?, ?, ?, ?)`
	updateState = `UPDATE delivery$ SET state = ?, settled_at = ?, task_key = ? WHERE seq = ?`
)

// move changes the state of an event that is not leased.
func (t *tx) move(q *queue, key int64, e taskEvent, to state) error {
	var settledAt int64
	if to.ended() {
		settledAt = t.now
	}
	var taskKey driver.Value
	if to == blocked {
		taskKey = key
	}
	query := updateState
	if e.fresh {
		query = insertState
	}
	if err := t.changed(q, e.seq, e.state, e.fresh, to); err != nil {
		return err
	}
	c := t.of(q)
	c.wake = c.wake || to == ready || to == retry
	if to == ready {
		c.becomesReady(e.seq)
	}
	return t.c.exec(q.sql(query), int64(to), settledAt, taskKey, e.seq)
}

// leaves counts that an event is in a state no more.
func (c *change) leaves(seq int64, from state, fresh bool) {
	c.counters.count(from, fresh, -1)
	if fresh {
		c.left = append(c.left, seq)
	}
}

func (c *change) becomesReady(seq int64) {
	if c.ready == 0 || seq < c.ready {
		c.ready = seq
	}
}

// find returns the event with the id; ok is false if there is none.
func (t *tx) find(id inbox.RawID) (e taskEvent, taskID string, ok bool, err error) {
	if b := t.w.tasks.get(keyOf(id)); b != nil {
		if e, ok, err = t.findBig(b, id); err != nil || ok {
			return e, b.taskID, ok, err
		}
	}
	seqs, err := t.lookup(keyOf(id))
	if err != nil {
		return e, "", false, err
	}
	for _, seq := range seqs {
		err := t.c.query(readTaskEvent, func(row []driver.Value) error {
			if bytes.Equal(blob(row[0]), id[:]) {
				e, ok, taskID = scanTaskEvent(seq, row), true, text(row[1])
			}
			return nil
		}, seq)
		if err == nil && ok && len(seqs) > t.w.limits.bigTask { // so that its next event is found at once
			_, err = t.buildBig(keyOf(id), taskID, seqs)
		}
		if err != nil || ok {
			return e, taskID, ok, err
		}
	}
	return e, "", false, nil
}
