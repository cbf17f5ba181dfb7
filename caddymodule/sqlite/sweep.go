package sqlite

import (
	"database/sql/driver"
	"math"
)

// sweepDue reports whether more than a quarter of the index refers to events
// that are gone.
func (c *maintenance) sweepDue(w *writer) bool { return c.sweep.running || w.worthSweeping(&w.meta) }

func (w *writer) worthSweeping(m *meta) bool {
	return m.stale > max(w.limits.sweepMin, m.total()/3)
}

// sweep removes entries of the index whose events are gone, part by part, in the order of the
// keys. Removing each together with its event would dirty a page per entry.
type sweep struct {
	running  bool
	part     int64
	begun    bool  // the part is, as are the following about it
	closed   bool  // nothing is written to it any more
	all      bool  // the events of all its entries are gone
	key, seq int64 // position of the last entry done
	left     int64 // entries before there
	stale    int64 // number of stale entries when the sweep began
	removed  int64
}

var (
	readEntries = newPartQuery(`SELECT task_key, seq FROM part_entries WHERE part = ? AND (task_key, seq) > (?, ?)
		ORDER BY task_key, seq LIMIT +?`)
	deleteEntry = newPartQuery(`DELETE FROM part_entries WHERE part = ? AND task_key = ? AND seq = ?`)
	deleteUpTo  = newPartQuery(`DELETE FROM part_entries WHERE part = ? AND (task_key, seq) <= (?, ?)`)
)

const (
	oldestEvent = `SELECT seq FROM events ORDER BY seq LIMIT 1`
	readSeq     = `SELECT 1 FROM events WHERE seq = ?`
)

// swept is what a step of a sweep has done.
type swept struct {
	part    *part
	entries int64 // that it has now
	gone    bool  // it is removed
}

// step processes the next entries.
func (p *sweep) step(w *writer) error {
	next := *p
	if !next.running {
		next = sweep{running: true, stale: w.meta.stale}
	}
	var done swept
	err := w.transact(func(t *tx) (err error) {
		done, err = next.sweep(t)
		return err
	})
	if err != nil {
		return err
	}
	if done.part != nil {
		done.part.entries = done.entries
	}
	if done.gone {
		w.parts.remove(done.part)
	}
	*p = next
	return nil
}

// sweep removes the next stale entries.
func (p *sweep) sweep(t *tx) (done swept, err error) {
	rest := t.w.parts.from(p.part)
	if len(rest) == 0 {
		// Every entry was read: stale ones that were not found do not exist.
		t.meta.stale = max(0, t.meta.stale-max(0, p.stale-p.removed))
		*p = sweep{}
		return done, nil
	}
	of := rest[0]
	if !p.begun || of.n != p.part {
		oldest, err := t.c.number(oldestEvent)
		if err != nil {
			return done, err
		}
		p.part, p.begun, p.key, p.seq, p.left = of.n, true, math.MinInt64, math.MinInt64, 0
		p.closed = len(rest) > 1
		p.all = p.closed && (oldest == 0 || of.last < oldest)
		if !p.all && p.removed > 0 && !t.w.worthSweeping(&t.meta) {
			*p = sweep{} // the parts before this one were enough
			return done, nil
		}
	}
	read, removed, err := p.remove(t)
	if err != nil {
		return done, err
	}
	p.removed += removed
	t.meta.stale = max(0, t.meta.stale-removed)
	p.left += read - removed
	done = swept{part: of, entries: of.entries - removed}
	if read < t.w.limits.sweepStep {
		p.part, p.begun = p.part+1, false // or the next one that there is
		if p.closed {
			done.entries, done.gone = p.left, p.left == 0
		}
	}
	if done.gone {
		return done, t.removePart(of)
	}
	return done, t.writePart(of, of.last, done.entries)
}

// remove reads the next entries of the part, and removes those whose events are gone.
func (p *sweep) remove(t *tx) (read, removed int64, err error) {
	var entries []entry
	err = t.c.query(readEntries.of(p.part), func(row []driver.Value) error {
		p.key, p.seq = integer(row[0]), integer(row[1])
		entries = append(entries, entry{p.key, p.seq})
		return nil
	}, p.part, p.key, p.seq, t.w.limits.sweepStep)
	if err != nil || len(entries) == 0 {
		return 0, 0, err
	}
	read = int64(len(entries))
	if p.all {
		return read, read, t.c.exec(deleteUpTo.of(p.part), p.part, p.key, p.seq)
	}
	for _, e := range entries {
		there, err := t.c.number(readSeq, e.seq)
		if err == nil && there == 0 {
			removed++
			err = t.c.exec(deleteEntry.of(p.part), p.part, e.key, e.seq)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return read, removed, nil
}
