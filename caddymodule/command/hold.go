package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func holdCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Holds deliveries",
		Long: `
Stops deliveries until "resume", or until the given time. Callbacks are still
accepted. The hold survives a restart of Caddy; a second one replaces the first.
With --destination only deliveries there stop, otherwise those to all.

  caddy fotor-webhook hold --reason "database migration" --for 30m
  caddy fotor-webhook hold --until "2026-11-23 18:00"
  caddy fotor-webhook hold --destination staging --reason "new release"

--json prints one document with the holds that are in force, of all
destinations.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	env.addDestinationFlag(cmd, "Only deliveries to this destination", true)
	flags := cmd.Flags()
	flags.String("reason", "", "What the hold is for")
	flags.String("for", "", "How long, such as 30m")
	flags.String("until", "", "Until when: RFC 3339, or local such as \"2026-11-23 18:00\"")
	completeNothing(cmd, "reason", "for", "until")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		request, err := env.holdRequest(cmd)
		if err != nil {
			return err
		}
		return s.holds(ctx, cmd, "hold", request)
	})
}

func resumeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Lets deliveries go on",
		Long: `
Ends a hold by hand: that of --destination, or without it those of all. An
upstream in trouble is tried at once.

  caddy fotor-webhook resume
  caddy fotor-webhook resume --destination staging

--json prints one document with the holds that are still in force.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	env.addDestinationFlag(cmd, "Only deliveries to this destination", true)
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		return s.holds(ctx, cmd, "resume", nil)
	})
}

func (env *environment) holdRequest(cmd *cobra.Command) (*control.HoldRequest, error) {
	flags := cmd.Flags()
	if flags.Changed("for") && flags.Changed("until") {
		return nil, errors.New("--for and --until exclude each other: expected one of them")
	}
	request := &control.HoldRequest{}
	request.Reason, _ = flags.GetString("reason")
	if flags.Changed("for") {
		value, _ := flags.GetString("for")
		d, err := parseDuration("for", value)
		if err != nil {
			return nil, err
		}
		request.For = d.String()
	}
	if flags.Changed("until") {
		value, _ := flags.GetString("until")
		until, ok := env.parseTime(value)
		if _, err := parseDuration("until", value); err == nil {
			return nil, fmt.Errorf("--until %q is a duration: expected --for %[1]s, or a time to come", value)
		}
		if !ok || !until.After(env.now()) {
			return nil, fmt.Errorf("--until %q: expected a time to come, such as %q",
				value, env.now().In(env.zone).Add(time.Hour).Format(time.DateTime))
		}
		until = until.UTC()
		request.Until = &until
	}
	return request, nil
}

// holds begins or ends a hold and prints the holds that are in force then.
func (s *session) holds(ctx context.Context, cmd *cobra.Command, verb string, body *control.HoldRequest) error {
	t, err := targetFlags(cmd)
	if err != nil {
		return err
	}
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	c := call{method: http.MethodPost, path: []string{handler, verb}, query: t.addTo(make(url.Values))}
	if body != nil {
		c.body = body
	}
	answer, raw, err := get[control.Holds](ctx, s.client, c)
	if err != nil {
		return err
	}
	if s.json {
		s.printJSON(raw)
		return nil
	}
	s.printHolds(handler, &answer)
	return nil
}

func (s *session) printHolds(handler string, answer *control.Holds) {
	if len(answer.Holds) == 0 {
		s.printf("Deliveries of %s go on.\n", handler)
	}
	going := slices.Clone(answer.Destinations)
	for _, hold := range answer.Holds {
		where := ""
		if len(answer.Destinations) > 1 {
			where = " to " + quoted(hold.Destination)
		}
		s.say(fmt.Sprintf("Deliveries of %s%s are held %s", handler, where, s.holdText(hold)))
		going = slices.DeleteFunc(going, func(name string) bool { return name == hold.Destination })
	}
	if len(answer.Holds) > 0 && len(answer.Destinations) > 1 && len(going) > 0 {
		for i := range going {
			going[i] = quoted(going[i])
		}
		s.say(fmt.Sprintf("Deliveries of %s to %s go on.", handler, strings.Join(going, ", ")))
	}
	if answer.UnderWay > 0 {
		s.printf("Attempts under way: %d\n", answer.UnderWay)
	}
}
