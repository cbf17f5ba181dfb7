package sqlite

import (
	"cmp"
	"slices"
	"sync"
)

// entry says that the event seq belongs to a task with this key.
type entry struct {
	key, seq int64
}

// buckets is the number of ranges into which a generation divides the keys.
// Keys are prefixes of hashes, so the ranges fill evenly.
const buckets = 4096

// position is a position in a generation: a range and the number of its entries
// already done. One range may have very many entries, all of one task.
type position struct {
	bucket, done int
}

func (p position) atEnd() bool { return p.bucket == buckets }

// generation is a set of entries in ranges of ascending keys.
type generation struct {
	ranges  [buckets][]entry
	len     int
	lastSeq int64
}

// taskIndex has the newest entries of the index from tasks to events, those not
// yet in a table, see partsSchema. Writing each entry at once would dirty a page
// per entry. Instead entries are collected in a generation. When it is full it
// is frozen and written in the order of the keys, so that each page is dirtied
// once.
//
// The index can be rebuilt from the events, so it need not be durable. Its
// methods may be called concurrently, but only the writer may change it.
type taskIndex struct {
	mu     sync.RWMutex
	limit  int // entries of a generation
	active *generation
	frozen *generation // or nil
	next   position    // in frozen: the next to be written
}

func newTaskIndex(limit int) *taskIndex {
	return &taskIndex{limit: limit, active: new(generation)}
}

// isFull reports whether more entries wait than may while the table cannot be written.
func (x *taskIndex) isFull() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.active.len > maxGathered*x.limit
}

// bucket returns the range of a key. It ascends with the key as a signed
// number.
func bucket(key int64) int {
	const bits = 12
	return int(uint64(key^-1<<63) >> (64 - bits))
}

// add adds entries. seq must ascend from call to call.
func (x *taskIndex) add(entries ...entry) {
	if len(entries) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range entries {
		r := &x.active.ranges[bucket(e.key)]
		*r = append(*r, e)
	}
	x.active.len += len(entries)
	x.active.lastSeq = entries[len(entries)-1].seq
	x.freeze()
}

// lookup appends the events of the key, oldest first.
func (x *taskIndex) lookup(key int64, seqs []int64) []int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	b := bucket(key)
	if x.frozen != nil {
		seqs = appendKey(seqs, x.frozen.ranges[b], key)
	}
	return appendKey(seqs, x.active.ranges[b], key)
}

// between returns the events of the keys from first to last.
func (x *taskIndex) between(first, last int64) (seqs []int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, g := range []*generation{x.frozen, x.active} {
		if g == nil {
			continue
		}
		for b := bucket(first); b <= bucket(last); b++ {
			for _, e := range g.ranges[b] {
				if first <= e.key && e.key <= last {
					seqs = append(seqs, e.seq)
				}
			}
		}
	}
	return seqs
}

func appendKey(seqs []int64, entries []entry, key int64) []int64 {
	for _, e := range entries {
		if e.key == key {
			seqs = append(seqs, e.seq)
		}
	}
	return seqs
}

// numbers returns the key and the number of each entry, in the order of the events.
func (x *taskIndex) numbers() (numbers []uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var entries []entry
	for _, g := range []*generation{x.frozen, x.active} {
		if g == nil {
			continue
		}
		for _, r := range g.ranges {
			entries = append(entries, r...)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	for _, e := range entries {
		numbers = append(numbers, uint64(e.key), uint64(e.seq)) //nolint:gosec // the same bits
	}
	return numbers
}

// pending reports whether a frozen generation is to be written, and the number
// of entries in the active one.
func (x *taskIndex) pending() (frozen bool, gathered int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.frozen != nil, x.active.len
}

// step returns up to max of the next frozen entries in the order of their keys,
// whether some were written before, and the position after them.
func (x *taskIndex) step(max int) (entries []entry, begun bool, next position) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.frozen == nil {
		return nil, false, position{}
	}
	for next = x.next; !next.atEnd() && len(entries) < max; {
		left := x.frozen.ranges[next.bucket][next.done:]
		n := min(len(left), max-len(entries))
		entries = append(entries, left[:n]...)
		if next.done += n; n == len(left) {
			next = position{bucket: next.bucket + 1}
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.seq, b.seq))
	})
	return entries, x.next != position{}, next
}

// frozenLast returns the last event of the frozen generation.
func (x *taskIndex) frozenLast() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.frozen.lastSeq
}

// markWritten records that the entries of a step are in the table.
func (x *taskIndex) markWritten(next position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next = next; !next.atEnd() {
		return
	}
	x.frozen = nil
	x.freeze()
}

// freeze starts a new generation if the active one is full and none is frozen.
func (x *taskIndex) freeze() {
	if x.frozen == nil && x.active.len >= x.limit {
		x.frozen, x.active, x.next = x.active, new(generation), position{}
	}
}
