package sqlite

import (
	"cmp"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

var readKeys = newPartQuery(`SELECT task_key FROM part_entries WHERE part = ? AND task_key > ? ORDER BY task_key LIMIT +?`)

const (
	readFilter   = `SELECT bytes FROM part_filters WHERE part = ? ORDER BY place`
	insertFilter = `INSERT INTO part_filters (part, place, bytes) VALUES (?, ?, ?)`
	deleteFilter = `DELETE FROM part_filters WHERE part = ?`
	keepFilter   = `UPDATE parts SET words = ? WHERE n = ?`

	// storedPart is how many integers are stored in one row, and written in one transaction.
	storedPart = 16 << 10
)

// makeFilter begins to make a filter of the keys in the table, for so many entries.
func (p *part) makeFilter(entries int64, l *limits) {
	p.making, p.made = newBloomFilter(entries, l), math.MinInt64
	p.making.add(p.made) // fill reads the keys after it
}

// fill reads the next rows of the part for its new filter.
func (p *part) fill(w *writer) error {
	var seen int64
	err := w.conn.query(readKeys.of(p.n), func(row []driver.Value) error {
		seen++
		p.made = integer(row[0])
		p.making.add(p.made)
		return nil
	}, p.n, p.made, w.limits.fillStep)
	if err == nil && seen < w.limits.fillStep {
		p.filter, p.making, p.kept, p.next = p.making, nil, false, 0
		w.parts.bound(w.limits.filtersMost)
	}
	return err
}

// keep stores the next words of the filter, so that it need not be made again after a restart.
func (p *part) keep(w *writer) error {
	next := min(p.next+storedPart, len(p.filter.words))
	whole := next == len(p.filter.words)
	err := w.transact(func(t *tx) error {
		var errs []error
		if p.next == 0 { // there may be another one
			errs = append(errs, t.c.exec(keepFilter, int64(0), p.n), t.c.exec(deleteFilter, p.n))
		}
		errs = append(errs, t.c.exec(insertFilter, p.n, int64(p.next), littleEndian(p.filter.words[p.next:next])))
		if whole {
			errs = append(errs, t.c.exec(keepFilter, int64(next), p.n))
		}
		return errors.Join(errs...)
	})
	if err == nil {
		p.next, p.kept = next, whole
	}
	return err
}

// bound makes filters smaller until all of them together have at most so many bytes: first
// those with the most bytes for each key. A kept one stays as it is in the file.
func (ps parts) bound(most int) {
	total := 0
	for _, p := range ps {
		total += p.filter.size() + p.making.size()
	}
	for total > most {
		p := slices.MaxFunc(ps, func(a, b *part) int { return cmp.Compare(a.filter.spare(), b.filter.spare()) })
		if p.filter.spare() == 0 {
			return
		}
		total -= p.filter.size() / 2
		p.filter.fold()
		p.next = 0
	}
}

// littleEndian returns integers as they are stored.
func littleEndian(numbers []uint64) []byte {
	bytes := make([]byte, 0, 8*len(numbers))
	for _, n := range numbers {
		bytes = binary.LittleEndian.AppendUint64(bytes, n)
	}
	return bytes
}

// mostIntegers bounds what is taken for granted of a number of integers in the file.
const mostIntegers = 8 << 20

// integers reads what littleEndian wrote, about so many.
func (c *conn) integers(query string, about int, values ...driver.Value) (numbers []uint64, err error) {
	numbers = make([]uint64, 0, max(0, min(about, mostIntegers))) // a slice that grows would leave as much behind
	err = c.query(query, func(row []driver.Value) error {
		for bytes := blob(row[0]); len(bytes) >= 8; bytes = bytes[8:] {
			numbers = append(numbers, binary.LittleEndian.Uint64(bytes))
		}
		return nil
	}, values...)
	return numbers, err
}
