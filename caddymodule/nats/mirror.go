package nats

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// mirror has what is needed to choose tracked tasks, about 150 bytes for each. To go
// through a hundred thousand of them takes less than a request to the server.
type mirror struct {
	mu      sync.Mutex
	entries []mirrored       // in no order
	places  map[taskHash]int // in entries

	// removed has the tasks that this inbox has removed, with the sequences of their
	// empty records, until these are read: an older record may be under way.
	removed map[taskHash]uint64

	made  time.Time // when the stream was made
	epoch uint32    // of the read under way
}

// mirrored is a tracked task.
type mirrored struct {
	hash  taskHash
	seq   uint64 // of its last record
	first uint64 // of its first one
	since int64
	due   int64
	fresh bool // it was never asked for
	epoch uint32
	until time.Time // when its lease ends, with a monotonic time
}

func (e *mirrored) leased(now time.Time) bool { return now.Before(e.until) }

// begin begins to read all records. It reports whether the stream is another one than
// before; then nothing that is known counts any more.
func (m *mirror) begin(made time.Time) (another bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	another = !made.Equal(m.made)
	if another {
		m.made, m.entries = made, nil
		m.places, m.removed = map[taskHash]int{}, map[taskHash]uint64{}
	}
	m.epoch++
	return another
}

// madeAt returns when the stream was made that is mirrored.
func (m *mirror) madeAt() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made
}

// sweep forgets the tasks of which no record was read since begin.
func (m *mirror) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.entries) - 1; i >= 0; i-- {
		if e := &m.entries[i]; e.epoch != m.epoch {
			m.remove(e.hash)
		}
	}
}

// apply notes a record, nil if the task is tracked no more. own says that this inbox has
// just written it.
func (m *mirror) apply(h taskHash, seq uint64, r *taskRecord, own bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.places == nil {
		return // nothing was read yet
	}
	if gone, ok := m.removed[h]; ok && !own {
		if seq >= gone {
			delete(m.removed, h)
		}
		if seq <= gone {
			return
		}
	}
	i, known := m.places[h]
	if known && m.entries[i].seq >= seq {
		m.entries[i].epoch = m.epoch
		return
	}
	if r == nil {
		m.remove(h)
		if own {
			m.removed[h] = seq
		}
		return
	}
	e := mirrored{
		hash: h, seq: seq, first: r.First, since: r.Since, due: r.Due, fresh: r.Asked == 0, epoch: m.epoch,
		until: time.Now().Add(min(inbox.MaxTaskLease, max(0, time.Duration(r.Lease)*time.Microsecond))),
	}
	if known {
		m.entries[i] = e
		return
	}
	m.places[h] = len(m.entries)
	m.entries = append(m.entries, e)
}

func (m *mirror) remove(h taskHash) {
	i, ok := m.places[h]
	if !ok {
		return
	}
	last := len(m.entries) - 1
	m.entries[i] = m.entries[last]
	m.places[m.entries[i].hash] = i
	m.entries = m.entries[:last]
	delete(m.places, h)
}

// get returns a task.
func (m *mirror) get(h taskHash) (e mirrored, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.places[h]
	if ok {
		e = m.entries[i]
	}
	return e, ok
}

func (m *mirror) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// due returns the tasks that are due and not leased, as they are wanted.
func (m *mirror) due(w inbox.TaskWant, now time.Time) []mirrored {
	before := func(e *mirrored) bool { return e.due <= now.UnixMicro() && !e.leased(now) }
	chosen := m.first(w.Newest, func(e *mirrored) bool { return e.fresh && before(e) }, func(a, b *mirrored) int { return -inTurn(a, b) })
	taken := make(map[taskHash]bool, len(chosen))
	for i := range chosen {
		taken[chosen[i].hash] = true
	}
	return append(chosen, m.first(w.Max-len(chosen), func(e *mirrored) bool { return before(e) && !taken[e.hash] }, inTurn)...)
}

func inTurn(a, b *mirrored) int {
	return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.first, b.first))
}

// late returns up to max tasks that are due after a time.
func (m *mirror) late(after int64, max int) []mirrored {
	return m.first(max, func(e *mirrored) bool { return e.due > after }, inTurn)
}

// oldest returns the tasks that were tracked first, and newest those that were last, in
// either case past one that was tracked with that sequence.
func (m *mirror) oldest(past uint64, max int) []mirrored {
	return m.first(max, func(e *mirrored) bool { return e.first > past }, byFirst)
}

func (m *mirror) newest(past uint64, max int) []mirrored {
	return m.first(max, func(e *mirrored) bool { return e.first < past }, func(a, b *mirrored) int { return byFirst(b, a) })
}

func byFirst(a, b *mirrored) int { return cmp.Compare(a.first, b.first) }

// first returns up to max of those that are wanted, in order.
func (m *mirror) first(max int, wanted func(*mirrored) bool, order func(a, b *mirrored) int) []mirrored {
	if max <= 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	byValue := func(a, b mirrored) int { return order(&a, &b) }
	best := make([]mirrored, 0, min(2*max, len(m.entries)))
	full := false
	for i := range m.entries {
		e := &m.entries[i]
		if !wanted(e) || full && order(e, &best[max-1]) >= 0 {
			continue
		}
		if best = append(best, *e); len(best) == 2*max { // only the best half of these can matter
			slices.SortFunc(best, byValue)
			best, full = best[:max], true
		}
	}
	slices.SortFunc(best, byValue)
	return best[:min(max, len(best))]
}

// count returns how many tasks there are, and how many of them are due.
func (m *mirror) count(now time.Time) (all, due int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.entries {
		if m.entries[i].due <= now.UnixMicro() {
			due++
		}
	}
	return int64(len(m.entries)), due
}

// recent has the tasks of some thousand last final events, for some seconds.
type recent struct {
	mu       sync.Mutex
	now, old map[taskHash]struct{}
	since    time.Time
}

const (
	recentFor = 10 * time.Second
	maxRecent = 8192
)

func (r *recent) add(h taskHash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || len(r.now) >= maxRecent || time.Since(r.since) > recentFor {
		r.now, r.old, r.since = map[taskHash]struct{}{}, r.now, time.Now()
	}
	r.now[h] = struct{}{}
}

func (r *recent) has(h taskHash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, now := r.now[h]
	_, old := r.old[h]
	return now || old
}
