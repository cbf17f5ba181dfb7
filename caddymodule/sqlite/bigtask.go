package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// recheckBig is how long a task at its limit is refused before its events are
// counted again.
const recheckBig = time.Minute

// bigTask caches a task with many events, so that another event costs no more
// than for any other task: the existing events are not read again. The cache
// may be outdated, since events end and are removed without updating it.
// Therefore each event is looked at before it counts.
type bigTask struct {
	key    int64
	taskID string

	ids             map[uint64]int64 // events by a part of their id
	finals          []int64          // final events, oldest first
	active          []int64          // events that were pending and not blocked, oldest first
	noneToSupersede bool             // there is a final event, and no in-progress one is blocked

	used      uint64    // transaction of the last use
	fullUntil time.Time // until when more events are refused without a recount
}

// idPart returns the part of an id that distinguishes the events of a task.
func idPart(id inbox.RawID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// taskCache has the big tasks used last. Only the writer uses it.
type taskCache struct {
	byKey   map[int64]*bigTask
	ids     int        // number of ids of all tasks
	touched []*bigTask // changed by the transaction under way
	clock   uint64
}

// get returns the task with that key, or nil.
func (c *taskCache) get(key int64) *bigTask { return c.byKey[key] }

// touch records that the transaction changes the task.
func (c *taskCache) touch(b *bigTask) {
	b.used = c.clock
	if !slices.Contains(c.touched, b) {
		c.touched = append(c.touched, b)
	}
}

// commit keeps the changes of the transaction.
func (c *taskCache) commit() {
	c.clock++
	c.touched = c.touched[:0]
}

// rollBack drops the tasks that the transaction changed.
func (c *taskCache) rollBack() {
	for _, b := range c.touched {
		c.forget(b)
	}
	c.commit()
}

// put adds a task, replacing another one with the same key.
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

// shrink drops the least recently used tasks while there are too many ids, but
// none that the transaction under way uses.
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

// buildBig reads the events of a task into the cache.
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

// readBig reads an event of the task. ok is false if it is gone.
func (t *tx) readBig(b *bigTask, seq int64) (e taskEvent, ok bool, err error) {
	err = t.c.query(readTaskEvent, func(row []driver.Value) error {
		if text(row[1]) == b.taskID { // else another task with the same key
			e, ok = scanTaskEvent(seq, row), true
		}
		return nil
	}, seq)
	return e, ok, err
}

// findBig returns the event of the task with that id. ok is false if there is
// none.
func (t *tx) findBig(b *bigTask, id inbox.RawID) (e taskEvent, ok bool, err error) {
	seq, ok := b.ids[idPart(id)]
	if !ok {
		return e, false, nil
	}
	e, ok, err = t.readBig(b, seq)
	return e, ok && e.id == id, err
}

// addBig adds a new event to the task.
func (t *tx) addBig(b *bigTask, seq int64, id inbox.RawID, final bool) {
	t.w.tasks.remember(b, seq, id, t.w.limits.bigIDs)
	if final {
		b.finals = append(b.finals, seq)
	}
	b.activate(seq)
}

// activate records that an event may be pending and not blocked.
func (b *bigTask) activate(seq int64) {
	if at, found := slices.BinarySearch(b.active, seq); !found {
		b.active = slices.Insert(b.active, at, seq)
	}
}

// bigHasRoom reports whether one more event of the task may be stored, because
// the cache of one task is bounded too. If not, it refuses the request.
func (t *tx) bigHasRoom(r *request, b *bigTask) bool {
	if len(b.ids) < t.w.limits.bigIDs {
		return true
	}
	now := t.w.now()
	if b.fullUntil.IsZero() {
		b.fullUntil = now.Add(recheckBig)
	} else if now.After(b.fullUntil) {
		t.w.tasks.forget(b) // so that the next put counts again
	}
	r.err = fmt.Errorf("%w: the task %.64q has %d events, and more of one task are not taken", inbox.ErrFull, b.taskID, len(b.ids))
	return false
}

// hasFinal reports whether a final event of the task exists.
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

// orderBig does what order does, without reading the events that stay blocked.
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

// supersedeBig supersedes the blocked in-progress events once there is a final
// one. In-progress events that come later are never blocked.
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

// readActive returns the active events that still are, oldest first. It
// supersedes those in progress if there is a final event.
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

// choose puts first the event that may go: the oldest of the active and the
// blocked ones.
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
