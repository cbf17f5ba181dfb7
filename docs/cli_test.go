package docs

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// commandLine returns the command "caddy fotor-webhook" with its subcommands.
func commandLine(t *testing.T) *cobra.Command {
	t.Helper()
	registered, ok := caddycmd.Commands()["fotor-webhook"]
	require.True(t, ok)
	root, cmd := &cobra.Command{Use: "caddy"}, &cobra.Command{
		Use: registered.Name, Short: registered.Short, Long: registered.Long,
	}
	registered.CobraFunc(cmd)
	root.AddCommand(cmd)
	return cmd
}

// flagUsage matches a flag in the help: its short form, its long form, and its meaning.
var flagUsage = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[\w-]+)(?: +(\S.*))?$`)

func walk(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, child := range cmd.Commands() {
		walk(child, f)
	}
}

// TestCommandsAndFlags compares the commands and flags with those on the page that
// describes them.
func TestCommandsAndFlags(t *testing.T) {
	root := commandLine(t)
	var commands, flags []string
	walk(root, func(cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.Contains(t, cmd.Long, "Exit codes:", cmd.CommandPath())
		require.Contains(t, cmd.Long, "  0  done\n  1  failed", cmd.CommandPath())
		if !cmd.HasSubCommands() {
			path := strings.TrimPrefix(cmd.CommandPath(), root.CommandPath()+" ")
			_, args, _ := strings.Cut(cmd.Use, " ")
			commands = append(commands, strings.TrimSpace(path+" "+args))
			require.Contains(t, cmd.Long, "\n  caddy fotor-webhook ", "no example: "+path)
			require.Contains(t, cmd.Long, "--json", path)
		}
		for _, match := range flagUsage.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
			require.NotEmpty(t, match[3], cmd.CommandPath()+" "+match[2])
			flags = append(flags, match[2])
			if match[1] != "" {
				flags = append(flags, match[1])
			}
		}
	})
	require.ElementsMatch(t, commands, firstNames(table(t, "docs/cli.md", "command")))

	described := make(map[string]bool)
	_, prose := split(t, read(t, "docs/cli.md"))
	for line := range strings.Lines(prose) {
		if strings.HasPrefix(line, "| `-") {
			for _, name := range named(strings.Split(line, " | ")[0]) {
				described[name] = true
			}
		}
	}
	for _, flag := range flags {
		require.True(t, described[flag], "docs/cli.md has no row for "+flag)
	}
	for flag := range described {
		require.Contains(t, flags, flag, "docs/cli.md describes a flag that is not there")
	}
}

// TestCommandExamples parses every example of the help and of the page as the command line
// would.
func TestCommandExamples(t *testing.T) {
	var examples []string
	add := func(text string) {
		for line := range strings.Lines(text) {
			if _, command, found := strings.Cut(line, "caddy fotor-webhook "); found && !strings.Contains(line, "`") {
				examples = append(examples, command)
			}
		}
	}
	walk(commandLine(t), func(cmd *cobra.Command) { add(cmd.Long) })
	for _, fence := range fencesOf(t, "docs/cli.md", "sh") {
		add(fence.text)
	}
	require.Greater(t, len(examples), 30)
	for _, example := range examples {
		cmd, args, err := commandLine(t).Find(words(example))
		require.NoError(t, err, example)
		require.False(t, cmd.HasSubCommands(), example)
		require.NoError(t, cmd.ParseFlags(args), example)
		require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), example)
	}
}

// words splits a command as a shell does, as far as the examples need it, and leaves out
// what is done with its output.
func words(command string) []string {
	var found []string
	for i, part := range strings.Split(strings.TrimSpace(command), `"`) {
		if i%2 == 1 {
			found = append(found, part)
			continue
		}
		for word := range strings.FieldsSeq(part) {
			if strings.HasPrefix(word, "|") || strings.HasPrefix(word, ">") {
				return found
			}
			found = append(found, word)
		}
	}
	return found
}

func TestExitCodes(t *testing.T) {
	var codes []string
	for _, row := range table(t, "docs/cli.md", "code") {
		codes = append(codes, row[0])
	}
	require.Equal(t, []string{"0", "1", "4", "5"}, codes)
}
