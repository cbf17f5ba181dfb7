package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

  caddy fotor-webhook replay d43f7d0975a061bf49b7ffab7d5cb30720da6a1949559304
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
		skipped: "being delivered just then, or gone",
	}, "Deletes events", `
Deletes events for good: one, or all that fit a filter, the oldest first.
Pending events go only if --state names them. With --destination only the
deliveries there are deleted, and an event with its last.

  caddy fotor-webhook purge d43f7d0975a061bf49b7ffab7d5cb30720da6a1949559304
  caddy fotor-webhook purge --state delivered --until 3d --dry-run
  caddy fotor-webhook purge --state dead --yes
  caddy fotor-webhook purge --destination removed --state pending,dead
`+bulkLong+exitHelpNo("the event is being delivered"))
}

const bulkLong = `
With a filter it asks before it changes anything. Where there is no terminal to
ask, it needs --yes or --dry-run.

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

func (s *session) bulkOne(ctx context.Context, cmd *cobra.Command, b bulk, id string) error {
	for _, flag := range append(slices.Clone(control.FilterParams), "limit", "all", "dry-run") {
		if flag != flagDestination && cmd.Flags().Changed(flag) {
			return fmt.Errorf("--%s does not go with an id: expected an id or a filter", flag)
		}
	}
	if err := checkEventID(id); err != nil {
		return err
	}
	return b.one(s, ctx, id, b.target)
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

func (s *session) bulkMany(ctx context.Context, cmd *cobra.Command, b bulk) error {
	query, err := s.bulkQuery(cmd)
	if err != nil {
		return err
	}
	b.target.addTo(query)
	dry, _ := cmd.Flags().GetBool("dry-run")
	yes, _ := cmd.Flags().GetBool("yes")
	if !dry && !yes && !s.canAsk() {
		return fmt.Errorf("there is no terminal to ask before a %s by filter: expected --yes or --dry-run", b.verb)
	}
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	path := []string{handler, b.verb}
	if dry {
		return s.bulkRun(ctx, b, call{path: path, query: dryRun(query)}, 0)
	}
	total := int64(0)
	if !yes || s.stderrTerminal { // the question and the bar need the count
		counted, _, err := get[control.Bulk](ctx, s.client, call{method: http.MethodPost, path: path, query: dryRun(query)})
		switch {
		case err != nil:
			return err
		case counted.Error != "":
			return fmt.Errorf("counting the events: %s", quoted(counted.Error))
		}
		total = counted.Changed
	}
	if !yes && total > 0 {
		question := fmt.Sprintf("%s %s of handler %s%s?", b.verb, plural(total, "event"), handler, b.target)
		if err := s.confirm(ctx, question); err != nil {
			return err
		}
	}
	return s.bulkRun(ctx, b, call{path: path, query: query}, total)
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

func dryRun(query url.Values) url.Values {
	dry := maps.Clone(query)
	dry.Set("dry_run", "true")
	return dry
}

// bulkRun makes the change and prints the result. On a terminal it shows its progress.
func (s *session) bulkRun(ctx context.Context, b bulk, c call, total int64) error {
	c.method = http.MethodPost
	var last control.Bulk
	var raw json.RawMessage
	var err error
	if total > 0 && s.stderrTerminal {
		last, raw, err = s.bulkProgress(ctx, b, c, total)
	} else {
		last, raw, err = get[control.Bulk](ctx, s.client, c)
	}
	if raw == nil {
		return err
	}
	if s.json {
		s.printJSON(raw)
	} else {
		s.say(b.result(last))
		if err == nil && last.Matched == 0 {
			s.noteNothing(ctx, c.path[0], c.query)
		}
	}
	if err == nil && last.Error != "" {
		err = errors.New(quoted(last.Error))
	}
	return err
}

func (b bulk) result(r control.Bulk) string {
	did, were := b.past, ""
	if r.DryRun {
		did, were = "would be "+b.past, "would be "
	}
	line := fmt.Sprintf("%s %s%s.", plural(r.Changed, "event"), did, b.target)
	if r.Skipped > 0 {
		line += fmt.Sprintf(" %s %sskipped (%s).", count(r.Skipped), were, b.skipped)
	}
	return line
}

// bulkProgress reads counts, line by line. If the answer breaks off, it returns the last
// line with the error.
func (s *session) bulkProgress(ctx context.Context, b bulk, c call, total int64) (last control.Bulk, raw json.RawMessage, err error) {
	c.header = http.Header{"Accept": {control.MediaLines}}
	resp, err := s.client.open(ctx, c)
	if err != nil {
		return last, nil, err
	}
	defer resp.Body.Close()
	bar := s.newBar(b.past, total)
	defer func() { bar.end(err == nil && last.Error == "") }()
	lines := json.NewDecoder(resp.Body)
	for {
		var line json.RawMessage
		err := lines.Decode(&line)
		var now control.Bulk
		if err == nil {
			err = json.Unmarshal(line, &now)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return last, raw, fmt.Errorf("the answer of %s broke off: %w", s.client.address, err)
		}
		last, raw = now, line
		if last.Done || last.Error != "" {
			return last, raw, nil
		}
		bar.set(last.Changed)
	}
}
