package sqlite

import (
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// heldLease is a leased event, or one about to be leased, with what is needed
// to settle it.
type heldLease struct {
	lease    *inbox.Lease
	key      int64
	attempts attempts // without the one under way
	state    state
	fresh    bool // it has no row in delivery yet
	whole    bool // nothing of its event is left to be read
}

func (h *heldLease) seq() int64 { return h.lease.Ref }

// leases are the leases of this inbox, in memory only: only one process uses
// the file, so that its leases end with it.
//
// The leaser reads the file while the writer may be changing it. Therefore the
// writer revokes an event before it changes it, which fails if the event is
// leased, and an event that changed during a scan is not leased by that scan.
type leases struct {
	mu       sync.Mutex
	held     map[int64]*heldLease
	revoked  map[int64]struct{} // by the transaction under way
	changed  map[int64]struct{} // committed since the scan began
	left     map[int64]struct{} // of them those that are not fresh any more
	scanning bool
	ahead    ahead
}

func newLeases(cursor int64) *leases {
	return &leases{
		held:    make(map[int64]*heldLease),
		revoked: make(map[int64]struct{}),
		changed: make(map[int64]struct{}),
		left:    make(map[int64]struct{}),
		ahead:   ahead{end: cursor},
	}
}

// revoke keeps an event from being leased until the transaction ends. It
// reports false if the event is leased.
func (l *leases) revoke(seq int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.held[seq]; ok {
		return false
	}
	l.revoked[seq] = struct{}{}
	return true
}

// get returns the lease, or nil if it is not held.
func (l *leases) get(lease *inbox.Lease) *heldLease {
	if lease == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.held[lease.Ref]; h != nil && h.lease == lease {
		return h
	}
	return nil
}

// endBatch ends the leases settled by the transaction, and allows the events
// that it revoked to be leased again. It reports whether there were any.
func (l *leases) endBatch(settled map[int64]struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	any := len(l.revoked) > 0 || len(settled) > 0
	for seq := range settled {
		delete(l.held, seq)
	}
	if l.scanning {
		for seq := range settled {
			l.changed[seq] = struct{}{}
		}
		for seq := range l.revoked {
			l.changed[seq] = struct{}{}
		}
	}
	clear(l.revoked)
	return any
}

// low returns a number below which no event is fresh once those settled are
// not.
func (l *leases) low(settled map[int64]struct{}) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	low := l.ahead.low()
	for seq, h := range l.held {
		if _, ok := settled[seq]; h.fresh && !ok {
			low = min(low, seq)
		}
	}
	return low
}

// beginScan begins a scan. It returns where fresh events begin.
func (l *leases) beginScan() (cursor int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scanning = true
	return l.ahead.low()
}

// count returns the number of leases.
func (l *leases) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// has reports whether the event is leased.
func (l *leases) has(seq int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.held[seq]
	return ok
}

// unleased returns the events among seqs that are not leased.
func (l *leases) unleased(seqs []int64) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := seqs[:0]
	for _, seq := range seqs {
		if _, ok := l.held[seq]; !ok {
			kept = append(kept, seq)
		}
	}
	return kept
}

// endScan leases the events found, unless they changed during the scan. All fresh events
// before end are now known: those that have to be looked at again are kept.
func (l *leases) endScan(found []*heldLease, end int64) (granted []*inbox.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead.end = max(l.ahead.end, end)
	for _, h := range found {
		seq := h.seq()
		if _, ok := l.held[seq]; ok {
			continue
		}
		if l.changing(seq) {
			if h.fresh && seq < l.ahead.end {
				l.keepOne(h)
			}
			continue
		}
		l.held[seq] = h
		l.ahead.remove(seq)
		granted = append(granted, h.lease)
	}
	l.scanning = false
	clear(l.changed)
	clear(l.left)
	return granted
}

func (l *leases) changing(seq int64) bool {
	if _, ok := l.revoked[seq]; ok {
		return true
	}
	_, ok := l.changed[seq]
	return ok
}
