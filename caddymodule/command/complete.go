package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// completionTimeout bounds how long completion waits for the names of handlers and
// destinations: whoever has pressed Tab waits for it. Without an answer it offers nothing.
const completionTimeout = time.Second

// kinds are the kinds of notices.
var kinds = append(slices.Clone(control.NoticeKinds), control.Gap)

func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the command does not have the flag
	}
}

// completeFixed completes a flag with one of the values.
func completeFixed(cmd *cobra.Command, flag string, values ...string) {
	complete(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeList completes the last value of a comma-separated list.
func completeList(cmd *cobra.Command, flag string, values ...string) {
	complete(cmd, flag, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		var found []string
		for _, value := range values {
			if !strings.Contains(","+before, ","+value+",") {
				found = append(found, before+value)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// runningHandlers asks for the handlers; nil if that fails, as completion has nowhere to say
// why.
func (env *environment) runningHandlers(cmd *cobra.Command) []control.Handler {
	c, err := env.adminClient(cmd)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	answer, _, err := get[control.Handlers](ctx, c, call{})
	if err != nil {
		return nil
	}
	return answer.Handlers
}

// handlerNames completes with the names of the running handlers.
func (env *environment) handlerNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	handlers := env.runningHandlers(cmd)
	names := make([]string, 0, len(handlers))
	for i := range handlers {
		names = append(names, quoted(handlers[i].Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// destinationNames completes with the names of destinations: those of the chosen handler,
// or of all if none is chosen. If configured is true, those that a config names.
func (env *environment) destinationNames(configured bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		chosen := chosenHandler(cmd, args)
		handlers := env.runningHandlers(cmd)
		for i := range handlers {
			h := &handlers[i]
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

// otherDestinations completes --to: with the destinations that a config names, but not with
// that of --destination.
func (env *environment) otherDestinations(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, directive := env.destinationNames(true)(cmd, args, typed)
	from, _ := cmd.Flags().GetString(flagDestination)
	return slices.DeleteFunc(names, func(name string) bool { return name == from }), directive
}

// chosenHandler returns the handler that a command names so far: with a flag, or status with
// an argument.
func chosenHandler(cmd *cobra.Command, args []string) string {
	if chosen, _ := cmd.Flags().GetString(flagHandler); chosen != "" {
		return chosen
	}
	if cmd.Name() == statusName && len(args) > 0 {
		return args[0]
	}
	return ""
}

// completeNothing keeps the shell from offering files.
func completeNothing(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		completeFixed(cmd, flag)
	}
}
