// Package inbox says what a store of events must do for the gateway: take an
// event durably, hand it out for delivery in the order of its task, remember
// what became of it, and keep aside what could not be read as a callback.
//
// It knows nothing of HTTP or Caddy. Implementations live below caddymodule/
// and all pass the suite in inboxtest.
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
	// full. Nothing was stored; it may work again later without a restart.
	ErrFull = errors.New("inbox is full")

	// ErrClosed says that the inbox was closed. Nothing was stored.
	ErrClosed = errors.New("inbox is closed")

	// ErrBroken says that the inbox's storage is known to lose what it takes: a
	// file of it was removed, replaced or damaged, or a stream of it throws
	// events away. Nothing is stored until that is mended; the text says how.
	ErrBroken = errors.New("inbox is broken")

	// ErrBackupUnderWay says that a copy of the inbox is being made already.
	ErrBackupUnderWay = errors.New("a backup of the inbox is being made already")

	// ErrNotFound says that no event or quarantined callback has that id.
	ErrNotFound = errors.New("not found in the inbox")

	// ErrCursor says that a page's cursor is none that the inbox gave.
	ErrCursor = errors.New("not a cursor of this list")

	// ErrState says that an event is not in a state that allows the call,
	// such as a purge of an event that is leased.
	ErrState = errors.New("event is not in a state that allows this")
)

// Stats is a summary that is cheap to ask for at any size of the inbox.
type Stats struct {
	// Events counts the events by state, indexed by State.
	Events [len(States)]int64

	// OldestPending is ReceivedAt of the oldest pending event; zero if none.
	OldestPending time.Time

	// Quarantined counts the callbacks in quarantine, those of the same body once.
	Quarantined int64

	// Lost counts the events that are gone from the storage though they had not
	// been delivered and nobody purged them here, since the inbox was made. LostAt
	// is when the last of them were missed; zero if none was.
	Lost   int64
	LostAt time.Time

	// Bytes is the room that the inbox takes on disk of what MaxBytes limits.
	Bytes int64

	// MaxBytes is the size at which the inbox is full; 0 if it has no limit.
	MaxBytes int64
}

// Inbox is a durable store of events for one gateway handler. Its methods may
// be called from any number of goroutines.
type Inbox interface {
	// Put stores the event and returns once it is on stable storage, or
	// returns an error and has stored nothing that will ever be leased. If an
	// event with the same id, or with the id that this one had formerly, was
	// put before and has not been removed since, it stores nothing and returns
	// the id of that one; otherwise it returns "".
	//
	// When ctx ends first, Put returns its error and the event may or may not
	// have been stored.
	Put(ctx context.Context, e *Event) (duplicateOf string, err error)

	// Lease waits until at least one event is due, then returns at least one
	// and at most max leases. No event is leased twice at a time, and none
	// while an earlier event of its task is pending: a task's events are
	// leased in the order in which they were put. An in-progress event of a
	// task whose final event was accepted is never leased: it ends as
	// Superseded. Tasks do not wait for each other. Among events that are
	// due, those that were never leased come in order of arrival.
	//
	// It returns ctx's error once ctx is done, and ErrClosed once the inbox is
	// closed. Lease may be called by one goroutine at a time.
	Lease(ctx context.Context, max int) ([]*Lease, error)

	// Settle ends leases and returns once that is on stable storage. On an
	// error none of them is settled and it may be called again. The exception
	// is ErrState: it names the outcomes whose leases are not held; the others
	// are settled all the same. When ctx ends first, Settle returns its error
	// and they may or may not have been settled.
	Settle(ctx context.Context, outcomes ...Outcome) error

	// Get returns the event and its recorded attempts, oldest first: all of
	// them, or at least the last hundred. It returns ErrNotFound also for what
	// is no id at all.
	Get(ctx context.Context, id string) (*Record, []Attempt, error)

	// List returns the events that fit the filter, those put last first unless
	// the page says otherwise, and the cursor of the next page, "" at the end. A
	// page may hold fewer rows than its limit, or none, though more follow. Of
	// the events that are there all the while and fit, each comes once; those
	// that are put meanwhile may come too if the oldest come first. A cursor that
	// List did not give is ErrCursor.
	List(ctx context.Context, f Filter, p Page) (records []*Record, next string, err error)

	// Replay makes a delivered, superseded or dead event pending and due at
	// once, its attempts counted from 1 again and their records removed. It
	// takes its place in its task: it waits for an event that is leased, and
	// later ones wait for it; an in-progress one whose task's final event was
	// accepted is superseded again.
	//
	// An event that is pending becomes due at once, and keeps its attempts and
	// its place in its task. For one that is leased nothing changes: its attempt
	// is under way, and what that brings decides.
	//
	// It returns ErrNotFound, or ErrState if others change the event meanwhile.
	Replay(ctx context.Context, id string) error

	// Purge removes an event for good, pending or not. It returns ErrNotFound,
	// or ErrState for an event that is leased.
	Purge(ctx context.Context, id string) error

	// Stats returns a summary. It does not wait for writes. For an inbox that
	// takes nothing because it is broken it returns an error that is ErrBroken.
	Stats(ctx context.Context) (Stats, error)

	// Quarantine keeps a suspect durably and sets its ID, its Count and the
	// times. One whose body is there already is added to that, and has its ID.
	// Beyond the limit of the inbox's Policy that goes out which has not arrived
	// for longest. With a limit of 0 it is dropped.
	Quarantine(ctx context.Context, s *Suspect) error

	// Suspects lists quarantined callbacks, those that arrived last first, with
	// pages as List has.
	Suspects(ctx context.Context, p Page) (suspects []*Suspect, next string, err error)

	// Suspect returns one quarantined callback, or ErrNotFound.
	Suspect(ctx context.Context, id int64) (*Suspect, error)

	// Unquarantine removes one quarantined callback, or returns ErrNotFound.
	// Putting the event that it became comes first, so that a crash between
	// the two duplicates rather than loses.
	Unquarantine(ctx context.Context, id int64) error

	// SetHold remembers a hold by hand durably, in place of the one before. The
	// inbox only keeps it: those who lease heed it.
	SetHold(ctx context.Context, h Hold) error

	// Hold returns what SetHold remembered last, also one that has ended; the
	// zero Hold if there was none.
	Hold(ctx context.Context) (Hold, error)

	// SetPolicy replaces the policy; it holds from then on, also for what is
	// stored already.
	SetPolicy(p Policy)

	// Close gives every lease back and releases what the inbox holds. Calls
	// under way return, calls after it get ErrClosed. It may be called again.
	Close() error
}
