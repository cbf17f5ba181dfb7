package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// pressure says how much the destination gets. While deliveries are held that is
// nothing, or the single attempts that find out whether it is well again.
func (l *lane) pressure() control.Pressure {
	load := l.dispatcher.Load()
	p := control.Pressure{
		Limit: load.Limit, Concurrency: load.Concurrency,
		Attempts: load.Attempts, Delivered: load.Delivered, Failed: load.Failed,
	}
	if u := load.Unsettled; !u.Since.IsZero() {
		p.Unsettled = &control.Unsettled{Outcomes: u.Outcomes, Since: u.Since.UTC(), Reason: logfield.Cut(u.Err.Error())}
	}
	for _, h := range l.dispatcher.Holds() {
		if p.Limit = 1; h.ByHand {
			p.Limit = 0
			break
		}
	}
	return p
}

// lastDelivery is when an event was delivered last, nil if none was.
func (l *lane) lastDelivery() *time.Time {
	at := l.dispatcher.Load().LastDelivery
	if at.IsZero() {
		return nil
	}
	return new(at.UTC())
}

// underMore reports whether a destination is under more pressure than another: whether it
// gets a smaller share of its concurrency. That outcomes cannot be stored is worse.
func underMore(a, b control.Pressure) bool {
	if stuck := a.Unsettled != nil; stuck != (b.Unsettled != nil) {
		return stuck
	}
	return a.Limit*b.Concurrency < b.Limit*a.Concurrency
}

const (
	// pressureEvery is how often, at most, pressure is looked at for the log.
	pressureEvery = time.Second

	// pressureAgain is the least time between two lines that pressure began.
	pressureAgain = time.Minute
)

// pressureWatch is an Observer that logs when a destination comes under pressure,
// and when it takes all attempts again. It looks a moment after an attempt: while
// there is nothing to do, it does nothing.
type pressureWatch struct {
	dispatch.Observer
	watcher *watcher
}

// Attempted implements dispatch.Observer.
func (p pressureWatch) Attempted(l *inbox.Lease, r dispatch.Result, v inbox.Verdict, due time.Time, took time.Duration) {
	p.Observer.Attempted(l, r, v, due, took)
	p.watcher.lookSoon()
}

// watcher watches the pressure on one lane's destination.
type watcher struct {
	lane      *lane
	looksSoon atomic.Bool

	mu       sync.Mutex
	episodes episodes
}

func (w *watcher) lookSoon() {
	if w.looksSoon.CompareAndSwap(false, true) {
		time.AfterFunc(pressureEvery, w.look)
	}
}

func (w *watcher) look() {
	w.looksSoon.Store(false)
	logger := w.lane.logger()
	if logger == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l, held := w.lane.dispatcher.Load(), inTrouble(w.lane.dispatcher.Holds())
	fields := []zap.Field{zap.Int("limit", l.Limit), zap.Int("attempts", l.Attempts), zap.Int("failed", l.Failed)}
	switch began, ended := w.episodes.look(l, held, time.Now()); {
	case began:
		logger.Info("destination is under pressure; fewer attempts at once", fields...)
	case ended:
		logger.Info("destination takes all attempts again", fields...)
	}
}

func inTrouble(holds []dispatch.Holding) bool {
	return len(holds) > 0 && !holds[len(holds)-1].ByHand
}

// episodes tells one time of pressure from the next. It is a plain state machine:
// the time is passed, and calls must not be concurrent.
type episodes struct {
	last   time.Time // when the beginning of one was shown
	shown  bool      // its end was not shown yet
	rising bool      // since the last hold the limit has only risen, not yet to its most
	limit  int       // as it was seen last; 0 after a hold
}

// look is called with the load and whether the destination is held because it is
// in trouble. It reports whether a time of pressure began or ended that is to be
// shown. A hold has lines of its own, and after it the limit has to rise again:
// that is no pressure.
func (e *episodes) look(l dispatch.Load, held bool, now time.Time) (began, ended bool) {
	if held {
		e.rising, e.limit = true, 0 // it begins anew, low
		return false, false
	}
	e.rising = e.rising && l.Limit >= e.limit && l.Limit < l.Concurrency
	e.limit = l.Limit
	switch {
	case e.shown:
		ended = l.Limit == l.Concurrency
		e.shown = !ended
	case e.rising || 2*l.Limit >= l.Concurrency || l.Failed == 0:
	case e.last.IsZero() || now.Sub(e.last) >= pressureAgain:
		began = true
		e.shown, e.last = true, now
	}
	return began, ended
}

// Interface guard
var _ dispatch.Observer = pressureWatch{}
