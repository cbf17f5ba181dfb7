package sqlite

import (
	"database/sql/driver"
	"slices"
	"strings"
)

// flushIndex writes the next entries of the index to its newest part.
func flushIndex(w *writer) error {
	entries, begun, next := w.index.step(w.limits.flushStep)
	var p *part
	err := w.transact(func(t *tx) error {
		p = t.partFor(begun)
		if err := t.insertIndex(p.n, entries); err != nil {
			return err
		}
		if next.atEnd() {
			t.meta.indexedSeq = w.index.frozenLast()
		}
		return t.writePart(p, w.index.frozenLast(), p.entries+int64(len(entries)))
	})
	if err != nil {
		return err
	}
	p.last = w.index.frozenLast()
	p.entries += int64(len(entries))
	p.add(entries)
	if p != w.parts.last() {
		w.parts = append(w.parts, p)
		w.parts.bound(w.limits.filtersMost)
	}
	w.index.markWritten(next)
	return nil
}

const insertIndex = `INSERT OR IGNORE INTO part_entries (part, task_key, seq) VALUES (?, ?, ?)`

// insertIndexRows is the number of rows that one statement inserts.
const insertIndexRows = 32

var insertIndexMany = insertIndex + strings.Repeat(`, (?, ?, ?)`, insertIndexRows-1)

// insertIndex inserts entries, which are sorted by key, into a part.
func (t *tx) insertIndex(part int64, entries []entry) error {
	values := make([]driver.Value, 0, 3*insertIndexRows)
	for ; len(entries) >= insertIndexRows; entries = entries[insertIndexRows:] {
		values = values[:0]
		for _, e := range entries[:insertIndexRows] {
			values = append(values, part, e.key, e.seq)
		}
		if err := t.c.exec(insertIndexMany, values...); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := t.c.exec(insertIndex, part, e.key, e.seq); err != nil {
			return err
		}
	}
	return nil
}

var readPart = newPartQuery(`SELECT seq FROM part_entries WHERE part = ? AND task_key = ?`)

// readAheadKeys is the number of keys in one look-up query.
const readAheadKeys = 16

var readPartMany = newPartQuery(`SELECT task_key, seq FROM part_entries WHERE part = ? AND task_key IN (?` + strings.Repeat(",?", readAheadKeys-1) + `)`)

// readAhead looks keys up in the table, many of them at once, which costs much less than one
// by one.
func (t *tx) readAhead(keys []int64) error {
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	t.table = make(map[int64][]int64, len(keys))
	for _, key := range keys {
		t.table[key] = nil
	}
	wanted := make([]int64, 0, len(keys))
	for _, p := range t.w.parts {
		wanted = wanted[:0]
		for _, key := range keys {
			if p.mayHave(key) {
				wanted = append(wanted, key)
			}
		}
		for chunk := range slices.Chunk(wanted, readAheadKeys) {
			if err := t.readKeys(p.n, chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

// readKeys looks up to readAheadKeys keys up in a part.
func (t *tx) readKeys(part int64, keys []int64) error {
	if len(keys) == 1 {
		seqs, err := t.readKey(part, keys[0], t.table[keys[0]])
		t.table[keys[0]] = seqs
		return err
	}
	values := make([]driver.Value, 1+readAheadKeys)
	values[0] = part
	for i := range readAheadKeys {
		values[1+i] = keys[min(i, len(keys)-1)]
	}
	return t.c.query(readPartMany.of(part), func(row []driver.Value) error {
		key := integer(row[0])
		t.table[key] = append(t.table[key], integer(row[1]))
		return nil
	}, values...)
}

// readKey appends the events of a key in a part.
func (t *tx) readKey(part, key int64, seqs []int64) ([]int64, error) {
	err := t.c.query(readPart.of(part), func(row []driver.Value) error {
		seqs = append(seqs, integer(row[0]))
		return nil
	}, part, key)
	return seqs, err
}
