package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// recheckBig is how long a task that has reached its limit is refused before it
// is looked again how many of its events are still there.
const recheckBig = time.Minute

// bigTask is what the writer remembers of a task with many events, so that one
// more costs no more than it would for any other task: its events are not read
// again. What it remembers may be outdated, since events come to their end and
// are removed without asking: each is looked at before it counts.
type bigTask struct {
	key    int64
	taskID string

	ids             map[uint64]int64 // events by a part of their id
	finals          []int64          // final events, the newest last
	active          []int64          // those that were pending and did not wait for another, oldest first
	noneToSupersede bool             // a final event is there, and no in-progress one waits for another

	used      uint64    // when, in transactions
	fullUntil time.Time // its limit was reached
}

// idPart is the part of an id that tells the events of a task apart.
func idPart(id inbox.RawID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// taskCache holds the big tasks that were met last. It belongs to the writer.
type taskCache struct {
	byKey   map[int64]*bigTask
	ids     int        // of all of them
	touched []*bigTask // by the transaction under way
	clock   uint64
}

// get returns the task of that key, nil if it is not there.
func (c *taskCache) get(key int64) *bigTask { return c.byKey[key] }

// touch says that the transaction changes what is remembered of the task.
func (c *taskCache) touch(b *bigTask) {
	b.used = c.clock
	if !slices.Contains(c.touched, b) {
		c.touched = append(c.touched, b)
	}
}

// commit keeps what the transaction has changed.
func (c *taskCache) commit() {
	c.clock++
	c.touched = c.touched[:0]
}

// rollBack forgets the tasks that the transaction has changed.
func (c *taskCache) rollBack() {
	for _, b := range c.touched {
		c.forget(b)
	}
	c.commit()
}

// put remembers a task, in place of another with its key.
func (c *taskCache) put(b *bigTask, limit int) {
	if c.byKey == nil {
		c.byKey = make(map[int64]*bigTask)
	}
	if before := c.byKey[b.key]; before != nil {
		c.forget(before)
	}
	c.byKey[b.key] = b
	c.ids += len(b.ids)
	c.touch(b)
	c.shrink(limit)
}

// remember adds an event to a task.
func (c *taskCache) remember(b *bigTask, seq int64, id inbox.RawID, limit int) {
	before := len(b.ids)
	b.ids[idPart(id)] = seq
	c.touch(b)
	if c.byKey[b.key] == b {
		c.ids += len(b.ids) - before
		c.shrink(limit)
	}
}

func (c *taskCache) forget(b *bigTask) {
	if c.byKey[b.key] == b {
		delete(c.byKey, b.key)
		c.ids -= len(b.ids)
	}
}

// shrink forgets those that were not used for longest while there are too many
// ids, though not what the transaction under way uses.
func (c *taskCache) shrink(limit int) {
	for c.ids > limit {
		var oldest *bigTask
		for _, b := range c.byKey {
			if b.used < c.clock && (oldest == nil || b.used < oldest.used) {
				oldest = b
			}
		}
		if oldest == nil {
			return
		}
		c.forget(oldest)
	}
}

// buildBig reads a task's events once.
func (t *tx) buildBig(key int64, taskID string, seqs []int64) (*bigTask, error) {
	b := &bigTask{key: key, taskID: taskID, ids: make(map[uint64]int64, len(seqs))}
	for _, seq := range seqs {
		e, ok, err := t.readBig(b, seq)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		b.ids[idPart(e.id)] = seq
		if e.final {
			b.finals = append(b.finals, seq)
		}
		if !e.state.ended() && e.state != blocked {
			b.active = append(b.active, seq)
		}
	}
	t.w.tasks.put(b, t.w.limits.bigIDs)
	return b, nil
}

// readBig reads an event of the task; ok is false if it is gone.
func (t *tx) readBig(b *bigTask, seq int64) (e taskEvent, ok bool, err error) {
	err = t.c.query(readTaskEvent, func(row []driver.Value) error {
		if text(row[1]) == b.taskID { // not another task with the same key
			e, ok = scanTaskEvent(seq, row), true
		}
		return nil
	}, seq)
	return e, ok, err
}

// findBig returns the event of the task with that id; ok is false if there is
// none.
func (t *tx) findBig(b *bigTask, id inbox.RawID) (e taskEvent, ok bool, err error) {
	seq, ok := b.ids[idPart(id)]
	if !ok {
		return e, false, nil
	}
	e, ok, err = t.readBig(b, seq)
	return e, ok && e.id == id, err
}

// addBig remembers an event of the task that was put.
func (t *tx) addBig(b *bigTask, seq int64, id inbox.RawID, final bool) {
	t.w.tasks.remember(b, seq, id, t.w.limits.bigIDs)
	if final {
		b.finals = append(b.finals, seq)
	}
	b.activate(seq)
}

// activate remembers that an event may be pending and not wait.
func (b *bigTask) activate(seq int64) {
	if at, found := slices.BinarySearch(b.active, seq); !found {
		b.active = slices.Insert(b.active, at, seq)
	}
}

// bigHasRoom reports whether one more event of the task may be stored, and
// refuses the request if not: what is remembered of a task is bounded too.
func (t *tx) bigHasRoom(r *request, b *bigTask) bool {
	if len(b.ids) < t.w.limits.bigIDs {
		return true
	}
	now := t.w.now()
	if b.fullUntil.IsZero() {
		b.fullUntil = now.Add(recheckBig)
	} else if now.After(b.fullUntil) {
		t.w.tasks.forget(b) // the next one counts again
	}
	r.err = fmt.Errorf("%w: the task %.64q has %d events, and more of one task are not taken", inbox.ErrFull, b.taskID, len(b.ids))
	return false
}

// hasFinal reports whether a final event of the task is there.
func (t *tx) hasFinal(b *bigTask) (bool, error) {
	for len(b.finals) > 0 {
		n, err := t.c.number(`SELECT 1 FROM events WHERE seq = ?`, b.finals[len(b.finals)-1])
		if err != nil || n != 0 {
			return n != 0, err
		}
		b.finals = b.finals[:len(b.finals)-1]
	}
	return false, nil
}

const (
	firstWaiting = `SELECT d.seq, d.due, e.status FROM delivery d JOIN events e ON e.seq = d.seq
		WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? ORDER BY d.seq LIMIT 1`

	supersedeWaiting = `UPDATE delivery SET state = 4, settled_at = ?, task_key = NULL WHERE seq IN (
		SELECT d.seq FROM delivery d JOIN events e ON e.seq = d.seq
		WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? AND e.status = 0)`
)

// orderBig does what order does, but does not look at events that wait and
// go on waiting.
func (t *tx) orderBig(b *bigTask) error {
	t.w.tasks.touch(b)
	final, err := t.hasFinal(b)
	if err != nil {
		return err
	}
	if err := t.supersedeBig(b, final); err != nil {
		return err
	}
	active, leased, err := t.readActive(b, final)
	if err != nil {
		return err
	}
	if !leased {
		if active, err = t.choose(b, active); err != nil {
			return err
		}
	}
	b.active = b.active[:0]
	for i, e := range active {
		if e.leased || (!leased && i == 0) {
			b.active = append(b.active, e.seq)
			continue
		}
		e.leased = false
		if err := t.move(b.key, e, blocked); err != nil {
			return err
		}
	}
	return nil
}

// supersedeBig supersedes the in-progress events that wait, once a final one is
// there. Those that come after it never wait.
func (t *tx) supersedeBig(b *bigTask, final bool) error {
	if !final || b.noneToSupersede {
		b.noneToSupersede = final
		return nil
	}
	if err := t.c.exec(supersedeWaiting, t.now, b.key, b.taskID); err != nil {
		return err
	}
	n, err := t.c.number(`SELECT changes()`)
	if err != nil {
		return err
	}
	t.count(blocked, false, -n)
	t.count(superseded, false, n)
	b.noneToSupersede = true
	return nil
}

// readActive returns those of the active events that still are, oldest first,
// and supersedes those in progress if there is a final one.
func (t *tx) readActive(b *bigTask, final bool) (active []taskEvent, leased bool, err error) {
	for _, seq := range b.active {
		e, ok, err := t.readBig(b, seq)
		switch {
		case err != nil:
			return nil, false, err
		case !ok || e.state.ended() || e.state == blocked:
			continue
		}
		e.leased = !t.revoke(seq)
		if final && !e.final && !e.leased {
			if err := t.move(b.key, e, superseded); err != nil {
				return nil, false, err
			}
			continue
		}
		leased = leased || e.leased
		active = append(active, e)
	}
	return active, leased, nil
}

// choose puts the event first that may go: the oldest of the active ones and of
// those that wait.
func (t *tx) choose(b *bigTask, active []taskEvent) ([]taskEvent, error) {
	var first taskEvent
	err := t.c.query(firstWaiting, func(row []driver.Value) error {
		first = taskEvent{seq: integer(row[0]), due: integer(row[1]), state: blocked, final: inbox.Status(integer(row[2])).Final()} //nolint:gosec // as it was stored
		return nil
	}, b.key, b.taskID)
	if err != nil || first.seq == 0 || (len(active) > 0 && active[0].seq < first.seq) {
		return active, err
	}
	t.revoke(first.seq)
	if err := t.move(b.key, first, first.state.unblocked(first.due)); err != nil {
		return nil, err
	}
	return slices.Insert(active, 0, first), nil
}
