package sqlite

import "github.com/fotor-webhook/caddy-fotor-webhook/inbox"

// state is the state of an event, finer than inbox.State. The numbers are
// stored in the file.
type state int64

const (
	ready     state = iota // may be leased at once; also the state of an event without a row in delivery
	retry                  // may be leased when it is due
	blocked                // waits for another event of its task
	delivered              // this and the following are final
	superseded
	dead

	states // number of states
)

func (s state) ended() bool { return s >= delivered }

// public returns the inbox.State.
func (s state) public() inbox.State {
	switch s {
	case delivered:
		return inbox.Delivered
	case superseded:
		return inbox.Superseded
	case dead:
		return inbox.Dead
	default:
		return inbox.Pending
	}
}

// taskEvent is an event as far as it matters for the order of its task.
type taskEvent struct {
	seq    int64
	id     inbox.RawID
	final  bool
	to     slots // its destinations
	state  state // that at one destination, as are the following
	due    int64 // when a retry or a blocked event is due, in µs
	fresh  bool  // it has no row in delivery yet
	leased bool
}

// arrange returns the events, oldest first, whose state has to change for the
// task to be in order, with their new states:
//
//   - A waiting in-progress event is superseded if a final one was accepted.
//   - While an event is leased, the others wait for it.
//   - Otherwise the oldest pending event may go, and the others wait for it.
func arrange(events []taskEvent) []taskEvent {
	var final, taken bool
	for _, e := range events {
		final = final || e.final
		taken = taken || e.leased
	}
	var moved []taskEvent
	for _, e := range events {
		if e.state.ended() || e.leased {
			continue
		}
		to := blocked
		switch {
		case final && !e.final:
			to = superseded
		case !taken:
			taken = true
			to = e.state.unblocked(e.due)
		}
		if to != e.state {
			e.state = to
			moved = append(moved, e)
		}
	}
	return moved
}

// unblocked returns the state of a pending event that does not wait for
// another.
func (s state) unblocked(due int64) state {
	switch {
	case s != blocked:
		return s
	case due != 0:
		return retry
	default:
		return ready
	}
}
