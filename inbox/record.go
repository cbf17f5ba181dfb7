package inbox

import "time"

// Record is an event and what became of it.
type Record struct {
	Event *Event

	// Progress is that of all deliveries together, see Summarize. In a list of one
	// destination's events it is that of the delivery there.
	Progress

	// Deliveries are in the order of their destinations' names; empty if the event is
	// Skipped.
	Deliveries []Delivery
}

// Delivery is the way of an event to one destination.
type Delivery struct {
	Destination string
	Progress

	// Log has the attempts that counted, oldest first: all of them, or at least the last
	// hundred. The last one has the number Attempts. Only Get sets it.
	Log []Attempt

	// Replays are those that the attempts in Log followed, oldest first, and the last
	// one. Of several without an attempt in between it is the last. Only Get sets it.
	Replays []Replay
}

// FirstInLog returns the number of the first attempt in Log, from 1.
func (d *Delivery) FirstInLog() int { return max(d.Attempts-len(d.Log), 0) + 1 }

// Replay says that somebody made a delivery pending again, see Store.Replay and
// Store.Move.
type Replay struct {
	// At is when.
	At time.Time

	// After is how many attempts had been made before.
	After int

	// From is the destination that the delivery was moved from, and that the attempts
	// before were made at; empty if it stayed where it was.
	From string
}

// Progress is how far a delivery is.
type Progress struct {
	State State

	// Attempts counts the attempts made, those before a replay too, without those that
	// were released.
	Attempts int

	// Due is when the next attempt may begin. It is zero if the delivery is not
	// pending, is due now, or waits for an earlier event of its task.
	Due time.Time

	// SettledAt is when the delivery left Pending; zero while it is pending.
	SettledAt time.Time

	// Last is the last attempt that counted; its At is zero if there was none.
	Last Attempt
}

// Summarize returns the progress of an event with these deliveries. It is pending while
// any of them is, else dead if any is, else delivered if any is, else superseded. Without
// deliveries it is skipped.
//
// Attempts are those of all deliveries. Due is the earliest time at which a pending one
// may go on, SettledAt the latest end, and Last the attempt that began last.
func Summarize(deliveries []Delivery) (p Progress) {
	if len(deliveries) == 0 {
		return Progress{State: Skipped}
	}
	p.State = Superseded
	dueNow := false
	for _, d := range deliveries {
		if rank(d.State) > rank(p.State) {
			p.State = d.State
		}
		p.Attempts += d.Attempts
		if d.SettledAt.After(p.SettledAt) {
			p.SettledAt = d.SettledAt
		}
		if d.Last.At.After(p.Last.At) {
			p.Last = d.Last
		}
		if d.State == Pending {
			dueNow = dueNow || d.Due.IsZero()
			if p.Due.IsZero() || d.Due.Before(p.Due) {
				p.Due = d.Due
			}
		}
	}
	if dueNow {
		p.Due = time.Time{}
	}
	if p.State == Pending {
		p.SettledAt = time.Time{}
	}
	return p
}

// rank orders states by which of them decides the state of an event.
func rank(s State) int {
	switch s {
	case Pending:
		return 3
	case Dead:
		return 2
	case Delivered:
		return 1
	default:
		return 0
	}
}
