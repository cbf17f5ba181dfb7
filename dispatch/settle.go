package dispatch

import (
	"errors"
	"fmt"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// settleLoop settles outcomes, all that are ready at a time, until no more come.
func (d *Dispatcher) settleLoop() {
	defer close(d.settled)
	var a alarm
	var batch []inbox.Outcome
	for {
		last := d.awaitOutcomes()
		batch = d.gather(batch)
		switch {
		case len(batch) > 0:
			d.settleBatch(&a, batch)
			d.settledBatch()
		case last:
			return
		}
	}
}

// awaitOutcomes waits until outcomes may be ready. It returns true if these are the
// last.
func (d *Dispatcher) awaitOutcomes() bool {
	select {
	case <-d.ready:
		return false
	case <-d.drained:
		return true
	}
}

// gather takes the outcomes that are ready. It reuses the slice of the batch before
// for the next ones.
func (d *Dispatcher) gather(before []inbox.Outcome) []inbox.Outcome {
	clear(before)
	d.mu.Lock()
	defer d.mu.Unlock()
	batch := d.outcomes
	d.outcomes = before[:0]
	d.settling = len(batch)
	return batch
}

// settledBatch lets leasing go on if that waits for fewer unsettled outcomes.
func (d *Dispatcher) settledBatch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.outcomes)+d.settling >= d.settings.backlog() {
		wake(d.lease)
	}
	d.settling = 0
}

// settleBatch settles the outcomes, with as many tries as it takes; the leases stay
// valid meanwhile. It gives up only when they can no longer be settled.
func (d *Dispatcher) settleBatch(a *alarm, batch []inbox.Outcome) {
	for faults := 1; ; faults++ {
		err := d.in.Settle(d.settles, batch...)
		d.noteSettle(err)
		if err == nil {
			return
		}
		err = fmt.Errorf("settling %d outcomes: %w", len(batch), err)
		d.trouble(a, err)
		switch {
		case errors.Is(err, inbox.ErrState):
			return // a lease was not held; the others are settled
		case errors.Is(err, inbox.ErrClosed):
			d.lost.add(len(batch), err)
			return
		case d.settles.Err() != nil:
			if !errors.Is(err, d.settles.Err()) { // the inbox failed before time ran out
				err = fmt.Errorf("%w, and there is no time to try again: %w", err, d.settles.Err())
			}
			d.lost.add(len(batch), err)
			return
		}
		d.awaitRepair(faults)
	}
}

// Unsettled says that what became of attempts cannot be stored. Their events are not sent again
// meanwhile, and once many of them wait nothing more is attempted.
type Unsettled struct {
	Outcomes int       // that wait
	Since    time.Time // of the first failure
	Err      error     // of the last one
}

// noteSettle notes what came of a try to settle outcomes.
func (d *Dispatcher) noteSettle(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, inbox.ErrState): // then only a lease was not held
		d.unsettled = Unsettled{}
	case d.unsettled.Since.IsZero():
		d.unsettled = Unsettled{Since: time.Now(), Err: err}
	default:
		d.unsettled.Err = err
	}
}

// awaitRepair waits before a failed Settle is tried again: longer each time, but only
// shortly once the dispatcher is stopping.
func (d *Dispatcher) awaitRepair(faults int) {
	wait := faultWait(faults, longestUnsettle)
	select {
	case <-d.drained:
		sleep(min(wait, lastUnsettle), d.settles.Done())
	default:
		sleep(wait, d.drained)
	}
}

// lost counts the outcomes that could not be settled. Only the settler adds.
type lost struct {
	outcomes int
	last     error
}

func (l *lost) add(n int, err error) {
	l.outcomes += n
	l.last = err
}

// err returns nil if nothing was lost.
func (l *lost) err() error {
	if l.outcomes == 0 {
		return nil
	}
	return fmt.Errorf("dispatch: %d outcomes were not settled, their events will be delivered again: %w", l.outcomes, l.last)
}

// sleep waits for that time and returns true, or returns false as soon as ch is ready.
func sleep(wait time.Duration, ch <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ch:
		return false
	}
}
