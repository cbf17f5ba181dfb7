package command

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func explainCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain <ip>",
		Short: "Says whether a caller would be let in",
		Long: `
Says whether a caller with that address would be let in, and why. With
--forwarded-for the address is a proxy's, which forwards for those in the
header.

  caddy fotor-webhook explain 54.212.95.175
  caddy fotor-webhook explain 10.0.0.5 --forwarded-for "203.0.113.9, 54.212.95.175"

--json prints one document.
` + exitHelpNo("the caller would be refused"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().String("forwarded-for", "", "The value of the header X-Forwarded-For")
	completeNothing(cmd, "forwarded-for")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		ip, err := netip.ParseAddr(args[0])
		if err != nil {
			return fmt.Errorf("%q is no IP address: expected one such as 54.212.95.175 or 2001:db8::1", args[0])
		}
		query := url.Values{"ip": {ip.String()}}
		if cmd.Flags().Changed("forwarded-for") {
			value, _ := cmd.Flags().GetString("forwarded-for")
			query.Set("forwarded_for", value)
		}
		return s.explain(ctx, query)
	})
}

func (s *session) explain(ctx context.Context, query url.Values) error {
	answer, err := answerOf[control.Explanation](ctx, s, call{path: []string{"explain"}, query: query})
	if err != nil {
		return err
	}
	if !s.json {
		s.printExplanation(&answer)
	}
	if !answer.Allowed {
		return exitQuietly(exitNo)
	}
	return nil
}

func (s *session) printExplanation(e *control.Explanation) {
	for i, step := range e.Steps {
		number := strconv.Itoa(i+1) + ". "
		s.print(number + s.prose(quoted(step), len(number)) + "\n")
	}
	for _, warning := range e.Warnings {
		s.say(s.paint("Warning: "+quoted(warning), text.FgYellow))
	}
	if !e.Allowed {
		s.print(s.paint("refused", text.FgRed) + "\n")
		return
	}
	allowed := s.paint("allowed", text.FgGreen)
	if r := e.Rule; r != nil {
		allowed += fmt.Sprintf(" by %s %s (%s)", quoted(r.Option), quoted(r.Value), quoted(r.Range))
	}
	s.say(allowed)
}
