package sqlite

const (
	bloomProbes = 4

	// bloomBlock is the size of a block, in words: a line of the processor's cache. All bits
	// of a key are in one block, so that a look-up reads memory once.
	bloomBlock = 8

	// bitsOfProbe is how many bits of a key choose one of a block's.
	bitsOfProbe = 9

	// filterWidth is how many bytes a filter has for each key: one look-up in 300 is a false
	// positive then, with half of it one in 33.
	filterWidth = 2

	// leastFilter is the size of the smallest filter, in bytes.
	leastFilter = 8 * bloomBlock
)

// bloomFilter is a Bloom filter of the keys in a part of the index. Most events are the first
// of their task, and with the filter they need no look-up in the table.
type bloomFilter struct {
	words []uint64
	keys  int64 // that were added
	room  int64 // for so many it was made
}

// newBloomFilter returns a filter for so many keys. It takes at most half of what all filters
// may.
func newBloomFilter(keys int64, l *limits) *bloomFilter {
	size := leastFilter
	for size < l.filtersMost/2 && int64(size) < filterWidth*keys {
		size *= 2
	}
	return &bloomFilter{words: make([]uint64, size/8), room: keys}
}

// filterOf returns the filter of about so many keys with these words, nil if there are not as
// many as expected, or a filter cannot have as many.
func filterOf(words []uint64, want int, keys int64) *bloomFilter {
	if len(words) != want || len(words) < bloomBlock || len(words)&(len(words)-1) != 0 {
		return nil
	}
	return &bloomFilter{words: words, keys: keys, room: keys}
}

// size returns the size in bytes, 0 if there is no filter.
func (f *bloomFilter) size() int {
	if f == nil {
		return 0
	}
	return 8 * len(f.words)
}

// crowded reports whether the filter has less than a byte for each key.
func (f *bloomFilter) crowded() bool { return f.keys > int64(f.size()) }

// spare returns how many bytes there are for each key, 0 if there is no filter or it cannot be
// made smaller.
func (f *bloomFilter) spare() float64 {
	if f.size() <= leastFilter {
		return 0
	}
	return float64(f.size()) / float64(max(1, f.keys, f.room))
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

// fold halves the size. The low bits of a key choose its block, so that the blocks which
// become one are as far apart as half of the filter.
func (f *bloomFilter) fold() {
	half := len(f.words) / 2
	smaller := make([]uint64, half) // not a slice of the old one, which would stay in memory
	for i := range smaller {
		smaller[i] = f.words[i] | f.words[half+i]
	}
	f.words = smaller
}
