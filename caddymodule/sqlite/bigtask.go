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

	ids    map[uint64]int64     // events by a part of their id
	orders map[*queue]*bigOrder // of the destinations to which its events go
	finals []int64              // final events that may have an outcome, oldest first
	final  int64                // the last final event; 0 if there was none

	counted   int       // its share of taskCache.size
	used      uint64    // transaction of the last use
	fullUntil time.Time // until when more events are refused without a recount
}

// at returns the order of the task at a destination.
func (b *bigTask) at(q *queue) *bigOrder {
	o := b.orders[q]
	if o == nil {
		o = new(bigOrder)
		b.orders[q] = o
	}
	return o
}

// size returns the number of ids, and of events at destinations beside the default.
func (b *bigTask) size() int {
	n := len(b.ids)
	for q, o := range b.orders {
		if !q.isDefault() {
			n += len(o.finals) + len(o.active)
		}
	}
	return n
}

// idPart returns the part of an id that distinguishes the events of a task.
func idPart(id inbox.RawID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// taskCache has the big tasks used last. Only the writer uses it.
type taskCache struct {
	byKey   map[int64]*bigTask
	size    int        // of all tasks
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
	c.grown(b, limit)
}

// grown records that the transaction has added to a task.
func (c *taskCache) grown(b *bigTask, limit int) {
	c.touch(b)
	if c.byKey[b.key] == b {
		size := b.size()
		c.size += size - b.counted
		b.counted = size
		c.shrink(limit)
	}
}

func (c *taskCache) forget(b *bigTask) {
	if c.byKey[b.key] == b {
		delete(c.byKey, b.key)
		c.size -= b.counted
		b.counted = 0
	}
}

// shrink drops the least recently used tasks while they are too large, but
// none that the transaction under way uses.
func (c *taskCache) shrink(limit int) {
	for c.size > limit {
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
	b := &bigTask{key: key, taskID: taskID, ids: make(map[uint64]int64, len(seqs)), orders: make(map[*queue]*bigOrder)}
	for _, seq := range seqs {
		e, ok, err := t.readBig(b, seq)
		if err == nil && ok {
			b.ids[idPart(e.id)] = seq
			b.note(seq, e.final)
			err = t.buildOrders(b, e)
		}
		if err != nil {
			return nil, err
		}
	}
	t.w.tasks.put(b, t.w.limits.bigIDs)
	return b, nil
}

// note notes a final event. They come in order.
func (b *bigTask) note(seq int64, final bool) {
	if final {
		b.final = max(b.final, seq)
		b.finals = append(b.finals, seq)
	}
}

// buildOrders adds an event to the orders of its destinations.
func (t *tx) buildOrders(b *bigTask, e taskEvent) error {
	queues, err := t.queues(e.to)
	if err != nil {
		return err
	}
	for _, q := range queues {
		there, err := t.at(q, e)
		if err != nil {
			return err
		}
		o := b.at(q)
		if there.final {
			o.finals = append(o.finals, e.seq)
		}
		if !there.state.ended() && there.state != blocked {
			o.active = append(o.active, e.seq)
		}
	}
	return nil
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

// readBigAt reads an event with its state at a destination. ok is false if it does not
// go there any more.
func (t *tx) readBigAt(q *queue, b *bigTask, seq int64) (e taskEvent, ok bool, err error) {
	e, ok, err = t.readBig(b, seq)
	if err != nil || !ok || !e.to.has(q) {
		return e, false, err
	}
	e, err = t.at(q, e)
	return e, true, err
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
func (t *tx) addBig(b *bigTask, seq int64, id inbox.RawID, final bool, to []*queue) {
	b.ids[idPart(id)] = seq
	b.note(seq, final)
	for _, q := range to {
		b.at(q).join(seq, final)
	}
	t.w.tasks.grown(b, t.w.limits.bigIDs)
}

// bigHasRoom reports whether one more event of the task may be stored, because
// the cache of one task is bounded too. If not, it refuses the request.
func (t *tx) bigHasRoom(r *request, b *bigTask) bool {
	if b.size() < t.w.limits.bigIDs {
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
