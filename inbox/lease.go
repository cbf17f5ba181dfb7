package inbox

import "time"

// Lease is the right to make one delivery attempt. It lasts until it is
// settled, or until its inbox is closed or the process dies. In the latter
// cases the event is leased again and the attempt does not count.
type Lease struct {
	Event *Event

	// Attempt is the number of this attempt, from 1. Released attempts are not
	// counted. It goes on after a replay.
	Attempt int

	// Replay is the last replay of the delivery; its At is zero if there was none.
	Replay Replay

	// Newest says that the event was leased out of turn, as one of the newest: see
	// Want.Newest.
	Newest bool

	// Untried says that the event was never tried, not even by an attempt that was
	// released unspent, nor replayed.
	Untried bool

	// Ref is the inbox's own reference to the leased event.
	Ref int64
}

// Try is the number of this attempt since the last replay, from 1. Without a replay it is
// Attempt.
func (l *Lease) Try() int { return l.Attempt - l.Replay.After }

// Since is when the delivery began: when it was last replayed, or else when the callback
// was received.
func (l *Lease) Since() time.Time {
	if l.Replay.At.After(l.Event.ReceivedAt) {
		return l.Replay.At
	}
	return l.Event.ReceivedAt
}

// Verdict is the result of an attempt for its event.
type Verdict uint8

// The verdicts.
const (
	// Deliver ends the event as Delivered.
	Deliver Verdict = iota + 1

	// Retry counts the attempt and makes the event due again at Outcome.Due. An
	// in-progress event whose task's final event was accepted meanwhile ends as
	// Superseded instead.
	Retry

	// GiveUp counts the attempt and ends the event as Dead.
	GiveUp

	// Release returns the lease: the attempt does not count and is not
	// recorded. The event is due again at Outcome.Due, at once if that is zero.
	// As with Retry, it may end as Superseded instead.
	Release
)

// Outcome settles one lease.
type Outcome struct {
	Lease   *Lease
	Verdict Verdict

	// Due is when the event may be leased again; for Retry and Release. The
	// Policy may make it due sooner.
	Due time.Time

	// Attempt is stored with the event; for all verdicts but Release.
	Attempt Attempt
}

// Attempt is the record of one delivery attempt.
type Attempt struct {
	// At is when the attempt began.
	At time.Time

	// Duration is how long it took.
	Duration time.Duration

	// Status is the HTTP status of the upstream's answer, 0 if there was none.
	Status int

	// Reason says why the attempt failed, in at most MaxReason bytes of UTF-8;
	// empty for a delivery.
	Reason string
}

// MaxReason is the length in bytes to which an Inbox cuts an Attempt's Reason.
const MaxReason = 1024
