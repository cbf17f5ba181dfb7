package dispatch

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// elsewhere begins the reason of a hold that another gateway has reported.
const elsewhere = "another gateway: "

// PeerTrouble reports what another gateway with the same inbox has found: the
// destination is in trouble until t.Until. It is left alone here as well until
// then, but for no longer than Settings.Max, or two seconds. After that it is probed as in any
// hold of a destination in trouble, and the probes' results decide. A zero Until
// means that it is well again: that ends a hold which came from a peer, and lets
// a probe go at once if this dispatcher has found trouble itself.
//
// If a probe here succeeds although others report trouble, the fault is on their
// way to the destination: their reports are ignored until one of them says that it
// is well, or this dispatcher finds trouble itself.
//
// It may be called before Start and at any time after.
func (d *Dispatcher) PeerTrouble(t inbox.Trouble) {
	d.mu.Lock()
	now := time.Now()
	var e effect
	if t.Until.IsZero() {
		e = d.hold.peerWell(now)
	} else {
		e = d.hold.peerTrouble(t, now)
	}
	d.react(e)
	if e.began {
		d.handBack(0)
	}
	d.mu.Unlock()
	d.notify()
}

// peerTrouble holds the destination, or prolongs the pause under way. Between two
// probes of ours only the first report may prolong it beyond a minute: peers that
// keep failing must not stop this gateway from finding out for itself.
func (h *hold) peerTrouble(t inbox.Trouble, now time.Time) effect {
	until := now.Add(min(t.Until.Sub(now), h.longest())) // from here on, by the monotonic clock
	if !until.After(now) || (!h.held && h.doubtsPeers) {
		return effect{}
	}
	began := !h.held
	if began {
		h.begin(now, elsewhere+t.Reason)
		h.fromPeer, h.until = true, until
	}
	if h.peerLimit.IsZero() {
		h.peerLimit = later(until, now.Add(min(longestPause, h.longest())))
	}
	if h.fromPeer {
		h.reason = clip.Text(elsewhere+t.Reason, maxReason)
	}
	h.until = later(h.until, earlier(until, h.peerLimit))
	return effect{began: began}
}

// peerWell ends a hold that came from a peer. The attempts under way began before
// that, so their results no longer count. A hold that we found ourselves is probed
// at once, unless the destination itself asked to wait.
func (h *hold) peerWell(now time.Time) effect {
	h.doubtsPeers = false
	switch {
	case h.held && h.fromPeer:
		h.remember(h.span(now))
		h.lift()
		return effect{ended: true, lasted: now.Sub(h.since)}
	case h.held && h.askedBy == "":
		h.until = earlier(h.until, now)
		return effect{hurry: true}
	}
	return effect{}
}

// found records the result of our own attempt while the destination is held, which
// makes the hold our own finding.
func (h *hold) found(reason string) {
	h.fromPeer, h.reason = false, clip.Text(reason, maxReason)
}
