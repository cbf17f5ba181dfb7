// Package inbox is the contract between the gateway and the store that keeps
// its events. An inbox stores an event durably, once, with a delivery to each of its
// destinations. Each destination has a queue, which leases events in the order of
// their tasks and records the outcome. The inbox also quarantines callbacks that could
// not be parsed.
//
// Read the interface Inbox and those that it consists of first, then the types in the order in which an event
// meets them: event.go, destination.go and id.go when it is put, outcome.go when it is
// compared with others of its task, lease.go when it is delivered,
// record.go, page.go and prefix.go when it is looked up. suspect.go is the quarantine, hold.go a stop of
// deliveries, policy.go what an inbox may forget. abilities.go, shared.go, survey.go and
// tasks.go, about tasks whose final events have not come, hold optional interfaces.
//
// The package depends on neither HTTP nor Caddy. Implementations are below
// caddymodule/, and each passes the suite in inboxtest.
package inbox

import (
	"context"
	"errors"
	"time"
)

// Errors that an Inbox returns, wrapped with what happened. Tell them apart
// with errors.Is.
var (
	// ErrFull says that the inbox has reached its size limit or its disk is
	// full. Nothing was stored. It may work again later without a restart.
	ErrFull = errors.New("inbox is full")

	// ErrClosed says that the inbox was closed. Nothing was stored.
	ErrClosed = errors.New("inbox is closed")

	// ErrBroken says that the inbox's storage is known to lose what it takes:
	// one of its files was removed, replaced or damaged, or one of its streams
	// discards events. Nothing is stored until that is repaired; the text says
	// how.
	ErrBroken = errors.New("inbox is broken")

	// ErrBackupUnderWay says that a copy of the inbox is being made already.
	ErrBackupUnderWay = errors.New("a backup of the inbox is being made already")

	// ErrTooLarge says that a callback is larger than all that the quarantine may
	// take. It was not stored, and will not be unless the limit is raised.
	ErrTooLarge = errors.New("too large for the quarantine")

	// ErrNotFound says that no event or quarantined callback has that id.
	ErrNotFound = errors.New("not found in the inbox")

	// ErrCursor says that the cursor of a page does not come from this list.
	ErrCursor = errors.New("not a cursor of this list")

	// ErrState says that an event is not in a state that allows the call,
	// such as a purge of an event that is leased.
	ErrState = errors.New("event is not in a state that allows this")
)

// Stats is a summary that is cheap to compute at any size of the inbox.
type Stats struct {
	// Events counts the events by state, indexed by State.
	Events [len(States)]int64

	// OldestPending is ReceivedAt of the oldest pending event; zero if none.
	OldestPending time.Time

	// Destinations are those that have a queue or deliveries, in the order of their
	// names: also those that no config names any more.
	Destinations []DestinationStats

	// Quarantined counts the callbacks in quarantine, equal bodies once.
	Quarantined int64

	// Lost counts the events that vanished from the storage undelivered without
	// being purged through the gateway, since the inbox was made. LostAt is
	// when the last of them were missed; zero if none was.
	Lost   int64
	LostAt time.Time

	// Bytes is the disk space that counts towards MaxBytes.
	Bytes int64

	// MaxBytes is the size at which the inbox is full; 0 if it has no limit.
	MaxBytes int64
}

// DestinationStats is the part of a summary that is about one destination.
type DestinationStats struct {
	Name string

	// Deliveries counts the deliveries by state, indexed by State.
	Deliveries [len(States)]int64

	// OldestPending is ReceivedAt of the oldest event whose delivery is pending; zero
	// if none is.
	OldestPending time.Time
}

