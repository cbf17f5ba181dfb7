package sqlite

import (
	"database/sql/driver"
	"math"
)

const (
	// bloomBits is the size of the filter: 4 MiB. Its false positives are one
	// in 6,000 look-ups with a million keys, and one in 40 with four million.
	bloomBits   = 1 << 25
	bloomProbes = 4
)

// bloomFilter is a Bloom filter of the keys in task_index. Most events are the
// first of their task, and with the filter they need no look-up in the table.
type bloomFilter struct {
	words []uint64
}

func newBloomFilter() *bloomFilter {
	return &bloomFilter{words: make([]uint64, bloomBits/64)}
}

// probe returns the n-th bit of a key. Keys are prefixes of hashes, so their
// halves serve as two hash functions.
func probe(key int64, n uint32) (word uint32, bit uint64) {
	h := uint64(key)                                          //nolint:gosec // the same 64 bits
	at := (uint32(h) + n*(uint32(h>>32)|1)) & (bloomBits - 1) //nolint:gosec // the low half
	return at / 64, 1 << (at % 64)
}

func (f *bloomFilter) add(key int64) {
	for n := range uint32(bloomProbes) {
		word, bit := probe(key, n)
		f.words[word] |= bit
	}
}

// has reports false only for keys that were not added.
func (f *bloomFilter) has(key int64) bool {
	for n := range uint32(bloomProbes) {
		if word, bit := probe(key, n); f.words[word]&bit == 0 {
			return false
		}
	}
	return true
}

// bloomBuild fills a filter from task_index in steps, after the inbox was
// opened or the table was swept.
type bloomBuild struct {
	bloom *bloomFilter
	ready bool  // the filter has the whole table
	after int64 // the filter has the table up to this key
}

// bloomStep is the number of rows that one step reads.
const bloomStep = 2048

// step reads the next rows of the table.
func (b *bloomBuild) step(w *writer) error {
	if b.bloom == nil {
		b.bloom, b.after = newBloomFilter(), math.MinInt64
		b.bloom.add(b.after)
	}
	seen := 0
	err := w.conn.query(`SELECT task_key FROM task_index WHERE task_key > ? ORDER BY task_key LIMIT +?`, func(row []driver.Value) error {
		seen++
		b.after = integer(row[0])
		b.bloom.add(b.after)
		return nil
	}, b.after, int64(bloomStep))
	b.ready = err == nil && seen < bloomStep
	return err
}

// add adds entries that were written to the table.
func (b *bloomBuild) add(entries []entry) {
	if b.bloom == nil {
		return
	}
	for _, e := range entries {
		b.bloom.add(e.key)
	}
}

// mayHave reports whether the table may have the key.
func (b *bloomBuild) mayHave(key int64) bool {
	return !b.ready || b.bloom.has(key)
}
