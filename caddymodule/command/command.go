// Package command is the command line of the gateway, caddy fotor-webhook. Its commands
// ask a running Caddy over the admin API, whose answers are the types of package
// control. Three do not: send posts callbacks to a URL, as Fotor does, mock plays Fotor
// with its API, and migrate moves one inbox into another, with inbox modules from Caddy's
// registry.
//
// Read the files in this order:
//   - command.go, session.go, exit.go: how a command is set up, run and ended
//   - environment.go: what a command uses of its surroundings, for tests to replace
//   - address.go, client.go: requests to the admin API; filter.go, destination.go: which
//     events, and which of their deliveries; resolve.go: which event and which handler an
//     id means
//   - then any command: status.go (with overview.go, destinations.go, check.go,
//     unattended.go), list.go, show.go (with task.go), tail.go (with sse.go), listen.go
//     (with listener.go, copier.go), bulk.go (replay and purge, with bulk_many.go), hold.go,
//     quarantine.go (with release.go, suspects.go), tasks.go, track.go, explain.go, backup.go;
//     send.go (with outgoing.go, sender.go, reply.go, summary.go); mock.go (with
//     mock_player.go); migrate.go (with migrate_config.go, migrate_run.go)
//   - text.go, table.go, ask.go: what is printed and asked; complete.go: completion
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
deliveries, over Caddy's admin endpoint. "send" posts callbacks to any URL, as
Fotor does; "mock" plays Fotor, with its API. "backup" copies the inbox of a
running gateway, "migrate" moves an inbox file into another inbox.

Times are local for people and RFC 3339 in UTC with --json. Texts that came from
outside are quoted when they hold control characters. Tables fit the terminal; in
a pipe their columns are whole and separated by tabs.
` + exitHelp

// addCommands makes a command the parent of all of this package.
func addCommands(parent *cobra.Command, env *environment) {
	// without these a mistyped command would print the help and succeed
	parent.Args, parent.RunE = cobra.NoArgs, help
	parent.AddCommand(
		statusCommand(env),
		listCommand(env),
		showCommand(env),
		tailCommand(env),
		listenCommand(env),
		replayCommand(env),
		purgeCommand(env),
		holdCommand(env),
		resumeCommand(env),
		quarantineCommand(env),
		tasksCommand(env),
		trackCommand(env),
		untrackCommand(env),
		explainCommand(env),
		backupCommand(env),
		migrateCommand(env),
		sendCommand(env),
		mockCommand(env),
	)
	setOutput(parent, env)
}

// setOutput sends help and usage errors where everything else goes.
func setOutput(cmd *cobra.Command, env *environment) {
	cmd.SetOut(env.stdout)
	cmd.SetErr(env.stderr)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%s: see '%s --help'", escapeText(err.Error()), c.CommandPath())
	})
}

// group makes a command that only has subcommands.
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
