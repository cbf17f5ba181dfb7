package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// completionTimeout bounds how long completion waits for the names of the handlers.
const completionTimeout = 2 * time.Second

// knownTypes are known task types of Fotor; there are more.
var knownTypes = []string{"avatar", "videoEnhancer", "text2img", "img2img", "ecommercelistingset"}

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

// handlerNames completes with the names of the running handlers.
func (env *environment) handlerNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := env.adminClient(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	names, err := c.handlers(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNothing keeps the shell from offering files.
func completeNothing(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		completeFixed(cmd, flag)
	}
}
