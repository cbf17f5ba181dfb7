package command

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
)

// addFilterFlags adds the flags that choose events.
func (env *environment) addFilterFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	env.addDestinationFlag(cmd, "Only events that go to this destination; their state is that of the delivery there", false)
	flags.StringSlice("state", nil, "Only events in these states: "+strings.Join(control.StateNames(), ", "))
	flags.String("task", "", "Only events of the Fotor task with this id")
	flags.String("type", "", "Only events of tasks of this type, such as avatar")
	flags.String("since", "", "Only events that arrived then or later: a time, or a duration such as 2h for so long ago")
	flags.String("until", "", "Only events that arrived before: a time, or a duration such as 15m for so long ago")
	completeList(cmd, "state", control.StateNames()...)
	completeFixed(cmd, "type", sample.Types...)
	completeNothing(cmd, "task", "since", "until")
}

// filter returns the parameters of the API for the flags of addFilterFlags.
func (env *environment) filter(cmd *cobra.Command) (url.Values, error) {
	query := make(url.Values)
	if err := listFilter(cmd, query, "state", control.StateNames()); err != nil {
		return nil, err
	}
	if err := textFilters(cmd, query); err != nil {
		return nil, err
	}
	return query, env.filterTimes(cmd, query)
}

// listFilter adds a parameter for the values of a flag, which must all be known.
func listFilter(cmd *cobra.Command, query url.Values, name string, known []string) error {
	chosen, _ := cmd.Flags().GetStringSlice(name)
	if len(chosen) == 0 && cmd.Flags().Changed(name) { // such as of a shell variable that is not set
		return fmt.Errorf("--%s is empty: expected %s", name, strings.Join(known, ", "))
	}
	for _, value := range chosen {
		if !slices.Contains(known, value) {
			return fmt.Errorf("--%s %q: expected %s", name, value, strings.Join(known, ", "))
		}
	}
	if len(chosen) > 0 {
		query.Set(name, strings.Join(chosen, ","))
	}
	return nil
}

// textFilters adds the parameters destination, task and type.
func textFilters(cmd *cobra.Command, query url.Values) error {
	destination, err := destinationFlag(cmd, flagDestination)
	if err != nil {
		return err
	}
	if destination != "" {
		query.Set(flagDestination, destination)
	}
	for _, name := range []string{"task", "type"} {
		if !cmd.Flags().Changed(name) {
			continue
		}
		value, _ := cmd.Flags().GetString(name)
		if value == "" {
			return fmt.Errorf("--%s is empty: expected the exact %[1]s", name)
		}
		query.Set(name, value)
	}
	return nil
}

// filterTimes turns durations into times, so that they mean the same for every page, and
// for a dry run and the change after it.
func (env *environment) filterTimes(cmd *cobra.Command, query url.Values) error {
	now := env.now()
	times := make(map[string]time.Time)
	for _, name := range []string{"since", "until"} {
		if !cmd.Flags().Changed(name) {
			continue
		}
		value, _ := cmd.Flags().GetString(name)
		t, ok := env.parseTime(value)
		if !ok {
			ago, err := caddy.ParseDuration(value)
			if err != nil || ago < 0 {
				return fmt.Errorf("--%s %q: expected a time such as %s or %q, or a duration such as 15m, 2h or 3d",
					name, value, now.In(env.zone).Format(time.RFC3339), now.In(env.zone).Format(time.DateTime))
			}
			t = now.Add(-ago)
		}
		query.Set(name, t.UTC().Format(time.RFC3339Nano))
		times[name] = t
	}
	since, until := times["since"], times["until"]
	switch {
	case since.After(now):
		return fmt.Errorf("--since is %s, which is to come: expected a time that has passed, or a duration such as 2h for so long ago", env.localTime(since))
	case !since.IsZero() && !until.IsZero() && !since.Before(until):
		return fmt.Errorf("--until is %s, no later than --since, %s: expected a later time, such as --since 2d --until 1d", env.localTime(until), env.localTime(since))
	}
	return nil
}

// filtered reports whether any flag of addFilterFlags was given.
func filtered(cmd *cobra.Command) bool {
	return slices.ContainsFunc(control.FilterParams, cmd.Flags().Changed)
}

var eventIDRegexp = regexp.MustCompile(`^[0-9a-f]{48}$`)
