package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// job is one attempt to be made.
type job struct {
	lease    *inbox.Lease
	settings *Settings
	ticket   ticket
	began    time.Time
}

func (d *Dispatcher) workLoop() {
	var done inbox.Outcome
	for {
		j, ok := d.next(done)
		if !ok {
			return
		}
		done = d.deliver(&j)
	}
}

// next passes on the outcome of the worker's last job, if it had one, and waits for
// another job. It returns false when the worker has to end.
func (d *Dispatcher) next(done inbox.Outcome) (job, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if done.Lease != nil {
		d.settle(done)
		d.ended(done.Lease)
	}
	for {
		if d.stopping || d.workers > d.settings.Concurrency {
			d.workers--
			d.work.Signal() // the call that woke this worker may have been for another
			return job{}, false
		}
		if d.queue.len() == 0 || !d.hold.held && d.underWay >= d.hold.load.limit || !d.inPace() {
			d.work.Wait()
			continue
		}
		if j, ok := d.begin(d.queue.pop(d.hold.load.limit)); ok {
			return j, true
		}
	}
}

// begin makes a job of the lease, or releases it if deliveries are held.
func (d *Dispatcher) begin(l *inbox.Lease) (job, bool) {
	now := time.Now()
	d.refill(now)
	t, ok := d.hold.enter(l.Untried, now)
	t.first = l.Try() == 1
	var due time.Time
	switch class := classOf(l.Event); {
	case t.probe:
		d.classes.probe(class, now)
	case ok:
		due, ok = d.classes.begin(class, d.hold.load.limit, now)
	}
	if !ok {
		d.settle(inbox.Outcome{Lease: l, Verdict: inbox.Release, Due: due})
		if l.Newest {
			d.queue.running--
		}
		return job{}, false
	}
	d.underWay++
	if d.pace.take(now); d.pace.limited() && d.queue.len() > 0 && d.inPace() {
		d.work.Signal()
	}
	return job{lease: l, settings: d.settings, ticket: t, began: now}, true
}

// ended notes that the attempt at a lease is over.
func (d *Dispatcher) ended(l *inbox.Lease) {
	if l.Newest {
		d.queue.running--
	}
	now := time.Now()
	d.tempo.ended(now)
	d.refill(now)
	if l.Newest && !d.fast(now) {
		wake(d.lease)
	}
	if d.queue.len() > 1 && d.hold.load.limit < d.settings.Concurrency {
		d.work.Signal() // the limit may have risen
	}
}

// refill wakes the leaser once the queue is short, not sooner, for fewer and larger
// batches.
func (d *Dispatcher) refill(now time.Time) {
	switch {
	case d.queue.turn.len() > d.tempo.ahead(now, d.settings.Concurrency)/2:
	case d.narrow:
		d.interrupt() // it would not return for what is due in turn
	default:
		wake(d.lease)
	}
}

// deliver makes the attempt and decides what becomes of the event.
func (d *Dispatcher) deliver(j *job) inbox.Outcome {
	r := d.attempt(j)
	now := time.Now()
	took := now.Sub(j.began)
	verdict, due := d.judge(j, &r, now)
	j.settings.Observer.Attempted(j.lease, r, verdict, due, took)
	o := inbox.Outcome{Lease: j.lease, Verdict: verdict, Due: due}
	if verdict != inbox.Release {
		o.Attempt = inbox.Attempt{At: j.began, Duration: took, Status: r.Status, Reason: r.Reason}
	}
	return o
}

// attempt calls the Attempt and completes its result.
func (d *Dispatcher) attempt(j *job) (r Result) {
	ctx, cancel := context.WithTimeout(d.attempts, j.settings.Timeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			r = Result{Unreachable: true, Reason: clip.Text(fmt.Sprintf("panic in the attempt: %v", v), maxReason)}
		}
		r.complete(d.attempts.Err() != nil)
	}()
	return j.settings.Attempt(ctx, j.lease)
}

// complete makes a result consistent. If the dispatcher was stopped, a failure counts
// as cancelled: it says nothing about the upstream.
func (r *Result) complete(stopped bool) {
	r.RetryAfter = max(r.RetryAfter, 0)
	switch {
	case r.Cancelled && !stopped:
		r.Cancelled, r.Unreachable = false, true
	case stopped:
		k := r.kind()
		r.Cancelled = k != taken && k != gone
	}
	if r.kind() == taken {
		r.Reason = ""
	} else {
		r.Reason = clip.Text(r.failure(), inbox.MaxReason)
	}
}

// judge decides the verdict, and notifies the Observer if a hold has changed.
func (d *Dispatcher) judge(j *job, r *Result, now time.Time) (inbox.Verdict, time.Time) {
	d.mu.Lock()
	d.underWay--
	if k := r.kind(); k != cancelled {
		d.lately.add(k, now)
	}
	class := classOf(j.lease.Event)
	j.ticket.alone = r.silent() && d.classes.hung(class, j.began, now)
	d.classes.end(class, r, now)
	e := d.hold.leave(j.ticket, j.lease.Event.TaskID, r, now)
	d.react(e)
	if j.ticket.probe {
		d.interrupt() // it may be leasing one beside this
	}
	verdict, due := d.verdict(j, r, e, now)
	d.mu.Unlock()
	if e.began || e.ended || e.longer {
		d.notify()
	}
	return verdict, due
}

func (d *Dispatcher) verdict(j *job, r *Result, e effect, now time.Time) (inbox.Verdict, time.Time) {
	k := r.kind()
	if k == taken {
		return inbox.Deliver, time.Time{}
	}
	// A destination that has not answered since the start may have been down for
	// longer than GiveUp: events must not be given up for that.
	mayGiveUp := !e.release && (k != trouble || d.hold.healthy)
	age := d.hold.age(j.lease.Since(), now)
	verdict, wait := j.settings.decide(j.lease.Try(), r, age, mayGiveUp, d.hold.random())
	switch {
	case e.atOnce:
		return inbox.Release, time.Time{}
	case e.release && e.due.IsZero():
		return inbox.Release, now.Add(wait)
	case e.release:
		return inbox.Release, e.due
	case verdict == inbox.Retry:
		return verdict, now.Add(wait)
	default:
		return verdict, time.Time{}
	}
}

// react acts on a change of the hold.
func (d *Dispatcher) react(e effect) {
	now := time.Now()
	switch {
	case e.began: // the workers release what is queued
		d.interrupt()
		if d.damper.begin(now) {
			d.notices = append(d.notices, notice{began: true, hold: d.hold.holding()})
		}
	case e.ended:
		d.interrupt()
		if d.damper.end() {
			d.notices = append(d.notices, notice{hold: d.hold.holding(), after: e.lasted})
		}
	case e.longer:
		if began, longer := d.damper.goesOn(now); began || longer {
			d.notices = append(d.notices, notice{began: began, longer: longer, hold: d.hold.holding()})
		}
	case e.hurry:
		wake(d.lease)
	}
}
