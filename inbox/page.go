package inbox

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPage = 100

	// MaxPage is the largest Page.Limit.
	MaxPage = 1000

	// MaxPageBytes bounds a page by its size: the row that reaches it is the last.
	MaxPageBytes = 8 << 20

	// ascendingPrefix marks the cursors of lists that begin with the oldest, so
	// that a cursor fits only one order.
	ascendingPrefix = "a"
)

// Filter selects events. A zero field does not restrict.
type Filter struct {
	// Destination selects the events with a delivery to that destination, also to one
	// that does not exist any more.
	Destination string

	// States lists the wanted states of the event, or with Destination those of the
	// delivery there; empty means every state.
	States []State

	TaskID string
	Type   string

	// Since and Until bound ReceivedAt: Since <= ReceivedAt < Until.
	Since, Until time.Time
}

// HasState reports whether the filter selects events in this state.
func (f *Filter) HasState(s State) bool {
	return len(f.States) == 0 || slices.Contains(f.States, s)
}

// Page selects a part of a list.
type Page struct {
	// Cursor is where to go on, as returned with the page before; "" for the
	// first page.
	Cursor string

	// Limit is the largest number of rows wanted, 1 to 1000; 0 means 100.
	Limit int

	// OldestFirst reverses the order. A cursor is only good for the order in
	// which it was returned. Suspects are always listed newest first.
	OldestFirst bool
}

// Start returns the number past which the page begins, and the largest number
// of rows. It is for inboxes that number their rows upwards from 1: past means
// above with OldestFirst, and below otherwise.
func (p Page) Start() (past int64, limit int, err error) {
	past, limit = math.MaxInt64, p.Limit
	prefix := ""
	if p.OldestFirst {
		past, prefix = 0, ascendingPrefix
	}
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 1 || limit > MaxPage {
		return 0, 0, fmt.Errorf("page limit is %d; it must be 1 to %d", p.Limit, MaxPage)
	}
	if p.Cursor == "" {
		return past, limit, nil
	}
	past, err = strconv.ParseInt(strings.TrimPrefix(p.Cursor, prefix), 10, 64)
	if err != nil || past < 1 || p.Next(past) != p.Cursor {
		return 0, 0, fmt.Errorf("%w: %.64q", ErrCursor, p.Cursor)
	}
	return past, limit, nil
}

// Next returns the cursor of the page that begins past a number, in the same
// order.
func (p Page) Next(past int64) string {
	number := strconv.FormatInt(past, 10)
	if p.OldestFirst {
		return ascendingPrefix + number
	}
	return number
}
