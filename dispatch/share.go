package dispatch

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// newestShare is the part of the attempts at once that is for the newest events, so
// that they do not wait for hours behind a backlog: one in so many.
const newestShare = 4

// waiting are the leases that wait for a worker: those that were leased in turn,
// and the newest, out of turn.
type waiting struct {
	turn, newest fifo
	running      int  // attempts at the newest
	last         bool // the last attempt that began was at one of the newest
	paced        bool // attempts are spaced, so the share is counted by those that begin
	others       int  // attempts that have begun since the last at one of the newest
}

func (w *waiting) len() int { return w.turn.len() + w.newest.len() }

func (w *waiting) push(l *inbox.Lease) {
	if l.Newest {
		w.newest.push(l)
	} else {
		w.turn.push(l)
	}
}

// pop removes the lease that is next, with so many attempts at once allowed. There
// must be one.
func (w *waiting) pop(limit int) *inbox.Lease {
	w.last = w.turn.len() == 0 || w.newest.len() > 0 && w.newestMay(limit)
	if !w.last {
		w.others++
		return w.turn.pop()
	}
	w.running++
	w.others = 0
	return w.newest.pop()
}

// newestMay reports whether one of the newest may go before those that have waited
// for longer. With few attempts at once, it is every other one.
func (w *waiting) newestMay(limit int) bool {
	if w.paced {
		return w.others >= newestShare-1
	}
	if limit < newestShare {
		return !w.last
	}
	return w.running < limit/newestShare
}

// newestRoom returns how many of the newest may be leased.
func (w *waiting) newestRoom(limit int) int {
	if w.paced {
		limit = newestShare // one at a time, so that it is one of the newest when it is its turn
	}
	return max(0, max(1, limit/newestShare)-w.running-w.newest.len())
}

// popLast removes the lease that came last. There must be one.
func (w *waiting) popLast() *inbox.Lease {
	if w.turn.len() > 0 {
		return w.turn.popLast()
	}
	return w.newest.popLast()
}

// tempo estimates how many attempts end in a tenth of a second. What is leased
// ahead waits for a worker, and whatever comes meanwhile waits behind it: so no
// more is leased ahead than will begin soon. The zero value is ready.
type tempo struct {
	step         int64 // of a tenth of a second
	last, before int   // attempts that ended in it, and in the one before
}

const tempoStep = 100 * time.Millisecond

// ended counts an attempt.
func (t *tempo) ended(now time.Time) {
	t.turn(now)
	t.last++
}

func (t *tempo) turn(now time.Time) {
	switch step := now.UnixNano() / int64(tempoStep); step - t.step {
	case 0:
	case 1:
		t.step, t.before, t.last = step, t.last, 0
	default:
		t.step, t.before, t.last = step, 0, 0
	}
}

// ahead returns how many leases may wait for a worker, at most so many.
func (t *tempo) ahead(now time.Time, most int) int {
	t.turn(now)
	return min(max(t.last, t.before, 1), most)
}
