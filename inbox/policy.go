package inbox

import (
	"errors"
	"time"
)

// The handler's defaults that matter to its inbox.
const (
	DefaultName       = "default"
	DefaultKeep       = 7 * 24 * time.Hour
	DefaultQuarantine = 1000
)

// ErrInUse says that an inbox cannot be opened because another process uses it.
var ErrInUse = errors.New("is in use")

// DueSlack is how much later than Policy.MaxWait an event may be due before
// that counts as a mistake.
const DueSlack = 5 * time.Second

// Policy says how long an inbox keeps things.
type Policy struct {
	// Keep is how long delivered and superseded events stay after their end,
	// for dedupe and inspection. Pending and dead events stay. An inbox that is
	// nearly full may remove the oldest earlier, rather than refuse new events.
	Keep time.Duration

	// Quarantine is the largest number of distinct callbacks in quarantine;
	// with 0 none is kept.
	Quarantine int

	// Tasks is the largest number of tracked tasks, see Tracker; 0 means DefaultTasks.
	Tasks int

	// MaxWait is the longest time until a pending event is due; 0 sets no
	// bound. An event that is due later, because of a wrong clock or a longer
	// MaxWait before, becomes due MaxWait after the inbox notices. Up to
	// DueSlack more is tolerated, so that slightly different clocks change
	// nothing.
	MaxWait time.Duration

	// MaxEvent is the size in bytes of the largest event body; 0 if unknown. An
	// inbox that could not store such an event fails to open.
	MaxEvent int
}

// Due returns the Record.Due of an event whose next attempt was set for that
// time: zero once that has come.
func (p *Policy) Due(due, now time.Time) time.Time {
	switch {
	case !due.After(now):
		return time.Time{}
	case p.TooLate(due, now):
		due = now.Add(p.MaxWait)
	}
	return due.UTC().Truncate(time.Microsecond)
}

// TooLate reports whether an event cannot be meant to be due as late as that.
func (p *Policy) TooLate(due, now time.Time) bool {
	return p.MaxWait > 0 && due.After(now.Add(p.MaxWait+DueSlack))
}
