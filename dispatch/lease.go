package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// How long a loop waits after the inbox failed: doubling from the first.
const (
	firstFault      = 100 * time.Millisecond
	longestFault    = 30 * time.Second
	longestUnsettle = 5 * time.Second
	lastUnsettle    = 250 * time.Millisecond // while the dispatcher stops
	troubleEvery    = 10 * time.Second       // between two calls of Observer.Trouble
)

// leaseLoop fills the queue until Stop, or until the inbox is closed.
func (d *Dispatcher) leaseLoop() {
	var a alarm
	faults := 0
	for {
		ctx, want, ok := d.awaitRoom()
		if !ok {
			return
		}
		leases, err := d.pick(ctx, want)
		recalled := ctx.Err() != nil
		d.recalled()
		switch {
		case len(leases) > 0:
			faults = 0
			d.push(leases)
		case errors.Is(err, inbox.ErrClosed):
			d.trouble(&a, fmt.Errorf("leasing events: %w", err))
			return
		case recalled:
		default:
			if err == nil {
				err = errors.New("the inbox returned no lease and no error")
			}
			d.trouble(&a, fmt.Errorf("leasing events: %w", err))
			faults++
			if !sleep(faultWait(faults, longestFault), d.quit) {
				return
			}
		}
	}
}

// pick leases what is wanted, out of turn if the inbox can do that.
func (d *Dispatcher) pick(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	if d.picker != nil {
		return d.picker.Pick(ctx, w)
	}
	return d.in.Lease(ctx, w.Max)
}

// awaitRoom waits until events may be leased and returns which, with the context
// to do it in. It returns false when the dispatcher stops.
func (d *Dispatcher) awaitRoom() (context.Context, inbox.Want, bool) {
	for {
		d.expire()
		d.mu.Lock()
		if d.stopping {
			d.mu.Unlock()
			return nil, inbox.Want{}, false
		}
		want, wait := d.room(time.Now())
		if want.Max > 0 {
			ctx, cancel := context.WithCancel(d.attempts)
			if wait > 0 {
				ctx, cancel = context.WithTimeout(d.attempts, wait)
			}
			d.recall, d.narrow = cancel, want.Max == want.Newest && !d.hold.held
			d.mu.Unlock()
			return ctx, want, true
		}
		d.mu.Unlock()
		d.awaitChange(wait)
	}
}

// room returns which events may be leased now. If none, Max is 0. It also returns
// after what time that may change by itself; 0 if it will not.
func (d *Dispatcher) room(now time.Time) (want inbox.Want, changes time.Duration) {
	switch {
	case d.hold.hand.set():
		return want, d.hold.hand.left(now)
	case len(d.outcomes)+d.settling >= d.settings.backlog():
		return want, 0
	case d.hold.held:
		return d.probeRoom(now)
	}
	limit := d.hold.load.limit
	idle := max(0, limit-d.underWay)
	ahead := d.tempo.ahead(now, limit)
	ahead = min(d.settings.Concurrency, idle+ahead)
	if d.pace.limited() {
		ahead = min(ahead, d.pace.soon())
	}
	want.Max = max(0, ahead-d.queue.turn.len())
	// The newest are leased together with others, for larger batches, unless what is
	// leased already takes a while.
	if d.picker != nil && (want.Max > 0 || !d.fast(now)) {
		want.Newest = d.queue.newestRoom(limit)
		want.Max += want.Newest
	}
	return want, 0
}

// fast reports whether what is leased ahead waits for less than a tenth of a second,
// by the attempts of the last second.
func (d *Dispatcher) fast(now time.Time) bool {
	return d.lately.before(now) >= 10*d.settings.Concurrency
}

// probeRoom is room while the destination is held: for one probe, if its time has
// come.
func (d *Dispatcher) probeRoom(now time.Time) (want inbox.Want, changes time.Duration) {
	left := max(0, d.hold.until.Sub(now))
	switch {
	case d.queue.len() > 0:
		return want, 0
	case !d.hold.probeFree():
		return d.besideRoom(now)
	case left == 0:
		return inbox.Want{Max: 1}, 0
	case d.picker == nil || d.hold.untried.IsZero():
		return want, left
	case d.hold.newMayProbe(now):
		return d.untriedProbe(), left
	default:
		return want, min(left, d.hold.untried.Sub(now))
	}
}

// besideRoom is room while a probe is under way: for one beside it, if that has lasted
// for long and a worker is free.
func (d *Dispatcher) besideRoom(now time.Time) (want inbox.Want, changes time.Duration) {
	from := d.hold.besideFrom()
	switch {
	case d.picker == nil || from.IsZero() || d.underWay >= d.settings.Concurrency:
		return want, 0
	case now.Before(from):
		return want, from.Sub(now)
	default:
		return d.untriedProbe(), 0
	}
}

// untriedProbe wants a probe that was never tried, mostly the newest event.
func (d *Dispatcher) untriedProbe() inbox.Want {
	return inbox.Want{Max: 1, Newest: min((d.hold.failed+1)%4, 1), Untried: true}
}

// awaitChange waits until the leaser is woken, or for that time if it is not 0.
func (d *Dispatcher) awaitChange(wait time.Duration) {
	if wait == 0 {
		<-d.lease
		return
	}
	sleep(wait, d.lease)
}

// recalled cancels the context of the Lease that has returned.
func (d *Dispatcher) recalled() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recall()
	d.recall, d.narrow = nil, false
}

// push queues leased events, or releases them if they may not be attempted now.
func (d *Dispatcher) push(leases []*inbox.Lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range leases {
		d.queue.push(l)
		d.work.Signal()
	}
	if d.stopping || d.hold.hand.set() {
		d.handBack(0)
	}
}

// faultWait returns how long to wait after that many failures in a row.
func faultWait(faults int, longest time.Duration) time.Duration {
	if faults > 16 { // 2^16 · 100 ms is beyond any longest
		return longest
	}
	return min(firstFault<<(faults-1), longest)
}

// alarm limits how often one loop reports trouble. The zero value is ready.
type alarm struct{ quietUntil time.Time }

func (d *Dispatcher) trouble(a *alarm, err error) {
	now := time.Now()
	if now.Before(a.quietUntil) {
		return
	}
	a.quietUntil = now.Add(troubleEvery)
	d.mu.Lock()
	o := d.settings.Observer
	d.mu.Unlock()
	o.Trouble(err)
}
