package dispatch

import "time"

// Holding is a reason why deliveries are held.
type Holding struct {
	// ByHand is true for a hold by hand, false for a destination in trouble.
	ByHand bool

	// FromPeer is true while only another gateway has found the trouble, which
	// PeerTrouble reported. It becomes false once a probe of this dispatcher fails.
	FromPeer bool

	// Since is when it began; for one by hand, the time passed to Pause.
	Since time.Time

	// Until is when a hold by hand ends; zero if it has no end. For a destination in
	// trouble it is when the next probe may be made, whose failure begins another
	// pause. It is in the past while that probe is under way, or while no event is
	// due that could be one.
	Until time.Time

	// Reason is what the operator gave; for a destination in trouble, why the last
	// attempt failed.
	Reason string
}

// Holds returns why deliveries are held at the moment: at most one by hand and
// one for a destination in trouble; the one by hand first.
func (d *Dispatcher) Holds() []Holding {
	d.mu.Lock()
	defer d.mu.Unlock()
	var holds []Holding
	if d.hold.hand.InForce(time.Now()) {
		holds = append(holds, d.hold.hand.holding())
	}
	if d.hold.held {
		holds = append(holds, d.hold.holding())
	}
	return holds
}

// notice is a change of a hold that the Observer has yet to see.
type notice struct {
	hold   Holding
	began  bool
	longer bool
	after  time.Duration // how long it lasted, if it ended
}

// notify passes the gathered notices to the Observer, in order.
func (d *Dispatcher) notify() {
	d.noticing.Lock()
	defer d.noticing.Unlock()
	d.mu.Lock()
	notices, o := d.notices, d.settings.Observer
	d.notices = nil
	d.mu.Unlock()
	for _, n := range notices {
		switch {
		case n.began:
			o.Held(n.hold)
		case n.longer:
			o.Prolonged(n.hold)
		default:
			o.Resumed(n.hold, n.after)
		}
	}
}
