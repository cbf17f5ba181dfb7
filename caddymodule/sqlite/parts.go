package sqlite

import (
	"cmp"
	"database/sql/driver"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// partsSchema divides the index from tasks to events into parts by age. Keys are random, so a
// generation of the index dirties nearly every page of the table that it is written to. Only
// the newest part is written to, and it is small however many events there are. A part whose
// events are all gone is removed without looking for each of them.
//
// A key may be in several parts; its events ascend with them.
var partsSchema = migration{
	`CREATE TABLE parts (
		n        INTEGER PRIMARY KEY, -- of part 0, the rows are in task_index
		last_seq INTEGER NOT NULL,    -- no later event is in it
		entries  INTEGER NOT NULL,    -- number of rows, approximately
		words    INTEGER NOT NULL     -- of its filter in part_filters; 0 if that does not have all keys
	) STRICT`,
	`CREATE TABLE part_entries (
		part     INTEGER NOT NULL,
		task_key INTEGER NOT NULL,
		seq      INTEGER NOT NULL,
		PRIMARY KEY (part, task_key, seq)
	) WITHOUT ROWID, STRICT`,
	`CREATE TABLE part_filters (
		part  INTEGER NOT NULL,
		place INTEGER NOT NULL, -- of the first word
		bytes BLOB    NOT NULL, -- integers of 8 bytes, the lowest byte first
		PRIMARY KEY (part, place)
	) WITHOUT ROWID, STRICT`,
	`INSERT INTO parts SELECT 0, next_seq - 1,
		events_pending + events_delivered + events_superseded + events_dead + events_skipped + stale, 0
		FROM meta WHERE EXISTS (SELECT 1 FROM task_index)`,
	`DELETE FROM saved`, // it is about the index as it was
}

// partShare is how many parts of the usual size there are if there are many events. As smaller
// ones stay, there are as many more for each time that the number of events has doubled.
const partShare = 16

// part is a part of the index. Only the writer uses it.
type part struct {
	n, last, entries int64

	// filter has all keys of the part. It is nil until the first one is made.
	filter *bloomFilter

	// making is a filter that has the keys up to made; nil if none is being made.
	making *bloomFilter
	made   int64

	kept bool // the filter is in the file
	next int  // the word of the filter to be stored next
}

// mayHave reports whether the part may have the key.
func (p *part) mayHave(key int64) bool {
	if p.filter != nil {
		return p.filter.has(key)
	}
	return key > p.made || p.making.has(key)
}

// add adds entries that were written to the part.
func (p *part) add(entries []entry) {
	for _, f := range []*bloomFilter{p.filter, p.making} {
		if f == nil {
			continue
		}
		for _, e := range entries {
			f.add(e.key)
		}
	}
}

// parts are the parts of the index, the oldest first. Entries are added to the last one.
type parts []*part

// last returns the newest part, nil if there is none.
func (ps parts) last() *part {
	if len(ps) == 0 {
		return nil
	}
	return ps[len(ps)-1]
}

// from returns the parts from a number on.
func (ps parts) from(n int64) parts {
	at, _ := slices.BinarySearchFunc(ps, n, func(p *part, n int64) int { return cmp.Compare(p.n, n) })
	return ps[at:]
}

// mayHave reports whether any part may have the key.
func (ps parts) mayHave(key int64) bool {
	for _, p := range ps {
		if p.mayHave(key) {
			return true
		}
	}
	return false
}

// remove removes a part that is in the file no more.
func (ps *parts) remove(gone *part) {
	*ps = slices.DeleteFunc(*ps, func(p *part) bool { return p == gone })
}

// partEntries returns how many entries a part is to have before the next one begins, when
// there are so many events.
func (l *limits) partEntries(events int64) int64 {
	entries := l.leastPart
	for 2*entries <= events/partShare {
		entries *= 2
	}
	return entries
}

// partsDue returns the next step that keeps parts few and with filters, nil if nothing is to be
// done.
func (w *writer) partsDue() func(*writer) error {
	for _, p := range w.parts {
		if p.making != nil {
			return p.fill
		}
	}
	if into, from := w.mergeDue(); into != nil {
		return func(w *writer) error { return w.merge(into, from) }
	}
	for i, p := range w.parts {
		if !p.kept && i < len(w.parts)-1 { // no entries are written to it any more
			return p.keep
		}
	}
	return nil
}

const (
	readPartNumbers = `SELECT n FROM parts ORDER BY n`

	readParts = `SELECT n, last_seq, entries, words FROM parts ORDER BY n`
	writePart = `INSERT INTO parts (n, last_seq, entries, words) VALUES (?, ?, ?, 0)
		ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq, entries = excluded.entries`
	deletePart = `DELETE FROM parts WHERE n = ?`
)

// partQuery is a statement about the entries of a part, which is its first argument.
type partQuery struct {
	newer, first string
}

// newPartQuery returns the statement that is this one for the parts after the first.
func newPartQuery(newer string) *partQuery {
	return &partQuery{newer: newer, first: strings.Replace(newer, "part_entries WHERE part = ?", "task_index WHERE ? = 0", 1)}
}

// of returns the statement's text for a part.
func (q *partQuery) of(part int64) string {
	if part == 0 {
		return q.first
	}
	return q.newer
}

// partNumbers returns the numbers of all parts, the oldest first.
func (c *conn) partNumbers() (numbers []int64, err error) {
	err = c.query(readPartNumbers, func(row []driver.Value) error {
		numbers = append(numbers, integer(row[0]))
		return nil
	})
	return numbers, err
}

// loadParts reads the parts and the filters that are stored. Other filters are to be made.
func (w *writer) loadParts() error {
	var words []int
	err := w.conn.query(readParts, func(row []driver.Value) error {
		w.parts = append(w.parts, &part{n: integer(row[0]), last: integer(row[1]), entries: integer(row[2])})
		words = append(words, int(integer(row[3])))
		return nil
	})
	if err != nil {
		return err
	}
	for i, p := range w.parts {
		if words[i] > 0 {
			if err := w.loadFilter(p, words[i]); err != nil {
				return err
			}
		}
		if p.filter == nil {
			room := p.entries
			if i == len(w.parts)-1 { // more entries come
				room = max(room, w.limits.partEntries(w.meta.total()))
			}
			p.makeFilter(room, &w.limits)
		}
	}
	w.parts.bound(w.limits.filtersMost)
	return nil
}

func (w *writer) loadFilter(p *part, words int) (err error) {
	numbers, err := w.conn.integers(readFilter, words, p.n)
	if err != nil {
		return err
	}
	if p.filter = filterOf(numbers, words, p.entries); p.filter == nil {
		w.log.Warn("a filter of the index is not as it was written; it is made again", zap.String("path", w.path),
			zap.Int64("part", p.n), zap.Int("words", len(numbers)), zap.Int("expected", words))
	}
	p.kept = p.filter != nil
	return nil
}

// partFor returns the part to which a generation is written. begun says that some of it is
// written already. A new part is to be added to the others after the commit.
func (t *tx) partFor(begun bool) *part {
	w := t.w
	newest, entries := w.parts.last(), w.limits.partEntries(w.meta.total())
	switch {
	case newest == nil:
		return &part{n: 1, filter: newBloomFilter(entries, &w.limits)}
	case newest.n == 0, newest.entries >= entries && !begun:
		return &part{n: newest.n + 1, filter: newBloomFilter(entries, &w.limits)}
	default:
		return newest
	}
}

// writePart writes the numbers of a part as they are to be.
func (t *tx) writePart(p *part, last, entries int64) error {
	return t.c.exec(writePart, p.n, last, entries)
}

// removePart removes a part without entries.
func (t *tx) removePart(p *part) error {
	if err := t.c.exec(deleteFilter, p.n); err != nil {
		return err
	}
	return t.c.exec(deletePart, p.n)
}
