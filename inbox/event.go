package inbox

import (
	"fmt"
	"time"
)

// Status is the state of a Fotor task as reported by an event.
type Status uint8

// The states of a task, with Fotor's own numbers. Lost is not Fotor's: nothing of the
// task's end could be found out.
const (
	InProgress Status = 0
	Completed  Status = 1
	Failed     Status = 2
	Lost       Status = 3

	// Unconfirmed is that of an event which stands for a final callback until Fotor was
	// asked whether it says the same. It is no end of the task: anybody may have called.
	Unconfirmed Status = 4
)

// Final reports whether no end of the task is waited for any more.
func (s Status) Final() bool { return s != InProgress && s != Unconfirmed }

// String returns "in_progress", "completed", "failed", "lost" or "unconfirmed".
func (s Status) String() string {
	switch s {
	case InProgress:
		return "in_progress"
	case Completed:
		return "completed"
	case Failed:
		return "failed"
	case Lost:
		return "lost"
	case Unconfirmed:
		return "unconfirmed"
	default:
		return "unknown"
	}
}

// State is where a delivery is on its way to its destination, and where an event is on
// its way to all of them, see Summarize.
type State uint8

// The states of a delivery and of an event. All but Pending are final unless the
// event is replayed.
const (
	Pending    State = iota // accepted; waits for an attempt, a retry or an earlier event of its task
	Delivered               // accepted by the upstream
	Superseded              // an in-progress notice that became due after its task's final event was accepted
	Dead                    // given up; stays until it is replayed or purged
	Skipped                 // of an event only: it goes to no destination
)

// States lists every state, for callers that report on each.
var States = [...]State{Pending, Delivered, Superseded, Dead, Skipped}

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Delivered:
		return "delivered"
	case Superseded:
		return "superseded"
	case Dead:
		return "dead"
	case Skipped:
		return "skipped"
	default:
		return "unknown"
	}
}

// Event is an accepted callback in its normalized form. It does not change
// once it is made.
type Event struct {
	// ID identifies the event for ever. It is made by NewID: equal content,
	// equal id.
	ID string

	// FormerID is the id that an earlier version made of the same callback,
	// empty if it is the same. An event stored under it is a duplicate of this
	// one. Only Put uses it; it is not stored.
	FormerID string

	// MakeFormerID, if it is not nil, makes the FormerID, which is empty then: that costs
	// as much as making the ID, and hardly any event needs it. Put calls it, from any
	// goroutine, only if events of the task are stored; after an error of Put it may be
	// called later, too. It is not stored.
	MakeFormerID func() string

	// TaskID is the Fotor task that the event is about. Not empty.
	TaskID string

	// Type is the task's type, such as "avatar". Not empty.
	Type string

	// Status is the task's state that the event reports.
	Status Status

	// ReceivedAt is when the callback arrived, in UTC, to the microsecond.
	ReceivedAt time.Time

	// Body is the event as JSON: what the upstream gets, byte for byte.
	Body []byte

	// Origin is how it was learnt.
	Origin Origin

	// Outcome is set if the event is compared with other final events of its task, see
	// Store.Put. Only a final event may have one.
	Outcome OutcomeKey

	// Revision numbers the different outcomes of the task, from 1, and is 0 without an
	// Outcome. The Body says it, and 1 for 0.
	Revision int

	// Destinations are the names of the destinations that the event goes to, each
	// once, at most MaxDestinations. Nil means DefaultDestination alone. If it is
	// empty but not nil, the event goes to none and ends as Skipped at once. Only Put
	// uses it; what is stored is in Record.Deliveries.
	Destinations []string

	// Track is when Fotor is to be asked first for the outcome of the event's task; zero
	// if the task is not to be tracked. Put of an in-progress event then tracks the task
	// too, before it returns, unless it is tracked or its final event is stored, see
	// Tracker. Of a duplicate it may be ignored. Only Put uses it; it is not stored.
	Track time.Time

	// TraceParent and TraceState are the W3C Trace Context headers that
	// continue the callback's trace in the delivery; empty if there is none.
	TraceParent, TraceState string
}

// Former returns the event's former id, and makes it if necessary. It is zero if there is
// none.
func (e *Event) Former() (id RawID, err error) {
	text := e.FormerID
	if e.MakeFormerID != nil {
		text = e.MakeFormerID()
	}
	if text == "" {
		return id, nil
	}
	return ParseID(text)
}

// Check returns the event's ids, or an error if the event could not be found
// again once stored. The former id is zero if there is none, or if it is not made yet.
func (e *Event) Check() (id, former RawID, err error) {
	id, err = ParseID(e.ID)
	if err == nil && e.FormerID != "" {
		former, err = ParseID(e.FormerID)
	}
	switch {
	case err != nil:
	case e.TaskID == "":
		err = fmt.Errorf("event %s has no task id", e.ID)
	case e.Type == "":
		err = fmt.Errorf("event %s has no type", e.ID)
	case e.Status > Unconfirmed:
		err = fmt.Errorf("event %s has status %d; expected 0 to 4", e.ID, e.Status)
	case id.TaskKey() != TaskKey(e.TaskID):
		err = fmt.Errorf("event %s does not begin with the key of its task %q", e.ID, e.TaskID)
	default:
		if err = checkOutcome(e); err == nil {
			err = checkDestinations(e)
		}
	}
	return id, former, err
}
