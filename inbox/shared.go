package inbox

import (
	"context"
	"time"
)

// Trouble says that the destination of an inbox's events is in trouble.
type Trouble struct {
	// Until is when it may be tried again; zero says that it is well.
	Until time.Time

	// Reason says what it met, in at most MaxReason bytes of UTF-8.
	Reason string
}

// Shared is what an Inbox can do besides if several gateways use it at once.
type Shared interface {
	// TellTrouble tells the other gateways that the destination is in trouble,
	// or is well again. It waits for no answer of theirs.
	TellTrouble(ctx context.Context, t Trouble) error

	// Watch calls the functions with what other gateways have changed, and with
	// what is in force when it begins, until ctx ends. It does not return
	// before. Neither is called while the other is.
	Watch(ctx context.Context, hold func(Hold), trouble func(Trouble)) error
}

// Importer is what an Inbox can do besides if events of another inbox can be
// brought into it with what became of them.
type Importer interface {
	// Import stores the event with its state and attempts. Like Put it returns
	// once that is on stable storage, and reports a duplicate, and changes
	// nothing, if there is an event with the same id.
	Import(ctx context.Context, r *Record, attempts []Attempt) (duplicate bool, err error)
}
