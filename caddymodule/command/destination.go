package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

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

// destinationNames completes with the names of destinations: those of the chosen handler,
// or of all if none is chosen. If configured is true, those that a config names.
func (env *environment) destinationNames(configured bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := env.adminClient(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		chosen, _ := cmd.Flags().GetString(flagHandler)
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		answer, _, err := get[control.Handlers](ctx, c, call{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for i := range answer.Handlers {
			h := &answer.Handlers[i]
			for j := range h.Destinations {
				d := &h.Destinations[j]
				name := quoted(d.Name)
				if (chosen == "" || chosen == h.Name) && (d.Configured || !configured) && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
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
