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
		ctx, room, ok := d.awaitRoom()
		if !ok {
			return
		}
		leases, err := d.in.Lease(ctx, room)
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

// awaitRoom waits until events may be leased and returns how many, with the context
// to lease them in. It returns false when the dispatcher stops.
func (d *Dispatcher) awaitRoom() (context.Context, int, bool) {
	for {
		d.expire()
		d.mu.Lock()
		if d.stopping {
			d.mu.Unlock()
			return nil, 0, false
		}
		room, wait := d.room(time.Now())
		if room > 0 {
			ctx, cancel := context.WithCancel(d.attempts)
			d.recall = cancel
			d.mu.Unlock()
			return ctx, room, true
		}
		d.mu.Unlock()
		d.awaitChange(wait)
	}
}

// room returns how many events may be leased now. If none may, it returns after what
// time that may change by itself; 0 if it does not.
func (d *Dispatcher) room(now time.Time) (int, time.Duration) {
	queued, most := d.queue.len(), d.settings.Concurrency
	switch {
	case d.hold.hand.set():
		return 0, d.hold.hand.left(now)
	case len(d.outcomes)+d.settling >= d.settings.backlog():
		return 0, 0
	case d.hold.held && (queued > 0 || !d.hold.probeFree()):
		return 0, 0
	case d.hold.held && now.Before(d.hold.until):
		return 0, d.hold.until.Sub(now)
	case d.hold.held:
		return 1, 0
	default:
		return most - queued, 0
	}
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
	d.recall = nil
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
