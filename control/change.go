package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// This file changes events by hand, one or many, for all who let operators do that.

// ErrNoDestination is returned, with the names of those that there are, if the config has
// no destination of a name.
var ErrNoDestination = errors.New("no such destination")

// destinationError is ErrNoDestination with what is expected.
type destinationError struct{ text string }

func (e *destinationError) Error() string { return e.text }

func (e *destinationError) Is(target error) bool { return target == ErrNoDestination }

// Configured returns ErrNoDestination unless the config has the destination, or none is
// named. One that it has no more is an error too: nothing is delivered there.
func Configured(g Gateway, destination string) error {
	names := g.Destinations()
	if destination == "" || slices.Contains(names, destination) {
		return nil
	}
	return &destinationError{fmt.Sprintf("the config has no destination %q: expected %s", destination, strings.Join(names, ", "))}
}

// Again has an event delivered again: to a destination, or with "" to those that have not
// taken it; or, if to is not "", to that one instead of the destination. See Configured.
// With the id that the caller of a callback got, which is not confirmed yet, it has Fotor
// asked again.
func Again(ctx context.Context, g Gateway, id, destination, to string) error {
	in := g.Inbox()
	if to == "" {
		return orWaiting(ctx, in, id, func(id string) error { return in.Replay(ctx, id, destination) })
	}
	if record, err := get(ctx, in, id); err == nil && record.Event.Status == inbox.Unconfirmed {
		return fmt.Errorf("event %s: %w: its callback is not confirmed; expected a replay, which asks Fotor again, or a purge", id, inbox.ErrState)
	}
	return in.Move(ctx, id, destination, to)
}

// Purge removes an event, or the callback that waits for its confirmation and of which the
// event will be made; or, if that is not "", only the delivery to a destination.
func Purge(ctx context.Context, g Gateway, id, destination string) error {
	in := g.Inbox()
	return orWaiting(ctx, in, id, func(id string) error { return in.Purge(ctx, id, destination) })
}

// orWaiting calls f with the id of an event. If there is none, but a callback of which it
// will be made, it calls f with the id of that.
func orWaiting(ctx context.Context, in inbox.Inbox, id string, f func(id string) error) error {
	err := f(id)
	if !errors.Is(err, inbox.ErrNotFound) {
		return err
	}
	record, gerr := get(ctx, in, id)
	if gerr != nil || record.Event.ID == id {
		return err
	}
	return f(record.Event.ID)
}

// The limits of a hold by hand.
const (
	MaxHoldReason = 256                  // bytes
	MaxHold       = 365 * 24 * time.Hour // from now
)

// HoldUntil returns when a hold ends that begins now: at a time, or after a duration;
// zero if it has no end.
func HoldUntil(now, until time.Time, length time.Duration) (time.Time, error) {
	if length != 0 {
		until = now.Add(length)
	}
	last := now.Add(MaxHold)
	switch {
	case until.IsZero():
	case !until.After(now):
		return time.Time{}, fmt.Errorf("the hold would end in the past, at %s: expected a time to come", holdTime(until))
	case until.After(last):
		return time.Time{}, fmt.Errorf("the hold would end at %s, later than in a year: expected %s at the latest, 365 days from now", holdTime(until), holdTime(last))
	}
	return until, nil
}

func holdTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

const (
	// lanes is how many events are changed at once. The inbox combines concurrent
	// changes into one write; more of them would crowd out callbacks.
	lanes = 8

	// ChangePage is how many events are read at a time.
	ChangePage = 256
)

// Change is a replay or purge of all events that match a filter.
type Change struct {
	Gateway Gateway
	Filter  inbox.Filter

	// Only chooses from those that match the filter; nil takes all.
	Only func(*Event) bool

	// To is a destination that the config must have throughout, if not "".
	To string

	// Limit is how many events are changed at most; 0 is no limit.
	Limit int64

	// Deadline is when no more are begun; zero is none.
	Deadline time.Time

	// Cursor is where to go on; "" begins at the oldest event.
	Cursor string

	// DryRun changes nothing, and counts.
	DryRun bool

	// Do changes one event.
	Do func(ctx context.Context, id string) error

	// Progress is called between pages, if it is not nil. If it returns an error, the
	// change ends.
	Progress func(Bulk) error

	matched          int64
	changed, skipped atomic.Int64
}

// Run changes the events, oldest first: in reverse order, a task's last event could be
// delivered before its first. It returns where to go on, "" if there is no more to do. It
// may be called once.
func (c *Change) Run(ctx context.Context) (next string, err error) {
	if c.Filter.Until.IsZero() {
		c.Filter.Until = time.Now() // or it would go on for as long as events arrive
	}
	page := inbox.Page{OldestFirst: true, Cursor: c.Cursor}
	for {
		if err := Configured(c.Gateway, c.To); err != nil { // or a reload would leave the rest behind
			return page.Cursor, err
		}
		page.Limit = ChangePage
		if c.Limit > 0 {
			page.Limit = int(min(ChangePage, c.Limit-c.changed.Load()))
		}
		records, next, err := c.Gateway.Inbox().List(ctx, c.Filter, page)
		if err != nil {
			return page.Cursor, err
		}
		if c.Only != nil {
			records = slices.DeleteFunc(records, func(r *inbox.Record) bool { e := eventOf(r); return !c.Only(&e) })
		}
		c.matched += int64(len(records))
		if err := c.changeSome(ctx, records); err != nil {
			return page.Cursor, err
		}
		page.Cursor = next
		if next == "" || c.Limit > 0 && c.changed.Load() >= c.Limit || !c.Deadline.IsZero() && !time.Now().Before(c.Deadline) {
			return next, nil
		}
		if c.Progress != nil {
			if err := c.Progress(c.Result()); err != nil {
				return page.Cursor, err
			}
		}
	}
}

// Result returns how far it has come.
func (c *Change) Result() Bulk {
	return Bulk{Matched: c.matched, Changed: c.changed.Load(), Skipped: c.skipped.Load(), DryRun: c.DryRun}
}

// changeSome changes a page of events: several at once, but those of a task one after
// the other.
func (c *Change) changeSome(ctx context.Context, records []*inbox.Record) error {
	if c.DryRun {
		c.changed.Add(int64(len(records)))
		return nil
	}
	var byLane [lanes][]*inbox.Record
	for _, r := range records {
		lane := inbox.TaskKey(r.Event.TaskID) % lanes
		byLane[lane] = append(byLane[lane], r)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, lane := range byLane {
		group.Go(func() error {
			for _, r := range lane {
				if err := c.changeOne(ctx, r.Event.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *Change) changeOne(ctx context.Context, id string) error {
	err := c.Do(ctx, id)
	switch {
	case errors.Is(err, inbox.ErrState), errors.Is(err, inbox.ErrNotFound): // it has changed since it was listed
		c.skipped.Add(1)
	case err != nil:
		return err
	default:
		c.changed.Add(1)
	}
	return nil
}
