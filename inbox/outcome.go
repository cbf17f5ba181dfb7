package inbox

import (
	"encoding/hex"
	"fmt"
)

// Origin is how the gateway learnt what an event tells.
type Origin uint8

// The origins of events.
const (
	FromCallback Origin = iota // Fotor called
	FromAPI                    // Fotor's API was asked
)

// String returns "callback" or "api", as the event's body has it.
func (o Origin) String() string {
	switch o {
	case FromCallback:
		return "callback"
	case FromAPI:
		return "api"
	default:
		return "unknown"
	}
}

// OutcomeKey stands for all that a final event tells in Fotor's documented fields: two
// events of a task with the same key tell the same, though their ids may differ. The zero
// key says that the event is not compared.
type OutcomeKey [16]byte

// IsZero reports whether the event is not compared.
func (k OutcomeKey) IsZero() bool { return k == OutcomeKey{} }

// String returns 32 lower-case hexadecimal digits.
func (k OutcomeKey) String() string { return hex.EncodeToString(k[:]) }

// ParseOutcomeKey returns the key of a text made by String.
func ParseOutcomeKey(text string) (k OutcomeKey, err error) {
	if len(text) != hex.EncodedLen(len(k)) {
		return k, fmt.Errorf("the key of an outcome has %d characters; it must have %d hexadecimal digits", len(text), hex.EncodedLen(len(k)))
	}
	if _, err := hex.Decode(k[:], []byte(text)); err != nil {
		return k, fmt.Errorf("the key of an outcome: %w", err)
	}
	return k, nil
}

// MaxOutcomes is the largest number of a task's final events with which another one is
// compared: the last of those that have an Outcome.
const MaxOutcomes = 16

// Told is a stored final event with an Outcome, as far as others are compared with it.
type Told struct {
	ID       string
	Origin   Origin
	Outcome  OutcomeKey
	Revision int
}

// Told returns the event as others are compared with it.
func (e *Event) Told() Told {
	return Told{ID: e.ID, Origin: e.Origin, Outcome: e.Outcome, Revision: e.Revision}
}

// RevisionError is the error of Store.Put for an event whose Revision is not the one that
// it has to have. Nothing was stored. With the right Revision, and a Body that says it,
// the event can be put again.
type RevisionError struct {
	Revision int // the right one
}

// Error implements error.
func (e *RevisionError) Error() string {
	return fmt.Sprintf("the event has to have revision %d: what it tells is not what other final events of its task tell", e.Revision)
}

// CompareOutcome is the rule by which Store.Put compares outcomes, for inboxes. told are
// the events with which e is compared, oldest first. It returns the id of the one of
// which e is a duplicate, "" if there is none; then Revision is the one that e has to
// have. That of an event without an Outcome is 0.
func (e *Event) CompareOutcome(told []Told) (duplicateOf string, revision int) {
	if e.Outcome.IsZero() {
		return "", 0
	}
	highest := 0
	for _, t := range told {
		highest = max(highest, t.Revision)
		if t.Outcome != e.Outcome {
			continue
		}
		if e.Origin != FromCallback || t.Origin != FromCallback {
			return t.ID, 0
		}
		revision = t.Revision
	}
	if revision == 0 {
		revision = highest + 1
	}
	return "", revision
}

// checkOutcome returns an error if the event could not be compared with others.
func checkOutcome(e *Event) error {
	switch {
	case e.Origin > FromAPI:
		return fmt.Errorf("event %s has origin %d; expected 0 or 1", e.ID, e.Origin)
	case e.Outcome.IsZero() && e.Revision != 0:
		return fmt.Errorf("event %s has revision %d and no outcome; expected 0", e.ID, e.Revision)
	case e.Outcome.IsZero():
		return nil
	case !e.Status.Final():
		return fmt.Errorf("event %s has an outcome, but its task is in progress", e.ID)
	case e.Revision < 1:
		return fmt.Errorf("event %s has an outcome and revision %d; expected 1 or more", e.ID, e.Revision)
	}
	return nil
}
