package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second

	// silence is how long nothing may arrive on a stream before it is taken for dead. A
	// comment should arrive every 15 s.
	silence = 45 * time.Second

	// maxNotFound is how many times in a row a handler may be missing. During a restart it
	// is for a moment; after more than that it has been removed.
	maxNotFound = 5
)

func tailCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follows what happens",
		Long: `
Prints what happens as it happens: callbacks that were accepted, attempts, holds.
It goes on over reloads and restarts of Caddy, and says so if it missed
anything. Ctrl-C ends it.

  caddy fotor-webhook tail
  caddy fotor-webhook tail --kind dead,quarantined
  caddy fotor-webhook tail --task 39371b3800cc4a7e9e24867b0dfdf25b --json
  caddy fotor-webhook tail --destination staging --kind retried,dead
  caddy fotor-webhook tail --kind accepted -n 1

A line names the destination, unless that is "default".

-n is the number of lines here; --handler has no short form.
--json prints a line of JSON for each notice.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringSlice("kind", nil, "Only notices of these kinds: "+strings.Join(kinds, ", "))
	flags.String("task", "", "Only notices of the Fotor task with this id")
	flags.String("type", "", "Only notices of tasks of this type")
	flags.IntP("lines", "n", 0, "End after so many lines")
	env.addDestinationFlag(cmd, "Only notices about attempts at this destination and its holds", false)
	completeList(cmd, "kind", kinds...)
	completeFixed(cmd, "type", knownTypes...)
	completeNothing(cmd, "task", "lines")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		query, err := tailQuery(cmd)
		if err != nil {
			return err
		}
		lines, _ := cmd.Flags().GetInt("lines")
		if cmd.Flags().Changed("lines") && lines < 1 {
			return fmt.Errorf("--lines %d: expected 1 or more", lines)
		}
		return s.tail(ctx, query, lines)
	})
}

func tailQuery(cmd *cobra.Command) (url.Values, error) {
	query := make(url.Values)
	if err := listFilter(cmd, query, "kind", kinds); err != nil {
		return nil, err
	}
	return query, textFilters(cmd, query)
}

// follower is a running tail.
type follower struct {
	*session
	path   []string
	query  url.Values
	lastID string
	left   int // lines left to print; negative: no end
	pause  time.Duration
	misses int // number of answers 404 in a row
	begun  bool
}

func (s *session) tail(ctx context.Context, query url.Values, lines int) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	s.noteUnknown(ctx, handler, query.Get(flagDestination))
	t := &follower{
		session: s, query: query, left: lines, pause: firstPause,
		path: []string{handler, "events", "stream"},
	}
	if lines == 0 {
		t.left = -1
	}
	for ctx.Err() == nil && t.left != 0 {
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			if s.stdout.err != nil || t.final(err) {
				return err
			}
			s.note("%s; trying again in %s", sentence(err), span(t.pause))
			// if the context ends the pause, it ends the loop too
			_ = s.environment.pause(ctx, t.pause)
			t.pause = min(2*t.pause, maxPause)
		}
	}
	return nil
}

// sentence describes why a stream ended.
func sentence(err error) string {
	if errors.Is(err, io.EOF) {
		return "The stream ended"
	}
	return "The stream ended: " + err.Error()
}

// final reports whether trying again makes no sense.
func (t *follower) final(err error) bool {
	if !t.begun {
		return true
	}
	var status *statusError
	if !errors.As(err, &status) {
		return false // not running at the moment, or the connection broke
	}
	switch {
	case status.status == http.StatusNotFound:
		t.misses++
		return t.misses >= maxNotFound
	case status.status >= http.StatusInternalServerError || status.status == http.StatusTooManyRequests:
		return false
	}
	return true
}

// follow reads one stream until all lines that were asked for are printed. If the stream
// ends before that, it returns an error.
func (t *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() {
		cancel(fmt.Errorf("nothing came for %s", span(silence)))
	})
	defer watch.Stop()

	header := http.Header{"Accept": {control.MediaEvents}}
	if t.lastID != "" {
		header.Set("Last-Event-ID", t.lastID)
	}
	resp, err := t.client.open(ctx, call{path: t.path, query: t.query, header: header})
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()
	t.begun, t.misses = true, 0
	begun := t.now()
	reader := newSSEReader(resp.Body, t.lastID, func() { watch.Reset(silence) })
	for t.left != 0 {
		event, err := reader.next()
		if err != nil {
			if t.now().Sub(begun) >= silence {
				t.pause = firstPause // the stream worked, although nothing happened
			}
			return causeOf(ctx, err)
		}
		t.lastID, t.pause = reader.lastID, max(firstPause, min(reader.retry, maxPause))
		if err := t.notice(event); err != nil {
			return err
		}
	}
	return nil
}

// causeOf returns why the context ended, if it did, or else the error.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (t *follower) notice(event sseEvent) error {
	var n control.Notice
	if err := json.Unmarshal(event.data, &n); err != nil {
		return fmt.Errorf("a notice is not what this version expects: %w", err)
	}
	if t.json {
		if err := t.printLine(event.data); err != nil {
			return err
		}
	} else {
		t.print(t.noticeLine(&n))
	}
	if t.stdout.err != nil {
		return t.stdout.err
	}
	if t.left > 0 {
		t.left--
	}
	return nil
}

// noticeLine formats a notice for people. The details stand last, so that the columns
// before them stay aligned.
func (s *session) noticeLine(n *control.Notice) string {
	parts := []string{n.At.In(s.zone).Format("15:04:05.000"), s.kind(n.Kind)}
	if n.ID != "" {
		parts = append(parts, s.shortID(n.ID), fmt.Sprintf("%-11s", quoted(n.Status)),
			cut(n.Type, 32), "task "+cut(n.TaskID, 48))
	}
	return strings.TrimRight(strings.Join(append(parts, s.noticeDetails(n)...), "  "), " ") + "\n"
}

func (s *session) noticeDetails(n *control.Notice) []string {
	var details []string
	add := func(format string, args ...any) { details = append(details, fmt.Sprintf(format, args...)) }
	if n.Kind == control.Gap {
		if n.Missed > 0 {
			add("%s missing here", plural(n.Missed, "notice")+isAre(n.Missed))
		} else {
			add("notices may be missing here: the gateway was restarted")
		}
	}
	switch {
	case n.Destination == "" || n.Destination == inbox.DefaultDestination:
	case n.ID == "":
		add("deliveries to %s", quoted(n.Destination))
	default:
		add("to %s", quoted(n.Destination))
	}
	if n.Attempt > 0 {
		add("attempt %d", n.Attempt)
	}
	if n.UpstreamStatus > 0 {
		add("HTTP %d", n.UpstreamStatus)
	}
	if n.DurationMS > 0 {
		add("took %s", latency(milliseconds(n.DurationMS)))
	}
	if n.SourceIP != "" {
		add("from %s", quoted(n.SourceIP))
	}
	if n.QuarantineID > 0 {
		add("quarantine %d", n.QuarantineID)
	}
	if n.Problems > 0 {
		add("%s", plural(int64(n.Problems), "problem"))
	}
	if n.By != "" {
		add("by %s", quoted(n.By))
	}
	if n.Until != nil {
		add("until %s", s.localTime(*n.Until))
	}
	if n.Reason != "" {
		add("%s", quoted(n.Reason))
	}
	if n.Due != nil {
		add("next at %s", s.localTime(*n.Due))
	}
	return details
}

func isAre(n int64) string {
	if n == 1 {
		return " is"
	}
	return " are"
}
