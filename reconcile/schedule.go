package reconcile

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The defaults of a Schedule.
const (
	DefaultAfter  = 2 * time.Minute
	DefaultEvery  = 2 * time.Minute
	DefaultGiveUp = 24 * time.Hour
)

// MostBetween is the longest pause between two questions for a task.
const MostBetween = 30 * time.Minute

// minAsked is how often a task is asked for whatever its age, before it is given up. The age
// may be misleading: the gateway was off for days, or the clock stood in 1970.
const minAsked = 3

// Schedule says when tasks are asked for.
type Schedule struct {
	// After is the time from when a task became known to the first question.
	After time.Duration

	// Every is the pause after the first question. It doubles with each further one, up to
	// MostBetween, or stays as it is if it is longer.
	Every time.Duration

	// GiveUp is the age at which a task is lost of which Fotor says no end. If Fotor could
	// not be asked for it then, it has twice as long.
	GiveUp time.Duration
}

// pause returns how long to wait after so many questions, 1 or more. random, from 0 up to
// but not including 1, varies it by a quarter to both sides, so that tasks which became
// known together are not asked for together for ever.
func (s *Schedule) pause(asked int, random float64) time.Duration {
	d, most := s.Every, max(MostBetween, s.Every)
	for range asked - 1 {
		if d > most/2 {
			d = most
			break
		}
		d *= 2
	}
	return d*3/4 + time.Duration(random*float64(d)/2)
}

// Longest returns the longest time until a task is due.
func (s *Schedule) Longest() time.Duration {
	return max(s.After, max(MostBetween, s.Every)*5/4)
}

// lost reports whether a task is to be given up after a question. answered tells whether
// Fotor has answered it. If the clock was ahead when the task became known, its age means
// nothing, and the average length of its pauses stands in for it.
func (s *Schedule) lost(t *inbox.Task, answered bool, now time.Time) bool {
	age := now.Sub(t.Since)
	if age < 0 {
		age = s.After
		for asked := 1; asked < t.Asked && age < 2*s.GiveUp; asked++ {
			age += s.pause(asked, 0.5)
		}
	}
	limit := s.GiveUp
	if !answered {
		limit *= 2
	}
	return t.Asked >= minAsked && age >= limit
}
