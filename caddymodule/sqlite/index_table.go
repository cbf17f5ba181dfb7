package sqlite

import (
	"database/sql/driver"
	"strings"
)

// flushIndex writes the next entries of the index to its table.
func flushIndex(w *writer) error {
	entries, next := w.index.step(w.limits.flushStep)
	err := w.transact(func(t *tx) error {
		if err := t.insertIndex(entries); err != nil {
			return err
		}
		if next.atEnd() {
			t.meta.indexedSeq = w.index.frozenLast()
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.maintenance.bloom.add(entries, &w.limits)
	if next.atEnd() {
		w.index.fit(w.meta.total())
	}
	w.index.markWritten(next)
	return nil
}

const insertIndex = `INSERT OR IGNORE INTO task_index (task_key, seq) VALUES (?, ?)`

// insertIndexRows is the number of rows that one statement inserts.
const insertIndexRows = 32

var insertIndexMany = insertIndex + strings.Repeat(`, (?, ?)`, insertIndexRows-1)

// insertIndex inserts entries, which are sorted by key, into the table.
func (t *tx) insertIndex(entries []entry) error {
	values := make([]driver.Value, 0, 2*insertIndexRows)
	for ; len(entries) >= insertIndexRows; entries = entries[insertIndexRows:] {
		values = values[:0]
		for _, e := range entries[:insertIndexRows] {
			values = append(values, e.key, e.seq)
		}
		if err := t.c.exec(insertIndexMany, values...); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := t.c.exec(insertIndex, e.key, e.seq); err != nil {
			return err
		}
	}
	return nil
}

// sweepDue reports whether more than a quarter of the index refers to events
// that are gone.
func (c *maintenance) sweepDue(w *writer) bool {
	m := &w.meta
	return c.sweep.running || m.stale > max(w.limits.sweepMin, m.total()/3)
}

// sweep removes rows of task_index whose events are gone, in the order of the
// keys. Removing each together with its event would dirty a page per row.
type sweep struct {
	running  bool
	key, seq int64 // position of the last row done
	stale    int64 // number of stale rows when the sweep began
	removed  int64
}

const (
	readIndex = `SELECT i.task_key, i.seq, e.seq FROM task_index i LEFT JOIN events e ON e.seq = i.seq
		WHERE (i.task_key, i.seq) > (?, ?) ORDER BY i.task_key, i.seq LIMIT +?`
	deleteIndex = `DELETE FROM task_index WHERE task_key = ? AND seq = ?`
)

// step processes the next rows of the index.
func (p *sweep) step(w *writer) error {
	next := *p
	if !next.running {
		next = sweep{running: true, key: -1 << 63, stale: w.meta.stale}
	}
	err := w.transact(func(t *tx) error {
		var gone []entry
		var seen int64
		err := t.c.query(readIndex, func(row []driver.Value) error {
			seen++
			next.key, next.seq = integer(row[0]), integer(row[1])
			if row[2] == nil {
				gone = append(gone, entry{next.key, next.seq})
			}
			return nil
		}, next.key, next.seq, w.limits.sweepStep)
		if err != nil {
			return err
		}
		for _, e := range gone {
			if err := t.c.exec(deleteIndex, e.key, e.seq); err != nil {
				return err
			}
		}
		next.removed += int64(len(gone))
		t.meta.stale = max(0, t.meta.stale-int64(len(gone)))
		if seen < w.limits.sweepStep {
			// The whole table was read: stale rows that were not found do not
			// exist.
			t.meta.stale = max(0, t.meta.stale-max(0, next.stale-next.removed))
			next = sweep{}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if p.running && !next.running {
		w.maintenance.bloom.again() // it still has the removed keys
	}
	*p = next
	return nil
}
