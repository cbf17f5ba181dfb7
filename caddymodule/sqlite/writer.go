package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// writer owns the writing connection. Its goroutine makes all changes to the
// file, in transactions of as many ops as are waiting.
type writer struct {
	*store
	conn        *conn
	meta        meta // as committed
	size        fileSize
	reserve     reserve
	maintenance maintenance
	tasks       taskCache
	parts       parts
	batch       []op
	sleep       func(time.Duration)

	suspectBytes int64 // of all suspects, see suspectSize; as committed

	files      *identity
	overwrites overwriteCheck
	verified   time.Time // when the files were last checked
	lookedAt   int64     // the last frame of the log then, from 0

	failureLogged time.Time // when a failure was last logged
}

// failureLogPause is the least time between log lines about failures.
const failureLogPause = 10 * time.Second

// submit passes the op to the writer and returns its result.
func (s *store) submit(o op) error {
	r := o.base()
	if err := s.do(r.ctx, o); err != nil {
		return err
	}
	return r.err
}

// do passes the op to the writer and waits until it is done. After an error the
// writer may still use the op, so the caller must not reuse it.
func (s *store) do(ctx context.Context, o op) error {
	select {
	case <-s.closing:
		return s.errClosed()
	case <-s.broken.ch:
		return s.broken.err
	default:
	}
	select {
	case s.requests <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return s.errClosed()
	}
	done := o.base().done
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
	}
	// The writer has ended, but it may have finished the op just before.
	select {
	case <-done:
		return nil
	default:
		return s.errClosed()
	}
}

func (s *store) errClosed() error {
	if err := s.Broken(); err != nil {
		return fmt.Errorf("%w: %w", inbox.ErrClosed, err)
	}
	return fmt.Errorf("%w: %s", inbox.ErrClosed, s.path)
}

// run is the writer's goroutine. It ends when the inbox is closed.
func (w *writer) run() {
	defer close(w.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for w.Broken() == nil {
		timer.Reset(w.maintenance.wait(w))
		idle := false
		select {
		case o := <-w.requests:
			w.gather(o)
			w.process(w.batch)
			clear(w.batch)
		case <-w.policyChanged:
			w.maintenance.retirement.reset(w)
		case <-timer.C:
			idle = true
		case <-watch.C:
			_ = w.verify(false) // verify has logged the error
			continue
		case <-w.broken.ch:
			continue
		case <-w.closing:
			w.refuse()
			return
		}
		if w.Broken() != nil {
			continue
		}
		w.tidyLog()
		w.maintenance.run(w, idle)
	}
	w.runBroken()
}

// refuse fails the ops that were still waiting when the inbox was closed.
func (w *writer) refuse() {
	for {
		select {
		case o := <-w.requests:
			o.base().fail(w.errClosed())
		default:
			return
		}
	}
}

// process applies the ops and finishes each. If the transaction fails because
// of one of them, they are applied one by one; if it fails because of the disk,
// those that need no room are tried again.
func (w *writer) process(ops []op) {
	w.restoreReserve(ops)
	err := w.commit(ops)
	switch {
	case w.Broken() != nil:
		fail(ops, w.Broken())
	case err == nil:
		answer(ops)
	case isStorage(err):
		w.logFailure(len(ops), err)
		w.size.logStuck = true
		w.diskFull.Store(true)
		w.salvage(ops, err)
	case len(ops) > 1:
		for _, o := range ops {
			w.process([]op{o})
		}
	default:
		w.logFailure(1, err)
		ops[0].base().fail(w.storeError(err))
	}
}

// salvage fails the ops that need room and retries the others: settled events
// make room, and if an event cannot be settled it is sent again.
func (w *writer) salvage(ops []op, err error) {
	var small []op
	for _, o := range ops {
		if o.grows() {
			o.base().fail(w.storeError(err))
		} else {
			small = append(small, o)
		}
	}
	if len(small) == 0 {
		return
	}
	if err = w.commit(small); mayBeFull(err) && w.spendReserve() {
		err = w.commit(small)
	}
	switch {
	case w.Broken() != nil:
		fail(small, w.Broken())
	case err == nil:
		answer(small)
	default:
		fail(small, w.storeError(err))
	}
}

// logFailure logs that ops failed. It does so rarely, so that a full disk does
// not fill the log: every caller gets the error as well.
func (w *writer) logFailure(ops int, err error) {
	now := w.now()
	if now.Sub(w.failureLogged).Abs() < failureLogPause {
		return
	}
	w.failureLogged = now
	w.log.Error("storing failed", zap.String("path", w.path), zap.Int("operations", ops), zap.Error(err))
}

// storeError wraps an SQLite error for the caller.
func (w *writer) storeError(err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: the disk of %s is full: %w", inbox.ErrFull, w.path, err)
	}
	return fmt.Errorf("storing in %s: %w", w.path, err)
}

