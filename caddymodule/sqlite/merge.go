package sqlite

import (
	"database/sql/driver"
	"math"
)

// mergeDue returns the two neighbours that have the fewest entries, if there are many parts and
// together these two are no larger than the smallest part was: of old parts, few events may be
// left. Others are not merged, so that an inbox that grows need not write its index again.
func (w *writer) mergeDue() (into, from *part) {
	if len(w.parts) <= w.limits.mostParts || w.maintenance.sweep.running {
		return nil, nil
	}
	least := w.limits.leastPart + 1
	for i, p := range w.parts[:len(w.parts)-2] { // the last one is written to
		next := w.parts[i+1]
		if n := p.entries + next.entries; p.n > 0 && n < least {
			into, from, least = p, next, n
		}
	}
	return into, from
}

// merge moves the next entries of a part to the one before it. A merge that was interrupted
// goes on with the same two, as they have as many entries together as before.
func (w *writer) merge(into, from *part) error {
	var moved []entry
	last := max(into.last, from.last)
	err := w.transact(func(t *tx) error {
		err := t.c.query(readEntries.of(from.n), func(row []driver.Value) error {
			moved = append(moved, entry{integer(row[0]), integer(row[1])})
			return nil
		}, from.n, int64(math.MinInt64), int64(math.MinInt64), w.limits.sweepStep)
		if err != nil {
			return err
		}
		if len(moved) == 0 {
			return t.removePart(from)
		}
		if err := t.insertIndex(into.n, moved); err != nil {
			return err
		}
		end := moved[len(moved)-1]
		if err := t.c.exec(deleteUpTo.of(from.n), from.n, end.key, end.seq); err != nil {
			return err
		}
		if err := t.c.exec(keepFilter, int64(0), into.n); err != nil { // it has not these keys
			return err
		}
		if err := t.writePart(into, last, into.entries+int64(len(moved))); err != nil {
			return err
		}
		return t.writePart(from, from.last, from.entries-int64(len(moved)))
	})
	if err != nil {
		return err
	}
	if len(moved) == 0 {
		w.parts.remove(from)
		if into.filter.crowded() { // by keys of events that are gone
			into.makeFilter(max(into.entries, w.limits.leastPart), &w.limits)
		}
		return nil
	}
	into.last, into.kept, into.next = last, false, 0
	into.entries += int64(len(moved))
	from.entries -= int64(len(moved))
	into.add(moved)
	return nil
}
