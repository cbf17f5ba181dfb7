package sqlite

import (
	"cmp"
	"math"
	"slices"
)

const (
	// blockShift says how many numbers of events one block has at first: 1 << blockShift.
	blockShift = 10

	// maxBlocks bounds the blocks in memory, 256 KiB. Beyond it they are made twice as long.
	maxBlocks = 16 << 10
)

// ends knows where events may be that are too old, so that no others are read: of each
// block of numbers with events that stay only for a while, a time before which none of
// them has ended. It may have blocks without such events, because it is not told of those
// that are removed or replayed, nor of a transaction that fails. It misses none.
type ends struct {
	blocks []block // ascending
	first  int64   // none of all has ended before
	longer uint    // how often the blocks were made twice as long
}

// block is the range of the numbers that begin with n, see ends.shift.
type block struct {
	n     int64
	first int64 // in µs
}

func (e *ends) shift() uint { return blockShift + e.longer }

// add records when an event has ended, or a time before that.
func (e *ends) add(seq, at int64) {
	if len(e.blocks) == 0 || at < e.first {
		e.first = at
	}
	n := seq >> e.shift()
	i, found := slices.BinarySearchFunc(e.blocks, n, func(b block, n int64) int { return cmp.Compare(b.n, n) })
	if found {
		e.blocks[i].first = min(e.blocks[i].first, at)
		return
	}
	e.blocks = slices.Insert(e.blocks, i, block{n, at})
	for len(e.blocks) > maxBlocks {
		e.lengthen()
	}
}

// lengthen makes each block twice as long.
func (e *ends) lengthen() {
	e.longer++
	merged := e.blocks[:0]
	for _, b := range e.blocks {
		b.n >>= 1
		if last := len(merged) - 1; last >= 0 && merged[last].n == b.n {
			merged[last].first = min(merged[last].first, b.first)
		} else {
			merged = append(merged, b)
		}
	}
	e.blocks = merged
}

// take removes the first block in which an event may have ended up to the limit, and
// returns its range; it is empty if there is none.
func (e *ends) take(limit int64) span {
	i := slices.IndexFunc(e.blocks, func(b block) bool { return b.first <= limit })
	if i < 0 {
		e.first = e.earliest()
		return span{}
	}
	n, shift, first := e.blocks[i].n, e.shift(), e.blocks[i].first
	if e.blocks = slices.Delete(e.blocks, i, i+1); len(e.blocks) == 0 {
		e.longer = 0
	}
	return span{after: n<<shift - 1, last: (n+1)<<shift - 1, first: first}
}

func (e *ends) earliest() int64 {
	first := int64(math.MaxInt64)
	for _, b := range e.blocks {
		first = min(first, b.first)
	}
	return first
}

// span is a range of events by their numbers.
type span struct {
	after, last int64 // from after + 1 to last
	first       int64 // none of them has ended before, in µs
}

func (s span) empty() bool { return s.after >= s.last }