// Store takes events, looks them up, and edits what is stored.
type Store interface {
	// Put stores the event, once, with a pending delivery to each of its destinations,
	// and returns once it is on stable storage. If an event with the same id or
	// FormerID is stored already, whatever its destinations, Put stores nothing and
	// returns the id of that event; otherwise it returns "". After an error the event
	// will never be leased. A destination without a queue is an error, ErrNotFound.
	//
	// An event that has an Outcome is compared with the final events of its task that are
	// stored and have one, too, at most with the last MaxOutcomes. If one of them has the
	// same Outcome, the new event is a duplicate of it, unless both are from callbacks:
	// those are told apart by their ids alone. Otherwise its Revision has to be that of
	// the events with the same Outcome or, if there are none, one more than the highest
	// of all. If it is not, Put stores nothing and returns a *RevisionError. Of events that
	// are put at the same moment, each is compared with those that are stored before it.
	//
	// If ctx ends first, Put returns its error, and the event may or may not
	// have been stored.
	Put(ctx context.Context, e *Event) (duplicateOf string, err error)

	// Get returns the event with its deliveries and their logs. A malformed id is
	// ErrNotFound too.
	Get(ctx context.Context, id string) (*Record, error)

	// List returns the events that match the filter, newest first unless the
	// page says otherwise, and the cursor of the next page, "" at the end. A
	// page may have fewer rows than its limit, even none, although more follow.
	// An event that matches and exists throughout is listed exactly once; one
	// that is put meanwhile may be listed if the oldest come first. A cursor
	// from elsewhere is ErrCursor.
	List(ctx context.Context, f Filter, p Page) (records []*Record, next string, err error)

	// Replay makes the event's delivery to a destination pending and due at once if it
	// is delivered, superseded or dead. Its attempts stay, and are numbered on; Replay is
	// recorded between them. It returns to its place in its task: it
	// waits for an event that is leased, and later events wait for it. An in-progress
	// event whose task's final event was accepted is superseded again.
	//
	// A pending delivery becomes due at once, and keeps its attempts and its place in
	// its task. For one that is leased nothing changes: the attempt under way decides.
	//
	// With the destination "" it does so for the deliveries that are pending or dead,
	// or for all if none is: what one destination has taken is not sent to it again
	// because another one has not.
	//
	// It returns ErrNotFound if there is no such event or delivery, or ErrState if the
	// event is skipped or is changed concurrently.
	Replay(ctx context.Context, id, destination string) error

	// Move gives the event a pending delivery to the destination to, whose queue must
	// exist, as Replay does if there is one already. If there is a delivery to from
	// that is pending or dead, it is removed, unless from is to; a new delivery takes
	// over its attempts. With from "" the others stay as they are.
	//
	// It returns ErrNotFound if there is no such event, no such delivery or no queue
	// to, or ErrState if the delivery to from is leased or the event is changed
	// concurrently.
	Move(ctx context.Context, id, from, to string) error

	// Purge removes the event's delivery to a destination for good, pending or not, and
	// the event with its last delivery. With the destination "" it removes the event
	// with all of them. It returns ErrNotFound, or ErrState if what is to be removed is
	// leased.
	Purge(ctx context.Context, id, destination string) error

	// Stats returns a summary. It does not wait for writes. If the inbox is
	// broken, the error is ErrBroken.
	Stats(ctx context.Context) (Stats, error)
}

// Queue has the deliveries to one destination. What is said of events is about those
// that go there. Queues do not wait for each other.
type Queue interface {
	Leaser
	Holds
}

// Leaser hands out events for delivery.
type Leaser interface {
	// Lease waits until at least one event is due, and returns between one and
	// max leases. No event is leased twice at a time, nor while an earlier
	// event of its task is pending: a task's events are leased in the order in
	// which they were put. An in-progress event whose task's final event was
	// accepted is never leased; it ends as Superseded. Tasks do not wait for
	// each other. Of the events that are due, those that were never leased come
	// in order of arrival.
	//
	// Lease returns ctx's error once ctx is done, and ErrClosed once the inbox
	// is closed. One goroutine at a time may call it.
	Lease(ctx context.Context, max int) ([]*Lease, error)

	// Settle ends leases, and returns once that is on stable storage. After an
	// error none of them is settled, and it may be called again. ErrState is
	// the exception: it names the outcomes whose leases are not held, and the
	// others are settled. If ctx ends first, Settle returns its error, and the
	// leases may or may not have been settled.
	Settle(ctx context.Context, outcomes ...Outcome) error
}

// Holds keeps the hold by hand of one destination.
type Holds interface {
	// SetHold stores a hold durably, in place of the one before. The queue itself goes on leasing: the dispatcher observes the hold.
	SetHold(ctx context.Context, h Hold) error

	// Hold returns what SetHold stored last, even if it has ended; the zero
	// Hold if there was none.
	Hold(ctx context.Context) (Hold, error)
}

// Quarantine keeps callbacks that were not valid.
type Quarantine interface {
	// Quarantine stores a suspect durably and sets its ID, Count and times. A
	// suspect whose body is stored already is added to that one and gets its
	// ID. Beyond the limit of the Policy, the suspect that has not arrived for
	// longest is removed. With a limit of 0 nothing is stored. An inbox may also bound
	// the bytes of all suspects; one that is larger than that alone is ErrTooLarge.
	Quarantine(ctx context.Context, s *Suspect) error

	// Suspects lists quarantined callbacks, last arrivals first, in pages as
	// List does.
	Suspects(ctx context.Context, p Page) (suspects []*Suspect, next string, err error)

	// Suspect returns one quarantined callback, or ErrNotFound.
	Suspect(ctx context.Context, id int64) (*Suspect, error)

	// Unquarantine removes one quarantined callback, or returns ErrNotFound.
	// Put its event before, so that a crash in between duplicates rather than
	// loses.
	Unquarantine(ctx context.Context, id int64) error
}

// Inbox is a durable store of events for one gateway handler. Its methods may
// be called from any number of goroutines.
type Inbox interface {
	Store
	Quarantine

	// Queue returns the queue of a destination, and makes it if there is none. It has
	// the deliveries of the events that were put for that destination. Each call for
	// the same name returns the same Queue. That of DefaultDestination exists always;
	// another one stays as long as it has deliveries, and is gone with the last of
	// them if it was not asked for since the inbox was opened.
	//
	// The name must fit CheckDestination. There may be too many, beyond twice
	// MaxDestinations; the error says what to do.
	Queue(ctx context.Context, destination string) (Queue, error)

	// SetPolicy replaces the policy, also for events that are stored already.
	SetPolicy(p Policy)

	// Close returns every lease and releases all resources. Calls under way
	// return, later calls get ErrClosed. It may be called again.
	Close() error
}
