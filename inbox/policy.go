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

// DueSlack is how much later than Policy.MaxWait an event may be due before that
// counts as a mistake.
const DueSlack = 5 * time.Second

// Policy is what an inbox is told about how long to keep things.
type Policy struct {
	// Keep is how long delivered and superseded events stay, counted from
	// their end, for dedupe and inspection. Pending and dead ones stay. An
	// inbox that is nearly full may remove the oldest of them before, rather
	// than refuse new events.
	Keep time.Duration

	// Quarantine is the largest number of distinct callbacks in quarantine; 0
	// keeps none.
	Quarantine int

	// MaxWait is the longest time from now at which an event may be due; 0 sets
	// no bound. What was said to be due later, by a clock that was wrong or under
	// a longer MaxWait, is due MaxWait after the inbox finds it. It may take up to
	// DueSlack more, so that clocks which differ a little change nothing.
	MaxWait time.Duration

	// MaxEvent is the largest size in bytes of an event's body; 0 if it is not
	// known. An inbox that could not take one of that size says so when it is
	// opened.
	MaxEvent int
}

// Due returns the Record.Due of an event whose next attempt was put off to that
// time: zero once it has come.
func (p *Policy) Due(due, now time.Time) time.Time {
	switch {
	case !due.After(now):
		return time.Time{}
	case p.TooLate(due, now):
		due = now.Add(p.MaxWait)
	}
	return due.UTC().Truncate(time.Microsecond)
}

// TooLate reports whether an event cannot be meant to be due at that time.
func (p *Policy) TooLate(due, now time.Time) bool {
	return p.MaxWait > 0 && due.After(now.Add(p.MaxWait+DueSlack))
}
