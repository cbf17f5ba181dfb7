package inbox

import (
	"errors"
	"time"
)

// The defaults of a handler that its inbox depends on.
const (
	DefaultName       = "default"
	DefaultKeep       = 7 * 24 * time.Hour
	DefaultQuarantine = 1000
)

// ErrInUse says that an inbox cannot be opened because another process has it.
var ErrInUse = errors.New("is in use")

// Policy is what an inbox is told about how long to keep things.
type Policy struct {
	// Keep is how long delivered and superseded events stay, counted from
	// their end, for dedupe and inspection. Pending and dead ones stay. An
	// inbox that is nearly full may remove the oldest of them before, rather
	// than refuse new events.
	Keep time.Duration

	// Quarantine is the largest number of callbacks in quarantine; 0 keeps none.
	Quarantine int

	// MaxEvent is the largest size in bytes of an event's body; 0 if it is not
	// known. An inbox that could not take one of that size says so when it is
	// opened.
	MaxEvent int
}
