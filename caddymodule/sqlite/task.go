package sqlite

import "github.com/fotor-webhook/caddy-fotor-webhook/inbox"

// state is where an event stands, finer than inbox.State. Its numbers are in
// the file.
type state int64

const (
	ready     state = iota // may be leased at once; also an event without a row in delivery
	retry                  // may be leased when it is due
	blocked                // waits for another event of its task
	delivered              // the ends from here on
	superseded
	dead

	states // their number
)

func (s state) ended() bool { return s >= delivered }

// public is the state as the interface knows it.
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

// taskEvent is one event of a task, as far as it matters to the others.
type taskEvent struct {
	seq    int64
	id     inbox.RawID
	final  bool
	state  state
	due    int64 // of an event that is not ready at once, in µs
	fresh  bool  // has no row in delivery yet
	leased bool
}

// arrange returns the events, oldest first, that have to move for the task to
// be in order, with their new states:
//
//   - An in-progress event that waits is superseded if a final one was accepted.
//   - While an event is leased, the others wait for it.
//   - Otherwise the oldest that is pending may go, and the others wait for it.
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

// unblocked is the state of a pending event that need not wait for another.
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
