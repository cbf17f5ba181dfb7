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
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// countTime is how long the events are counted before a question. More of them than are
// counted within it are many in any case.
const countTime = 10 * time.Second

// bulkMany changes the events that fit a filter: it counts them, asks, changes them and
// tells how many.
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
	c := call{method: http.MethodPost, path: []string{handler, b.verb}, query: query}
	if dry {
		c.query = dryRun(query)
		return s.bulkRun(ctx, b, c, tally{})
	}
	var counted tally
	if !yes || s.stderrTerminal { // the question and the bar need the count
		if counted, err = s.countFirst(ctx, c); err != nil {
			return err
		}
	}
	if !yes && counted.events > 0 {
		question := fmt.Sprintf("%s %s of handler %s%s?", b.verb, counted, handler, b.target)
		if err := s.confirm(ctx, question); err != nil {
			return err
		}
		if counted.whole { // and not those that have come to fit since
			c.query.Set("limit", strconv.FormatInt(counted.events, 10))
		}
	}
	return s.bulkRun(ctx, b, c, counted)
}

// tally is how many events fit.
type tally struct {
	events int64
	whole  bool // all were counted
}

func (t tally) String() string {
	if t.whole {
		return plural(t.events, "event")
	}
	return "at least " + plural(t.events, "event")
}

func dryRun(query url.Values) url.Values {
	dry := maps.Clone(query)
	dry.Set("dry_run", "true")
	return dry
}

// countFirst counts the events that a change would be about, for a limited time.
func (s *session) countFirst(ctx context.Context, c call) (tally, error) {
	c.query = dryRun(c.query)
	timed, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	shown, began := false, s.now()
	last, raw, err := s.eachCount(timed, c, func(now control.Bulk) {
		if s.stderrTerminal && s.now().Sub(began) > time.Second {
			fmt.Fprintf(s.stderr, "\rcounting: %s so far", count(now.Changed))
			shown = true
		}
	})
	if shown {
		fmt.Fprintf(s.stderr, "\r%s\r", strings.Repeat(" ", 60))
	}
	switch {
	case err != nil && ctx.Err() == nil && timed.Err() != nil && raw != nil:
		return tally{events: last.Changed}, nil
	case err != nil:
		return tally{}, err
	case last.Error != "":
		return tally{}, fmt.Errorf("counting the events: %s", quoted(last.Error))
	}
	return tally{events: last.Changed, whole: true}, nil
}

// eachCount makes a change, or counts what it would be, and calls f with the counts that
// arrive meanwhile. It returns the last ones. If the answer breaks off, it returns those
// with the error.
func (s *session) eachCount(ctx context.Context, c call, f func(control.Bulk)) (last control.Bulk, raw json.RawMessage, err error) {
	c.header = http.Header{"Accept": {control.MediaLines}}
	resp, err := s.client.open(ctx, c)
	if err != nil {
		return last, nil, err
	}
	defer resp.Body.Close()
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
		f(last)
	}
}

// bulkRun makes the change, or counts what it would be, shows its progress, and prints the
// result.
func (s *session) bulkRun(ctx context.Context, b bulk, c call, counted tally) error {
	progress := s.newProgress(b.past, counted.events)
	last, raw, err := s.eachCount(ctx, c, func(now control.Bulk) { progress.set(now.Changed + now.Skipped) })
	progress.end(last.Changed+last.Skipped, err == nil && last.Error == "")
	switch {
	case raw == nil:
		return err
	case s.json:
		s.printJSON(raw)
	case err == nil && last.Error == "" && last.Matched == 0:
		s.printNothing(ctx, b, c)
	default:
		s.say(b.result(last, counted, err != nil))
	}
	if err == nil && last.Error != "" {
		err = errors.New(quoted(last.Error))
	}
	return err
}

// result tells how many events were changed. If the answer broke off, there may be more.
func (b bulk) result(r control.Bulk, counted tally, brokeOff bool) string {
	did, were := b.past, ""
	if r.DryRun {
		did, were = "would be "+b.past, "would be "
	}
	what := plural(r.Changed, "event")
	if !r.Done && counted.events > r.Changed {
		what = count(r.Changed) + " of " + counted.String()
	}
	if brokeOff {
		what = "At least " + what
	}
	line := what + " " + did + b.target.String() + "."
	if r.Skipped > 0 {
		line += fmt.Sprintf(" %s %sskipped (%s).", count(r.Skipped), were, b.skipped)
	}
	return line
}

// printNothing tells that nothing fits, and why that may be.
func (s *session) printNothing(ctx context.Context, b bulk, c call) {
	did := "no event was " + b.past
	if c.query.Get("dry_run") != "" {
		did = "no event would be " + b.past
	}
	s.printf("Nothing matches%s: %s.\n", s.filterText(c.query), did)
	s.noteNothing(ctx, c.path[0], c.query)
	if !c.query.Has("state") && !c.query.Has(flagDestination) && b.target.to == "" {
		s.notePending(ctx, c.path[0], b)
	}
}

// notePending prints a note if there are pending events, which a filter without states
// leaves alone.
func (s *session) notePending(ctx context.Context, handler string, b bulk) {
	h, _, err := get[control.Handler](ctx, s.client, call{path: []string{handler}})
	if err != nil || h.Events == nil || h.Events.Pending == 0 {
		return // it is only a hint
	}
	s.note("Note that pending events are only %s if --state names them.", b.past)
}

// filterText returns a filter as the flags that make it, with local times.
func (s *session) filterText(query url.Values) string {
	var text strings.Builder
	for _, name := range control.FilterParams {
		value := query.Get(name)
		if value == "" {
			continue
		}
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			value = strconv.Quote(s.localTime(at))
		}
		fmt.Fprintf(&text, " --%s %s", name, quoted(value))
	}
	return text.String()
}
