package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// bulk is a command that changes one event, or many by filter.
type bulk struct {
	verb    string // in the command, the API's path and the question
	past    string
	skipped string // reasons for which events are skipped
	forGood bool   // an event is looked at before it is changed, unless its whole id is given
	one     func(*session, context.Context, string, target) error

	target target // from the flags
}

func replayCommand(env *environment) *cobra.Command {
	cmd := env.bulkCommand(bulk{
		verb: "replay", past: "replayed", one: (*session).replayOne,
		skipped: "changed by others just then, or gone",
	}, "Delivers events again", `
Makes events pending again, so that they are delivered once more: one, or all
that fit a filter, the oldest first. A pending event that waits for its next
attempt is due at once, and keeps its attempts; with a filter only if --state
names pending.

With several destinations, what one has taken is not delivered there again
because another has not: those deliveries are repeated that are pending or dead,
or all if none is. --destination chooses one. --to delivers elsewhere: what
--destination has not taken, or without it, all that fits to one more.

  caddy fotor-webhook replay d43f7d09-49b7
  caddy fotor-webhook replay 39371b3800cc4a7e9e24867b0dfdf25b
  caddy fotor-webhook replay --state dead --dry-run
  caddy fotor-webhook replay --state dead --since 24h --yes
  caddy fotor-webhook replay --state pending --yes
  caddy fotor-webhook replay --destination staging --state dead
  caddy fotor-webhook replay --destination removed --to app
  caddy fotor-webhook replay --since 3d --to new
`+bulkLong+exitHelpNo("the event was changed by others just then"))
	cmd.Flags().String(flagTo, "", "Deliver to this destination, in place of --destination if that is given")
	complete(cmd, flagTo, env.otherDestinations)
	return cmd
}

func purgeCommand(env *environment) *cobra.Command {
	return env.bulkCommand(bulk{
		verb: "purge", past: "purged", one: (*session).purgeOne,
		skipped: "being delivered just then, or gone", forGood: true,
	}, "Deletes events", `
Deletes events for good: one, or all that fit a filter, the oldest first.
Pending events go only if --state names them. With --destination only the
deliveries there are deleted, and an event with its last. An event that is given
by less than its whole id is asked about.

  caddy fotor-webhook purge d43f7d09-49b7
  caddy fotor-webhook purge --state delivered --until 3d --dry-run
  caddy fotor-webhook purge --state dead --yes
  caddy fotor-webhook purge --destination removed --state pending,dead
`+bulkLong+exitHelpNo("the event is being delivered"))
}

const bulkLong = idLong + `
With a filter it counts, asks, and changes no more events than it asked about.
Where there is no terminal to ask, it needs --yes or --dry-run. Ctrl-C stops it;
what was changed stays so.

--json prints one document, the counts; of a purge of one event nothing.
`

func (env *environment) bulkCommand(b bulk, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:               b.verb + " [<id>]",
		Short:             short,
		Long:              long,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	env.addFilterFlags(cmd)
	flags := cmd.Flags()
	flags.Int64("limit", 0, "The most events to "+b.verb+"; all if not given")
	flags.Bool("all", false, "All events, in place of a filter")
	flags.Bool("dry-run", false, "Only count")
	flags.BoolP("yes", "y", false, "Do not ask")
	completeNothing(cmd, "limit")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		b := b
		var err error
		if b.target, err = targetFlags(cmd); err != nil {
			return err
		}
		if b.target.to != "" { // it may have to be taken from where it is
			b.skipped = "being delivered or changed by others just then, or gone"
		}
		if len(args) == 1 {
			return s.bulkOne(ctx, cmd, b, args[0])
		}
		return s.bulkMany(ctx, cmd, b)
	})
}

func (s *session) bulkOne(ctx context.Context, cmd *cobra.Command, b bulk, arg string) error {
	for _, flag := range append(slices.Clone(control.FilterParams), "limit", "all") {
		if flag != flagDestination && cmd.Flags().Changed(flag) {
			return fmt.Errorf("--%s does not go with an id: expected an id or a filter", flag)
		}
	}
	at, err := s.locate(ctx, arg)
	if err != nil {
		return err
	}
	s.handler = at.handler
	if at.task != "" {
		if err := cmd.Flags().Set("task", at.task); err != nil {
			return err
		}
		return s.bulkMany(ctx, cmd, b)
	}
	if dry, _ := cmd.Flags().GetBool("dry-run"); dry {
		return s.bulkOneDry(ctx, b, at)
	}
	if yes, _ := cmd.Flags().GetBool("yes"); b.forGood && arg != at.id && !yes {
		if !s.canAsk() {
			return fmt.Errorf("there is no terminal to ask before a %s by less than a whole id: expected --yes, or the whole id %s", b.verb, at.id)
		}
		if err := s.confirm(ctx, fmt.Sprintf("%s %s%s?", b.verb, s.describe(at.event), b.target)); err != nil {
			return err
		}
	}
	return b.one(s, ctx, at.id, b.target)
}

// bulkOneDry tells which event would be changed.
func (s *session) bulkOneDry(ctx context.Context, b bulk, at located) error {
	e, _, err := get[control.Event](ctx, s.client, call{path: []string{at.handler, "events", at.id}})
	if err != nil {
		return err
	}
	if s.json {
		return s.printValue(control.Bulk{Matched: 1, Changed: 1, DryRun: true, Done: true})
	}
	s.printf("%s would be %s%s.\n", s.describe(&e), b.past, b.target)
	return nil
}

// describe tells in a few words which event it is.
func (s *session) describe(e *control.Event) string {
	return fmt.Sprintf("event %s (%s of task %s, %s, received %s)", s.shortID(e.ID), quoted(e.Status), cut(e.TaskID, 48), quoted(e.State), s.localTime(e.ReceivedAt))
}

func (s *session) replayOne(ctx context.Context, id string, t target) error {
	done, err := answerOf[control.Done](ctx, s, call{
		method: http.MethodPost, path: []string{"events", id, "replay"}, query: t.addTo(make(url.Values)),
	})
	if err != nil || s.json {
		return err
	}
	s.printf("%s is %s%s.\n", quoted(done.ID), s.state(done.State), t.pendingAt())
	return nil
}

func (s *session) purgeOne(ctx context.Context, id string, t target) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	_, err = s.client.ask(ctx, call{
		method: http.MethodDelete, path: []string{handler, "events", id}, query: t.addTo(make(url.Values)),
	})
	if err == nil && !s.json {
		s.printf("%s is deleted%s.\n", id, t)
	}
	return err
}

func (s *session) bulkQuery(cmd *cobra.Command) (url.Values, error) {
	query, err := s.filter(cmd)
	if err != nil {
		return nil, err
	}
	all, _ := cmd.Flags().GetBool("all")
	switch {
	case all && filtered(cmd):
		return nil, errors.New("--all means every event, so it does not go with a filter: expected one of them")
	case all:
		query.Set("all", "true")
	case !filtered(cmd):
		return nil, errors.New("nothing says which events: expected an id, a filter such as --state dead, or --all")
	}
	if cmd.Flags().Changed("limit") {
		limit, _ := cmd.Flags().GetInt64("limit")
		if limit < 1 {
			return nil, fmt.Errorf("--limit %d: expected 1 or more", limit)
		}
		query.Set("limit", strconv.FormatInt(limit, 10))
	}
	return query, nil
}
