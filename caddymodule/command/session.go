package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// session is one run of a command.
type session struct {
	*environment
	printer
	client  *client
	handler string // as given, perhaps ""; see chosen
	json    bool
	titled  bool // the title line of notices was printed
}

// flags of commands that ask the admin API.
const (
	flagAddress = "address"
	flagConfig  = "config"
	flagAdapter = "adapter"
	flagHandler = "handler"
	flagJSON    = "json"
	flagColor   = "color"
)

// adminCommand completes a command that asks the admin API: it adds the flags for that,
// and sets what the command does.
func (env *environment) adminCommand(cmd *cobra.Command, do action) *cobra.Command {
	env.addAdminFlags(cmd)
	cmd.RunE = env.run(env.begin, do)
	return cmd
}

// localCommand completes a command that does not ask the admin API.
func (env *environment) localCommand(cmd *cobra.Command, do action) *cobra.Command {
	addOutputFlags(cmd)
	cmd.RunE = env.run(env.beginLocal, do)
	return cmd
}

func (env *environment) addAdminFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	handlerShort := "n"
	if flags.ShorthandLookup(handlerShort) != nil {
		handlerShort = "" // for tail, -n is the number of lines
	}
	flags.String(flagAddress, "", "The address to use to reach the admin API endpoint, if not the default")
	flags.StringP(flagConfig, "c", "", "Configuration file to use to parse the admin address, if --address is not used")
	flags.StringP(flagAdapter, "a", "", "Name of config adapter to apply (when --config is used)")
	flags.StringP(flagHandler, handlerShort, "", "Name of the handler; not needed if only one runs")
	complete(cmd, flagHandler, env.handlerNames)
	completeNothing(cmd, flagAddress)
	completeFixed(cmd, flagAdapter, "caddyfile")
	addOutputFlags(cmd)
}

func addOutputFlags(cmd *cobra.Command) {
	cmd.Flags().Bool(flagJSON, false, "Print JSON for scripts")
	cmd.Flags().String(flagColor, "auto", "When to use colours: auto, always or never")
	completeFixed(cmd, flagColor, "auto", "always", "never")
}

// begin makes a session from the flags of addAdminFlags.
func (env *environment) begin(cmd *cobra.Command) (*session, error) {
	s, err := env.beginLocal(cmd)
	if err != nil {
		return nil, err
	}
	s.handler, _ = cmd.Flags().GetString(flagHandler)
	if err := checkName(s.handler); err != nil {
		return nil, fmt.Errorf("--handler: %w", err)
	}
	s.client, err = env.adminClient(cmd)
	return s, err
}

// beginLocal makes a session from the flags of addOutputFlags.
func (env *environment) beginLocal(cmd *cobra.Command) (*session, error) {
	s := &session{environment: env, printer: printer{aligned: env.stdoutTerminal, width: env.lineWidth}}
	s.json, _ = cmd.Flags().GetBool(flagJSON)
	when, _ := cmd.Flags().GetString(flagColor)
	switch when {
	case "always":
		s.color, s.aligned = true, true
	case "auto":
		s.color = env.stdoutTerminal && env.getenv("NO_COLOR") == "" && env.getenv("TERM") != "dumb"
	case "never":
	default:
		return nil, fmt.Errorf("--color %q: expected auto, always or never", when)
	}
	return s, nil
}

func (env *environment) adminClient(cmd *cobra.Command) (*client, error) {
	address, _ := cmd.Flags().GetString(flagAddress)
	config, _ := cmd.Flags().GetString(flagConfig)
	adapter, _ := cmd.Flags().GetString(flagAdapter)
	address, err := adminAddress(address, config, adapter)
	if err != nil {
		return nil, err
	}
	c, err := newClient(address, env.transport)
	if err != nil {
		return nil, err
	}
	c.now = env.now
	return c, nil
}

func checkName(name string) error {
	if name != "" && !control.ValidName(name) {
		return fmt.Errorf("%q is no handler's name: expected 1 to 64 letters, digits, _ and -", name)
	}
	return nil
}

// chosen returns the name of the handler to ask: the one that was given, or the only one
// that runs.
func (s *session) chosen(ctx context.Context) (string, error) {
	if s.handler != "" {
		return s.handler, nil
	}
	names, err := s.client.handlers(ctx)
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", s.noHandler()
	case len(names) > 1:
		return "", fmt.Errorf("several handlers run, choose one with --handler: %s", strings.Join(names, ", "))
	}
	return names[0], nil
}

func (s *session) noHandler() error {
	return &exitError{exitNotFound, fmt.Errorf("no fotor_webhook handler runs in the Caddy at %s", s.client.address)}
}

// answerOf makes a request to the chosen handler; the call's path is relative to the
// handler's. With --json it prints the answer, and nothing is left to print.
func answerOf[T any](ctx context.Context, s *session, c call) (answer T, err error) {
	handler, err := s.chosen(ctx)
	if err != nil {
		return answer, err
	}
	c.path = append([]string{handler}, c.path...)
	answer, raw, err := get[T](ctx, s.client, c)
	if err == nil && s.json {
		s.printJSON(raw)
	}
	return answer, err
}

// handlers returns the names of the running handlers.
func (c *client) handlers(ctx context.Context) ([]string, error) {
	answer, _, err := get[control.Handlers](ctx, c, call{})
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(answer.Handlers))
	for i := range answer.Handlers {
		names = append(names, quoted(answer.Handlers[i].Name))
	}
	return names, nil
}

// now returns the time by the server's clock, from which times are that it tells.
func (s *session) now() time.Time {
	if s.client == nil {
		return s.environment.now()
	}
	return s.environment.now().Add(time.Duration(s.client.ahead.Load()))
}

// print writes text that is safe for a terminal.
func (s *session) print(text string) { fmt.Fprint(s.stdout, text) }

func (s *session) printf(format string, args ...any) { fmt.Fprintf(s.stdout, format, args...) }

// say writes a text that is safe for a terminal, wrapped at its width, and a line feed.
func (s *session) say(text string) { s.print(s.prose(text, 0) + "\n") }

// note writes a line for people to stderr.
func (s *session) note(format string, args ...any) {
	fmt.Fprintln(s.stderr, escapeText(fmt.Sprintf(format, args...)))
}

// printJSON writes one document.
func (s *session) printJSON(document []byte) { s.print(indent(bytes.TrimSpace(document)) + "\n") }

// printLine writes a document as one line.
func (s *session) printLine(document []byte) error {
	line, err := jsonLine(document)
	if err == nil {
		_, err = s.stdout.Write(line)
	}
	return err
}

func jsonLine(document []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, document); err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %w", err)
	}
	b.WriteByte('\n')
	return escapeJSON(b.Bytes()), nil
}

// printValue writes a value as one document.
func (s *session) printValue(v any) error {
	document, err := json.Marshal(v)
	if err == nil {
		s.printJSON(document)
	}
	return err
}
