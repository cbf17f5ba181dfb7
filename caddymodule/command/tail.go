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
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
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
	completeFixed(cmd, "type", sample.Types...)
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

// follower follows the stream of a handler.
type follower struct {
	*session
	path   []string
	query  url.Values
	handle func(*control.Notice, json.RawMessage) error // an error ends it
	ready  func()                                       // called once the first stream has begun; may be nil
	lastID string
	left   int // notices left to handle; negative: no end
	pause  time.Duration
	misses int  // number of answers 404 in a row
	begun  bool // the first stream has begun
	failed bool // handle has returned an error
}

func (s *session) tail(ctx context.Context, query url.Values, lines int) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	s.noteUnknown(ctx, handler, query.Get(flagDestination))
	t := s.follower(handler, query, s.printNotice)
	if lines > 0 {
		t.left = lines
	}
	return t.run(ctx)
}

// follower makes a follower without an end.
func (s *session) follower(handler string, query url.Values, handle func(*control.Notice, json.RawMessage) error) *follower {
	return &follower{
		session: s, query: query, handle: handle, left: -1, pause: firstPause,
		path: []string{handler, "events", "stream"},
	}
}

// run follows one stream after the other, until the context ends or there is an end.
func (t *follower) run(ctx context.Context) error {
	for ctx.Err() == nil && t.left != 0 {
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			if t.failed || t.final(err) {
				return err
			}
			t.note("%s; trying again in %s", sentence(err), span(t.pause))
			// if the context ends the pause, it ends the loop too
			_ = t.environment.pause(ctx, t.pause)
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
	if !t.begun && t.ready != nil {
		t.ready()
	}
	t.begun, t.misses = true, 0
	begun := t.now()
	reader := newSSEReader(resp.Body, t.lastID, func() { watch.Reset(silence) })
	for t.left != 0 {
		event, err := reader.next()
		t.lastID = reader.lastID // a stream says where it begins, before its first notice
		if err != nil {
			if t.now().Sub(begun) >= silence {
				t.pause = firstPause // the stream worked, although nothing happened
			}
			return causeOf(ctx, err)
		}
		t.pause = max(firstPause, min(reader.retry, maxPause))
		var n control.Notice
		if err := json.Unmarshal(event.data, &n); err != nil {
			return fmt.Errorf("a notice is not what this version expects: %w", err)
		}
		if err := t.handle(&n, event.data); err != nil {
			t.failed = true
			return err
		}
		if t.left > 0 {
			t.left--
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

func (s *session) printNotice(n *control.Notice, document json.RawMessage) error {
	if s.json {
		return s.printLine(document)
	}
	if !s.titled && !s.aligned {
		s.print(s.table(noticeColumns, nil))
	}
	s.titled = true
	s.print(s.noticeLine(n))
	return s.stdout.err
}

// noticeColumns have widths, because notices are printed one by one.
var noticeColumns = []column{
	{title: "TIME", width: len(noticeTime), short: timeOnly},
	{title: "KIND", width: len(control.InQuarantine)},
	{title: "ID", rank: 1, width: 48, short: shortID},
	{title: "STATUS", rank: 3, width: len("in_progress")},
	{title: "TYPE", rank: 4, width: len("ecommercelistingset"), least: 8},
	{title: "TASK", rank: 5, width: 32, least: 8},
	{title: "DETAILS", rank: 2, width: 37, least: 37},
}

const noticeTime = "2006-01-02 15:04:05.000"

func timeOnly(s string) string { return s[max(0, len(s)-len("15:04:05.000")):] }

// noticeLine formats a notice. The details stand last and take the rest of the line; of what
// is about no event, all of it.
func (s *session) noticeLine(n *control.Notice) string {
	cells := []string{
		n.At.In(s.zone).Format(noticeTime), s.kind(n.Kind), quoted(n.ID), quoted(n.Status), quoted(n.Type), quoted(n.TaskID),
		strings.Join(s.noticeDetails(n), gap),
	}
	return s.printer.row(noticeColumns, cells, n.ID == "")
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
	switch {
	case n.Kind == control.Lost:
		add("asked %s", plural(int64(n.Asked), "time"))
	case n.Origin == inbox.FromAPI.String():
		add("from Fotor's API")
	}
	if n.Since != nil {
		add("waited for since %s", s.localTime(*n.Since))
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
