package inbox

import "time"

// Filter chooses events. A zero field does not restrict.
type Filter struct {
	// States lists the wanted states; empty means every state.
	States []State

	TaskID string
	Type   string

	// Since and Until bound ReceivedAt: Since <= ReceivedAt < Until.
	Since, Until time.Time
}

// Page is one step through a list.
type Page struct {
	// Cursor is where to go on, from an earlier answer; "" is the beginning.
	Cursor string

	// Limit is the largest number of rows wanted, 1 to 1000; 0 means 100.
	Limit int

	// OldestFirst turns the order round. A cursor belongs to the order of the
	// page that gave it. Suspects are always listed newest first.
	OldestFirst bool
}
