package sqlite

import (
	"runtime"
	"time"
)

const (
	// gatherPause is how long a batch of many ops waits for more of them.
	gatherPause = 250 * time.Microsecond

	// manyOps is the number of ops at once from which on others are sure to come soon, and
	// enoughOps one at which a batch is large enough: what a commit costs is shared by all.
	manyOps, enoughOps = 8, 48
)

// gather collects the ops waiting behind the first one. It yields first, so
// that callers who are about to queue can do so: a larger batch costs each of
// them less, and the delay is nothing compared with a commit. If there are many,
// it also waits for those who are on their way; a few callers never wait for others.
func (w *writer) gather(first op) {
	w.batch = append(w.batch[:0], first)
	for gathered := 0; gathered < len(w.batch); {
		gathered = len(w.batch)
		runtime.Gosched()
		w.drain()
	}
	if n := len(w.batch); n >= manyOps && n < enoughOps {
		w.sleep(gatherPause)
		w.drain()
	}
}

// drain takes the waiting ops, up to the size of a batch.
func (w *writer) drain() {
	for len(w.batch) < w.limits.batch {
		select {
		case o := <-w.requests:
			w.batch = append(w.batch, o)
		default:
			return
		}
	}
}
