// Package command is the command line of the gateway, caddy fotor-webhook. It
// asks a running Caddy over its admin API, whose answers are the types of
// package control. Two commands need none: send talks to a gateway's URL as Fotor
// does, and migrate moves one inbox into another, whose modules it has from
// Caddy's registry.
//
// Files: one for each group of commands; client.go (the admin API),
// environment.go (the world that a command sees), text.go and table.go (what
// people read), exit.go (exit codes).
package command

import (
	"fmt"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "fotor-webhook",
		Usage: "<command>",
		Short: "Looks into and steers a running Fotor webhook gateway, and sends test callbacks",
		Long:  rootLong,
		CobraFunc: func(cmd *cobra.Command) {
			addCommands(cmd, systemEnvironment())
		},
	})
}

const rootLong = `
Looks into the inbox of a running Fotor webhook gateway and steers its
deliveries, over Caddy's admin endpoint. "send" stands in for Fotor and posts
callbacks to any URL. "backup" copies the inbox of a running gateway, "migrate"
moves an inbox file into another inbox.

Times are local for people and RFC 3339 in UTC with --json. Texts that came from
outside are quoted when they hold control characters.
` + exitHelp

// addCommands makes a command the parent of all of this package.
func addCommands(parent *cobra.Command, env *environment) {
	// a mistyped command would print the help and succeed without these
	parent.Args, parent.RunE = cobra.NoArgs, help
	parent.AddCommand(
		statusCommand(env),
		listCommand(env),
		showCommand(env),
		tailCommand(env),
		replayCommand(env),
		purgeCommand(env),
		holdCommand(env),
		resumeCommand(env),
		quarantineCommand(env),
		explainCommand(env),
		backupCommand(env),
		migrateCommand(env),
		sendCommand(env),
	)
	setOutput(parent, env)
}

// setOutput lets help and usage errors go where everything else does.
func setOutput(cmd *cobra.Command, env *environment) {
	cmd.SetOut(env.stdout)
	cmd.SetErr(env.stderr)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%s: see '%s --help'", escapeText(err.Error()), c.CommandPath())
	})
}

// group makes a command that only has others below it.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Args:  cobra.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(commands...)
	return cmd
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }
