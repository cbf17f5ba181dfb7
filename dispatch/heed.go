package dispatch

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// elsewhere begins the reason of a hold that another gateway has told.
const elsewhere = "another gateway: "

// Heed takes in what another gateway with the same inbox has found: the
// destination is in trouble until t.Until, so it is left alone here as well
// until then, but for no longer than Settings.Max. From then on there are probes
// as in any hold of a destination in trouble, and what they bring rules. A zero
// Until ends the hold if it is heeded only, and lets a probe go at once if it is
// the dispatcher's own finding.
//
// If a probe here finds the destination well that others hold, it is their way
// there that is in trouble: they are not heeded again until one of them says that
// it is well, or this dispatcher finds trouble itself.
//
// It may be called before Start and at any time after.
func (d *Dispatcher) Heed(t inbox.Trouble) {
	d.mu.Lock()
	now := time.Now()
	var e effect
	if t.Until.IsZero() {
		e = d.hold.heedWell(now)
	} else {
		e = d.hold.heed(t, now)
	}
	d.react(e)
	if e.began {
		d.handBack(0)
	}
	d.mu.Unlock()
	d.notify()
}

// heed holds the destination, or lets the pause under way last for longer. Only
// once between two probes of ours may that be for as long as they like: gateways
// that go on failing must not keep this one from finding out for itself.
func (h *hold) heed(t inbox.Trouble, now time.Time) effect {
	until := now.Add(min(t.Until.Sub(now), h.max)) // from here on, by the clock that nobody sets
	if !until.After(now) || (!h.held && h.doubts) {
		return effect{}
	}
	began := !h.held
	if began {
		h.begin(now, elsewhere+t.Reason)
		h.heeded, h.until = true, until
	}
	if h.latest.IsZero() {
		h.latest = later(until, now.Add(min(longestPause, h.max)))
	}
	if h.heeded {
		h.reason = cut(elsewhere+t.Reason, maxReason)
	}
	h.until = later(h.until, earlier(until, h.latest))
	return effect{began: began}
}

// heedWell ends a heeded hold. What is under way began before, so it has no say
// any more. One of our own finding is probed at once, unless the destination
// itself asked to wait.
func (h *hold) heedWell(now time.Time) effect {
	h.doubts = false
	switch {
	case h.held && h.heeded:
		h.remember(h.span(now))
		h.over()
		return effect{ended: true, lasted: now.Sub(h.since)}
	case h.held && h.asked == "":
		h.until = earlier(h.until, now)
		return effect{hurry: true}
	}
	return effect{}
}

// found notes what a try of ours has brought while the destination is held: the
// hold is our own finding from then on.
func (h *hold) found(reason string) {
	h.heeded, h.reason = false, cut(reason, maxReason)
}
