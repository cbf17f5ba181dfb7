package sqlite

import (
	"database/sql/driver"
	"math"
)

const (
	// filterBits is the size of the filter: 4 MiB. With a million keys it errs
	// once in 6,000 look-ups, with four million once in 40.
	filterBits   = 1 << 25
	filterProbes = 4
)

// filter is a Bloom filter of the keys in task_index. Most events are the first
// of their task, and it spares them the look-up in the table.
type filter struct {
	words []uint64
}

func newFilter() *filter {
	return &filter{words: make([]uint64, filterBits/64)}
}

// probe returns the n-th bit of a key. Keys are the heads of hashes, so that
// their halves are as good as two hash functions.
func probe(key int64, n uint32) (word uint32, bit uint64) {
	h := uint64(key)                                           //nolint:gosec // the same 64 bits
	at := (uint32(h) + n*(uint32(h>>32)|1)) & (filterBits - 1) //nolint:gosec // the low half
	return at / 64, 1 << (at % 64)
}

func (f *filter) add(key int64) {
	for n := range uint32(filterProbes) {
		word, bit := probe(key, n)
		f.words[word] |= bit
	}
}

// has reports false only for keys that were not added.
func (f *filter) has(key int64) bool {
	for n := range uint32(filterProbes) {
		if word, bit := probe(key, n); f.words[word]&bit == 0 {
			return false
		}
	}
	return true
}

// filterBuild fills a filter from task_index, in steps, after the inbox was
// opened or the table swept.
type filterBuild struct {
	filter *filter
	ready  bool  // the filter knows the whole table
	after  int64 // it knows the table up to this key
}

// filterStep is the number of rows that one step reads.
const filterStep = 2048

// step reads the next rows of the table.
func (b *filterBuild) step(w *writer) error {
	if b.filter == nil {
		b.filter, b.after = newFilter(), math.MinInt64
		b.filter.add(b.after)
	}
	seen := 0
	err := w.conn.query(`SELECT task_key FROM task_index WHERE task_key > ? ORDER BY task_key LIMIT ?`, func(row []driver.Value) error {
		seen++
		b.after = integer(row[0])
		b.filter.add(b.after)
		return nil
	}, b.after, int64(filterStep))
	b.ready = err == nil && seen < filterStep
	return err
}

// add takes entries that were written to the table.
func (b *filterBuild) add(entries []entry) {
	if b.filter == nil {
		return
	}
	for _, e := range entries {
		b.filter.add(e.key)
	}
}

// mayHave reports whether the table may have the key.
func (b *filterBuild) mayHave(key int64) bool {
	return !b.ready || b.filter.has(key)
}
