package dispatch

import "time"

// Holding says why deliveries are held.
type Holding struct {
	// ByHand tells a hold by hand from one of a destination in trouble.
	ByHand bool

	// FromPeer is true while only another gateway has found the trouble, which
	// PeerTrouble reported. It becomes false once a probe of this dispatcher fails.
	FromPeer bool

	// Since is when it began; of one by hand, what Pause was told.
	Since time.Time

	// Until is when a hold by hand ends; zero if it has no end. Where the
	// destination is in trouble, it is when the next probe may go, whose failure
	// brings another pause. It is in the past while that probe is under way, or as
	// long as there is no event that could be one.
	Until time.Time

	// Reason is why it was begun by hand; of a destination in trouble, what the
	// last try has brought.
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

// notice is what became of a hold that the Observer is to be told.
type notice struct {
	hold   Holding
	began  bool
	longer bool
	after  time.Duration // for an end
}

// notify tells the Observer what has gathered, in order.
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
