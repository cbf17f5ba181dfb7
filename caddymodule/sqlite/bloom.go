package sqlite

import (
	"database/sql/driver"
	"math"
	"math/bits"
)

const (
	bloomProbes = 4

	// bloomBlock is the size of a block, in words: a line of the processor's cache. All bits
	// of a key are in one block, so that a look-up reads memory once.
	bloomBlock = 8

	// bitsOfProbe is how many bits of a key choose one of a block's.
	bitsOfProbe = 9
)

// bloomFilter is a Bloom filter of the keys in task_index. Most events are the
// first of their task, and with the filter they need no look-up in the table.
type bloomFilter struct {
	words []uint64
	keys  int64 // that were added
}

// newBloomFilter returns a filter for so many keys, and more to come: it has a byte for each.
// Then one look-up in 33 is a false positive, and one in 20 with a sixth of a byte less.
func newBloomFilter(keys int64, l *limits) *bloomFilter {
	size := min(l.bloomMost, max(l.bloomLeast, 1<<bits.Len64(uint64(keys)))) //nolint:gosec // a number of rows
	return &bloomFilter{words: make([]uint64, size/8)}
}

// size returns the size in bytes.
func (f *bloomFilter) size() int { return 8 * len(f.words) }

// crowded reports whether the filter has so many keys that a larger one is better.
func (f *bloomFilter) crowded(l *limits) bool {
	return f.keys > int64(f.size()) && f.size() < l.bloomMost
}

// place returns the block of a key and its bits there. Keys are prefixes of
// hashes, so any of their bits serve.
func (f *bloomFilter) place(key int64) (block []uint64, at uint64) {
	h := uint64(key) //nolint:gosec // the same 64 bits
	n := int(h) & (len(f.words)/bloomBlock - 1)
	return f.words[n*bloomBlock : (n+1)*bloomBlock], h >> 28
}

func (f *bloomFilter) add(key int64) {
	f.keys++
	block, at := f.place(key)
	for range bloomProbes {
		block[at>>6%bloomBlock] |= 1 << (at % 64)
		at >>= bitsOfProbe
	}
}

// has reports false only for keys that were not added.
func (f *bloomFilter) has(key int64) bool {
	block, at := f.place(key)
	for range bloomProbes {
		if block[at>>6%bloomBlock]&(1<<(at%64)) == 0 {
			return false
		}
		at >>= bitsOfProbe
	}
	return true
}

// bloomBuild fills a filter from task_index in steps: after the inbox was opened, when the
// table was swept, and when the filter has become too small. Meanwhile the one before serves,
// or what there is of the first one.
type bloomBuild struct {
	whole *bloomFilter // it has every key of the table; nil until the first is filled
	next  *bloomFilter // is filled; nil if none is
	after int64        // next has the table up to this key
	ready bool         // whole is as it should be
}

const readKeys = `SELECT task_key FROM task_index WHERE task_key > ? ORDER BY task_key LIMIT +?`

// step reads the next rows of the table.
func (b *bloomBuild) step(w *writer) error {
	if b.next == nil {
		keys := w.meta.total() + w.meta.stale
		if b.whole != nil && b.whole.crowded(&w.limits) {
			keys = max(keys, b.whole.keys) // a filter that is as small would be filled again and again
		}
		b.next, b.after = newBloomFilter(keys, &w.limits), math.MinInt64
		b.next.add(b.after)
	}
	var seen int64
	err := w.conn.query(readKeys, func(row []driver.Value) error {
		seen++
		b.after = integer(row[0])
		b.next.add(b.after)
		return nil
	}, b.after, w.limits.bloomStep)
	if err == nil && seen < w.limits.bloomStep {
		b.whole, b.next, b.ready = b.next, nil, true
	}
	return err
}

// again fills a new filter.
func (b *bloomBuild) again() { b.next, b.ready = nil, false }

// add adds entries that were written to the table.
func (b *bloomBuild) add(entries []entry, l *limits) {
	for _, f := range []*bloomFilter{b.whole, b.next} {
		if f == nil {
			continue
		}
		for _, e := range entries {
			f.add(e.key)
		}
	}
	if b.ready && b.whole.crowded(l) {
		b.again()
	}
}

// mayHave reports whether the table may have the key.
func (b *bloomBuild) mayHave(key int64) bool {
	switch {
	case b.whole != nil:
		return b.whole.has(key)
	case b.next != nil && key <= b.after:
		return b.next.has(key)
	default:
		return true
	}
}
