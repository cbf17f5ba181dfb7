package dispatch

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// longestWait bounds the wait for the end of a hold by hand, in case the clock
// is put forward.
const longestWait = time.Minute

// Pause puts a hold by hand in force, in place of the one before: nothing is
// leased, queued events are released, attempts under way go on. Failures of those
// do not count. If the hold is no longer in force, its time is only excluded from
// the age of events.
//
// It may be called before Start, which is how a hold survives a restart, and at
// any time after.
func (d *Dispatcher) Pause(h inbox.Hold) {
	d.expire() // a hold whose time is over ends by itself and is not replaced
	d.mu.Lock()
	if d.hold.pauseByHand(h, time.Now()) {
		d.handBack(0)
		d.interrupt()
		d.notices = append(d.notices, notice{began: true, hold: d.hold.hand.holding()})
	}
	d.mu.Unlock()
	d.notify()
}

// Resume ends the hold by hand, if there is one, and lets a destination in trouble
// be tried at once.
func (d *Dispatcher) Resume() {
	d.mu.Lock()
	d.resume(time.Now())
	d.mu.Unlock()
	d.notify()
}

// expire ends the hold by hand if its time is over.
func (d *Dispatcher) expire() {
	d.mu.Lock()
	now := time.Now()
	over := d.hold.hand.over(now)
	if over {
		d.resume(now)
	}
	d.mu.Unlock()
	if over {
		d.notify()
	}
}

func (d *Dispatcher) resume(now time.Time) {
	if d.hold.hand.set() {
		was := d.hold.hand.holding()
		d.notices = append(d.notices, notice{hold: was, after: d.hold.endByHand(now)})
	}
	d.hold.renew(d.hold.max, now)
	d.interrupt()
}

// byHand is a hold by hand. The zero value is none.
type byHand struct {
	inbox.Hold
	from time.Time // when the first of the holds began that followed each other without a gap

	// ends is when it ends at the latest, by the monotonic clock; zero if it does not
	// end by itself. Until is by the wall clock: if that is put back, or was ahead
	// when the hold began, ends keeps the hold from lasting longer than intended.
	ends time.Time
}

// latestEnd returns when a hold is over at the latest, by the monotonic clock; zero
// if it has no end.
func latestEnd(h inbox.Hold, now time.Time) time.Time {
	if h.Until.IsZero() {
		return time.Time{}
	}
	return now.Add(min(h.Until.Sub(now), h.Until.Sub(h.Since)))
}

func (b *byHand) set() bool { return !b.Since.IsZero() }

// over reports whether its time is over, so that it has to be ended.
func (b *byHand) over(now time.Time) bool {
	return b.set() && (!b.InForce(now) || !b.ends.IsZero() && !now.Before(b.ends))
}

// left returns how long to wait before asking whether it is over; 0 if it does
// not end by itself.
func (b *byHand) left(now time.Time) time.Duration {
	if b.Until.IsZero() {
		return 0
	}
	return max(1, min(b.Until.Sub(now), b.ends.Sub(now), longestWait))
}

// span returns the part of the hold that has passed.
func (b *byHand) span(now time.Time) span {
	if !b.Until.IsZero() {
		now = earlier(now, earlier(b.Until, b.ends))
	}
	return span{from: b.from, to: now}
}

func (b *byHand) holding() Holding {
	h := Holding{ByHand: true, Since: b.Since, Until: b.Until, Reason: b.Reason}
	if !b.ends.IsZero() && b.Since.After(b.ends) { // the clock was ahead when it began
		h.Until = b.ends.Round(0)
	}
	return h
}

// pauseByHand puts a hold by hand in force and reports whether it did: if the hold
// is over, it only remembers its time.
//
// Attempts under way may fail because of what the hold is for, so it begins a new
// era. The result of a probe under way does not count then either.
func (h *hold) pauseByHand(m inbox.Hold, now time.Time) bool {
	if m.Since.IsZero() {
		return false
	}
	from := earlier(m.Since, now)
	if !m.InForce(now) {
		h.remember(span{from: from, to: earlier(m.End(), now)})
		return false
	}
	if h.hand.set() {
		from = earlier(from, h.hand.from)
	}
	m.Reason = clip.Text(m.Reason, inbox.MaxReason)
	h.hand = byHand{Hold: m, from: from, ends: latestEnd(m, now)}
	h.era++
	h.noProbe()
	return true
}

// endByHand ends the hold by hand and returns how long it lasted.
func (h *hold) endByHand(now time.Time) time.Duration {
	s := h.hand.span(now)
	h.remember(s)
	h.hand = byHand{}
	return max(s.to.Sub(s.from), 0)
}
