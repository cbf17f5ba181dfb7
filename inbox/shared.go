package inbox

import (
	"context"
	"time"
)

// Trouble is a report on a destination.
type Trouble struct {
	// Until is when the destination may be tried again; zero if it works.
	Until time.Time

	// Reason describes the failure, in at most MaxReason bytes of UTF-8.
	Reason string
}

// Shared is implemented by a Queue that several gateways can use at once.
type Shared interface {
	// TellTrouble reports to the other gateways that the destination fails, or
	// works again. It does not wait for them.
	TellTrouble(ctx context.Context, t Trouble) error

	// Watch calls the functions with what other gateways change, beginning with
	// what is in force, until ctx ends. It does not return earlier, and calls
	// one function at a time.
	Watch(ctx context.Context, hold func(Hold), trouble func(Trouble)) error
}

// Importer is implemented by an Inbox that can take over events of another
// inbox together with their state.
type Importer interface {
	// Import stores the event with its deliveries and their logs, and returns once
	// that is on stable storage. The queues of its destinations must exist. If an
	// event with the same id is stored already, or one of which it is a duplicate by its
	// Outcome, it changes nothing and reports a duplicate. Otherwise the event keeps its
	// Revision, whatever is stored.
	Import(ctx context.Context, r *Record) (duplicate bool, err error)
}