// commit applies the ops in one transaction.
func (w *writer) commit(ops []op) error {
	keys := make([]int64, 0, len(ops))
	for _, o := range ops {
		switch o := o.(type) {
		case *put:
			if key := keyOf(o.id); w.mayHaveInTable(key) {
				keys = append(keys, key)
			}
		case *track:
			keys = o.readKeys(w, keys)
		}
	}
	return w.transact(func(t *tx) error {
		if err := t.readAhead(keys); err != nil {
			return err
		}
		for _, o := range ops {
			if err := o.base().ctx.Err(); err != nil {
				o.base().err = err
				continue
			}
			if err := o.apply(t); err != nil {
				return err
			}
		}
		if time.Since(w.verified) < w.limits.verifyPause {
			return nil
		}
		return w.verify(true) // before the commit: refusing is better than storing in the wrong file
	})
}

// mayHaveInTable reports whether to look a task up in the tables of the index.
func (w *writer) mayHaveInTable(key int64) bool {
	return w.tasks.get(key) == nil && w.parts.mayHave(key)
}

// transact runs f in a transaction. The state in memory changes only after the
// commit.
func (w *writer) transact(f func(*tx) error) error {
	t := &tx{w: w, c: w.conn, now: w.now().UnixMicro(), meta: w.meta, suspectBytes: w.suspectBytes}
	t.of(w.usual)
	err := w.conn.exec(`BEGIN IMMEDIATE`)
	if err == nil {
		err = f(t)
	}
	if err == nil {
		err = t.end()
	}
	if err == nil {
		err = w.conn.exec(`COMMIT`)
	}
	if err != nil {
		rollback(w.conn)
		if isDamage(err) {
			_ = w.checkLog(false, true) // says more, and marks the inbox as broken as well
		}
		w.noteDamage(err)
		w.tasks.rollBack()
		t.rollBack()
		return err
	}
	w.publish(t)
	return nil
}

// end writes the counters, and measures the file.
func (t *tx) end() error {
	for _, c := range t.changes {
		if c == nil {
			continue
		}
		c.counters.lowSeq = max(c.counters.lowSeq, c.queue.leases.low(c.settled))
		if err := c.write(t); err != nil {
			return err
		}
	}
	if err := t.meta.write(t.c); err != nil { // in every transaction
		return err
	}
	pages, err := t.c.number(`PRAGMA page_count`)
	if err != nil {
		return err
	}
	t.free, err = t.c.number(`PRAGMA freelist_count`)
	t.pages = pages - t.free
	return err
}

// write writes the counters of a queue, unless they are in meta.
func (c *change) write(t *tx) error {
	if c.queue.isDefault() || *c.counters == c.before {
		return nil
	}
	var values []driver.Value
	for _, p := range c.counters.fields() {
		values = append(values, *p)
	}
	return t.c.exec(updateDestination, append(values, int64(c.queue.slot))...)
}

// rollBack allows the events that were revoked to be leased again.
func (t *tx) rollBack() {
	for _, q := range t.dropped {
		t.w.queues.add(q)
	}
	for _, c := range t.changes {
		if c != nil {
			c.queue.leases.endBatch(nil)
			c.queue.wake()
		}
	}
}

// publish updates the state in memory after a commit and wakes the leasers.
func (w *writer) publish(t *tx) {
	w.meta, w.suspectBytes = t.meta, t.suspectBytes
	w.overwrites.add(w.meta)
	w.diskFull.Store(w.reserve.spent)
	w.tasks.commit()
	w.index.add(t.added...)
	w.maintenance.added += len(t.added)
	if t.tracked != nil {
		t.tracked.publish(w.store)
	}
	w.measure(t)
	w.view.Store(&view{meta: w.meta, bytes: w.used(), log: w.size.log})
	for _, q := range t.made {
		q.publish(q.counters, w.meta.nextSeq, w.meta.routed > 0)
		w.queues.add(q)
	}
	for _, c := range t.changes {
		if c != nil {
			c.publish(&w.meta)
		}
	}
}

// publish updates the state of a queue after a commit.
func (c *change) publish(m *meta) {
	q := c.queue
	before := q.view.Load().next
	q.counters, q.hold = *c.counters, c.hold
	// The view comes first: a scan with the view before would not know that an event
	// goes elsewhere by now, and until the batch ends it cannot lease that event.
	q.publish(q.counters, m.nextSeq, m.routed > 0)
	q.leases.follow(c, before, m.nextSeq)
	moved := q.leases.endBatch(c.settled)
	if c.ready != 0 {
		q.leaser.lookAgainFrom(c.ready)
	}
	if c.wake || moved {
		q.wake()
	}
}
