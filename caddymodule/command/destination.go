package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The flags that name a destination, and the parameters of the API.
const (
	flagDestination = "destination"
	flagTo          = "to"
)

// addDestinationFlag adds the flag that names a destination. If it has to be one of the
// config, configured is true.
func (env *environment) addDestinationFlag(cmd *cobra.Command, usage string, configured bool) {
	cmd.Flags().String(flagDestination, "", usage)
	complete(cmd, flagDestination, env.destinationNames(configured))
}

// destinationFlag returns the destination that a flag names; "" if it is not given.
func destinationFlag(cmd *cobra.Command, flag string) (string, error) {
	if !cmd.Flags().Changed(flag) {
		return "", nil
	}
	name, _ := cmd.Flags().GetString(flag)
	if err := inbox.CheckDestination(name); err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	return name, nil
}

// target is which deliveries a command changes.
type target struct {
	destination string // "" for all
	to          string // where to deliver, if elsewhere
}

// targetFlags returns the target that the flags name. Not every command has --to.
func targetFlags(cmd *cobra.Command) (t target, err error) {
	if t.destination, err = destinationFlag(cmd, flagDestination); err != nil {
		return t, err
	}
	if t.to, err = destinationFlag(cmd, flagTo); err != nil {
		return t, err
	}
	if t.to != "" && t.to == t.destination {
		return t, errors.New("--to is the same as --destination: expected another destination, or no --to")
	}
	return t, nil
}

// String tells the target, to be added to what is done with events.
func (t target) String() string {
	switch {
	case t.destination != "" && t.to != "":
		return " from " + t.destination + " to " + t.to
	case t.to != "":
		return " to " + t.to
	case t.destination != "":
		return " at " + t.destination
	}
	return ""
}

// addTo adds the parameters of the API, and returns them.
func (t target) addTo(query url.Values) url.Values {
	if t.destination != "" {
		query.Set(flagDestination, t.destination)
	}
	if t.to != "" {
		query.Set(flagTo, t.to)
	}
	return query
}

// pendingAt tells where an event is pending after a replay.
func (t target) pendingAt() string {
	if t.to != "" {
		return " at " + t.to
	}
	return t.String()
}

// noteUnknown prints a note if a handler has no such destination. A filter that names one
// which never was fits nothing, and a slip of the pen would go unseen. It is only a hint,
// so it says nothing if it cannot find out.
func (s *session) noteUnknown(ctx context.Context, handler, destination string) {
	if destination == "" {
		return
	}
	h, _, err := get[control.Handler](ctx, s.client, call{path: []string{handler}})
	if err == nil && len(h.Destinations) > 0 && !slices.ContainsFunc(h.Destinations, func(d control.Destination) bool { return d.Name == destination }) {
		s.note("Note that %v.", noDestination(&h, destination))
	}
}

// noteNothing prints a note if nothing fits a filter, but might without a slip of the pen,
// or with a destination: an event that is dead at one and pending at another is pending.
func (s *session) noteNothing(ctx context.Context, handler string, query url.Values) {
	if destination := query.Get(flagDestination); destination != "" {
		s.noteUnknown(ctx, handler, destination)
		return
	}
	if !slices.Contains(strings.Split(query.Get("state"), ","), inbox.Dead.String()) {
		return
	}
	h, _, err := get[control.Handler](ctx, s.client, call{path: []string{handler}})
	if err != nil {
		return
	}
	var with []string
	for i := range h.Destinations {
		if d := &h.Destinations[i]; d.Deliveries != nil && d.Deliveries.Dead > 0 {
			with = append(with, quoted(d.Name))
		}
	}
	if len(h.Destinations) > 1 && len(with) > 0 {
		s.note("Note that events are dead at %s which are pending elsewhere. --destination finds them.", strings.Join(with, ", "))
	}
}

// alone reports whether a handler has nothing but the destination that every handler has
// had since before there were several. What is printed about it then names none. An older
// Caddy lists no destinations.
func alone(destinations []control.Destination) bool {
	return len(destinations) == 0 ||
		len(destinations) == 1 && destinations[0].Name == inbox.DefaultDestination && destinations[0].Configured
}

// aloneIn is alone for the deliveries of an event.
func aloneIn(deliveries []control.Delivery) bool {
	return len(deliveries) == 0 || len(deliveries) == 1 && deliveries[0].Destination == inbox.DefaultDestination
}

// leftBehind returns how many deliveries to a destination that no config names are pending
// and dead; 0 for one that a config names.
func leftBehind(d *control.Destination) (pending, dead int64) {
	if d.Configured || d.Deliveries == nil {
		return 0, 0
	}
	return d.Deliveries.Pending, d.Deliveries.Dead
}

// leftText tells how much was left behind.
func leftText(pending, dead int64) string {
	switch {
	case dead == 0:
		return plural(pending, "pending event")
	case pending == 0:
		return plural(dead, "dead event")
	}
	return count(pending) + " pending and " + plural(dead, "dead event")
}
