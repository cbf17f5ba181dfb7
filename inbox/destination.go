package inbox

import (
	"fmt"
	"regexp"
	"slices"
)

const (
	// DefaultDestination is the destination of events that name none, and of all
	// that an inbox without destinations had stored.
	DefaultDestination = "default"

	// ConfirmDestination is the destination of events that wait until Fotor was asked
	// whether it says the same. No config can have a destination of that name.
	ConfirmDestination = "fotor_confirm"

	// MaxDestinations is the largest number of destinations of one handler.
	MaxDestinations = 32
)

var nameRegexp = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ValidName reports whether a handler or a destination may have the name.
func ValidName(name string) bool { return nameRegexp.MatchString(name) }

// CheckDestination returns an error unless a destination may have the name.
func CheckDestination(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("destination %.80q: expected 1 to 64 letters, digits, '_' or '-'", name)
	}
	return nil
}

func checkDestinations(e *Event) error {
	if len(e.Destinations) > MaxDestinations {
		return fmt.Errorf("event %s has %d destinations; expected at most %d", e.ID, len(e.Destinations), MaxDestinations)
	}
	for i, name := range e.Destinations {
		if err := CheckDestination(name); err != nil {
			return fmt.Errorf("event %s: %w", e.ID, err)
		}
		if slices.Contains(e.Destinations[:i], name) {
			return fmt.Errorf("event %s has the destination %q twice", e.ID, name)
		}
	}
	return nil
}

// GoesTo returns the names of the destinations of an event that is to be put.
func (e *Event) GoesTo() []string {
	if e.Destinations == nil {
		return []string{DefaultDestination}
	}
	return e.Destinations
}
