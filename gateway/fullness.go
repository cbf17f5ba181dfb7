package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// fullnessFor is how long the size of the inbox is taken to be as it was, but for the
	// callbacks that were stored since.
	fullnessFor = 500 * time.Millisecond

	// fullAt is the percentage of the inbox's size that callbacks which wait to be confirmed
	// may fill: what becomes of them needs room before they are removed.
	fullAt = 95

	// unaskedShare is the part of the room that is filled at most before the inbox is asked
	// again: one in so many, because others may fill it at the same time.
	unaskedShare = 8

	// keptOverhead and keptPage are about what a stored callback takes at most beside its
	// body: its columns and index entries, and the rest of a page. Of a small one the latter
	// is at most as much as its body.
	keptOverhead = 512
	keptPage     = 4096
)

// fullness is whether the inbox has room for callbacks that wait to be confirmed.
type fullness struct {
	mu    sync.Mutex
	stats inbox.Stats // as the inbox has answered
	at    time.Time
	since load // what was let in since then, or was under way then
	fresh load // of that, what was let in since then

	underWay load
	ended    bool // something that was under way has ended since
}

// load is so many callbacks, and about what they take in an inbox.
type load struct{ callbacks, bytes int64 }

func (l *load) add(n, bytes int64) {
	l.callbacks += n
	l.bytes += bytes
}

// roomToConfirm returns inbox.ErrFull if most of the inbox is filled with callbacks that
// wait to be confirmed. Of others it makes room itself. Otherwise done must be called when
// the callback was stored, or could not be.
func (g *Gateway) roomToConfirm(ctx context.Context, kept *inbox.Event) (done func(), err error) {
	size := sizeOfKept(kept)
	f := &g.fullness
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mayHaveChanged(size) {
		stats, err := g.inbox.Stats(ctx)
		if err != nil {
			return nil, err
		}
		f.stats, f.at, f.since, f.fresh, f.ended = stats, time.Now(), f.underWay, load{}, false
	}
	if f.full(size) {
		return nil, fmt.Errorf("%w: callbacks that wait to be confirmed by Fotor may fill %d %% of it, and have done so", inbox.ErrFull, fullAt)
	}
	for _, l := range []*load{&f.since, &f.fresh, &f.underWay} {
		l.add(1, size)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.underWay.add(-1, -size)
		f.ended = true
	}, nil
}

func sizeOfKept(kept *inbox.Event) int64 {
	n := int64(len(kept.Body))
	return n + min(n, keptPage) + keptOverhead
}

// mayHaveChanged reports whether to ask the inbox again before one more is let in. While it
// is far from full, that is so twice a second.
func (f *fullness) mayHaveChanged(size int64) bool {
	if age := time.Since(f.at); age >= fullnessFor || age < 0 {
		return true
	}
	if f.stats.MaxBytes <= 0 || f.fresh.callbacks == 0 && !f.ended {
		return false
	}
	return f.full(size) || f.fresh.bytes+size > (f.limit(size)-f.stats.Bytes)/unaskedShare
}

// limit returns up to how many bytes the inbox may be filled with one more callback. The
// event of that needs as much room again.
func (f *fullness) limit(size int64) int64 {
	return min(f.stats.MaxBytes/100*fullAt, f.stats.MaxBytes-size)
}

// full reports whether one more callback is too much.
func (f *fullness) full(size int64) bool {
	if f.stats.MaxBytes <= 0 || f.stats.Bytes+f.since.bytes+size <= f.limit(size) {
		return false
	}
	waiting, pending := waitingIn(&f.stats), f.stats.Events[inbox.Pending]
	return waiting+f.since.callbacks > (pending+f.since.callbacks)/2
}
