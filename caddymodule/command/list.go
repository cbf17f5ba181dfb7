package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func listCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists events",
		Long: `
Lists the events in the inbox, the newest first. An event with several
destinations is pending while any delivery of it is, and dead if any is dead
then; the last column says where it is not delivered. With --destination it is
about the deliveries there.

  caddy fotor-webhook list
  caddy fotor-webhook list --state dead --since 24h --limit 0
  caddy fotor-webhook list --task 39371b3800cc4a7e9e24867b0dfdf25b --oldest-first
  caddy fotor-webhook list --destination staging --state pending,dead
  caddy fotor-webhook list --state dead --limit 0 --json | jq -r .lastAttempt.reason | sort | uniq -c

--json prints a line of JSON for each event.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	env.addFilterFlags(cmd)
	addLimitFlag(cmd)
	cmd.Flags().Bool("oldest-first", false, "The oldest first")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		query, err := env.filter(cmd)
		if err != nil {
			return err
		}
		if oldest, _ := cmd.Flags().GetBool("oldest-first"); oldest {
			query.Set("order", "asc")
		}
		limit, err := limitFlag(cmd)
		if err != nil {
			return err
		}
		return s.list(ctx, query, limit)
	})
}

func addLimitFlag(cmd *cobra.Command) {
	cmd.Flags().Int("limit", 50, "The most rows to print; 0 prints all")
	completeNothing(cmd, "limit")
}

func limitFlag(cmd *cobra.Command) (int, error) {
	limit, _ := cmd.Flags().GetInt("limit")
	if limit < 0 {
		return 0, fmt.Errorf("--limit %d: expected a number of rows, or 0 for all", limit)
	}
	return limit, nil
}

func (s *session) list(ctx context.Context, query url.Values, limit int) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	destination := query.Get(flagDestination)
	return listPages(ctx, s, lister{
		path:    []string{handler, "events"},
		query:   query,
		member:  "events",
		columns: eventColumns,
		row: func(raw json.RawMessage) ([]string, error) {
			var e control.Event
			err := json.Unmarshal(raw, &e)
			return s.eventRow(&e, destination != ""), err
		},
		none: func() {
			s.note("No event fits.")
			s.noteNothing(ctx, handler, query)
		},
	}, limit)
}

// lister is what to list, and how.
type lister struct {
	path    []string
	query   url.Values
	member  string // the member of the answer that has the rows
	columns []column
	row     func(json.RawMessage) ([]string, error)
	keep    func(json.RawMessage) (bool, error) // whether a row is wanted; nil if all are
	none    func()                              // called if there are no rows to print
	seen    func(map[string]json.RawMessage)    // called with each answer, unless nil
}

// listPages prints rows as their pages arrive, so that any number of them needs only the
// memory of a page.
func listPages(ctx context.Context, s *session, l lister, limit int) error {
	printed, t := 0, &table{printer: s.printer, columns: l.columns}
	more, err := s.eachPage(ctx, l, limit, func(rows []json.RawMessage, more bool) error {
		page, err := s.page(l, rows, t, more)
		if err != nil {
			return err
		}
		printed += len(rows)
		_, err = s.stdout.Write(page)
		return err
	})
	switch {
	case err != nil || s.json:
	case printed == 0:
		l.none()
	case more:
		s.note("There are more; --limit 0 lists all.")
	}
	return err
}

// eachPage calls f with page after page, and with whether another may follow. It reports
// whether there may be more rows than the limit.
func (s *session) eachPage(ctx context.Context, l lister, limit int, f func(rows []json.RawMessage, more bool) error) (more bool, err error) {
	if l.query == nil {
		l.query = make(url.Values)
	}
	for got := 0; ; {
		want := control.PageMax
		if limit > 0 && l.keep == nil {
			want = min(want, limit-got)
		}
		l.query.Set("limit", strconv.Itoa(want))
		answer, _, err := get[map[string]json.RawMessage](ctx, s.client, call{path: l.path, query: l.query})
		if err != nil {
			return false, err
		}
		if l.seen != nil {
			l.seen(answer)
		}
		var rows []json.RawMessage
		var next string
		if err := unmarshalPage(answer, l.member, &rows, &next); err != nil {
			return false, fmt.Errorf("the answer of %s is not what this version expects: %w", s.client.address, err)
		}
		if rows, err = l.wanted(rows); err != nil {
			return false, err
		}
		cut := limit > 0 && len(rows) > limit-got
		if cut {
			rows = rows[:limit-got]
		}
		got += len(rows)
		last := cut || next == "" || limit > 0 && got >= limit
		if len(rows) > 0 {
			if err := f(rows, !last); err != nil {
				return false, err
			}
		}
		if last {
			return cut || next != "", nil
		}
		l.query.Set("cursor", next)
	}
}

// wanted returns the rows that the lister keeps.
func (l *lister) wanted(rows []json.RawMessage) (kept []json.RawMessage, err error) {
	if l.keep == nil {
		return rows, nil
	}
	for _, raw := range rows {
		keep, err := l.keep(raw)
		if err != nil {
			return nil, fmt.Errorf("a row is not what this version expects: %w", err)
		}
		if keep {
			kept = append(kept, raw)
		}
	}
	return kept, nil
}

func unmarshalPage(answer map[string]json.RawMessage, member string, rows *[]json.RawMessage, next *string) error {
	if raw, ok := answer["next"]; ok {
		if err := json.Unmarshal(raw, next); err != nil {
			return err
		}
	}
	raw, ok := answer[member]
	if !ok {
		return fmt.Errorf("it has no %q", member)
	}
	return json.Unmarshal(raw, rows)
}

// page formats one page, which is a part of the table.
func (s *session) page(l lister, rows []json.RawMessage, t *table, more bool) ([]byte, error) {
	if s.json {
		var b bytes.Buffer
		for _, raw := range rows {
			line, err := jsonLine(raw)
			if err != nil {
				return nil, err
			}
			b.Write(line)
		}
		return b.Bytes(), nil
	}
	cells := make([][]string, 0, len(rows))
	for _, raw := range rows {
		row, err := l.row(raw)
		if err != nil {
			return nil, fmt.Errorf("a row is not what this version expects: %w", err)
		}
		cells = append(cells, row)
	}
	return []byte(t.part(cells, more)), nil
}

// eventColumns have widths, because pages are formatted one by one.
var eventColumns = []column{
	{title: "ID", width: 48, short: shortID},
	{title: "RECEIVED", rank: 3, width: len("2006-01-02 15:04:05"), short: withoutYear},
	{title: "STATE", rank: 1, width: len("superseded")},
	{title: "STATUS", rank: 4, width: len("in_progress")},
	{title: "TYPE", rank: 5, width: len("ecommercelistingset"), least: 8},
	{title: "TASK", rank: 6, width: 32, least: 8},
	{title: "ATTEMPTS", rank: 7, right: true},
	{title: "NOTE", rank: 2, width: 30, least: 14},
}

// eventRow formats an event. If the list is of one destination, so are its state and the
// note.
func (s *session) eventRow(e *control.Event, ofOne bool) []string {
	note := s.progressNote(e.Due, e.LastAttempt)
	if !ofOne && !aloneIn(e.Deliveries) {
		note = s.undelivered(e.Deliveries)
	}
	return []string{
		quoted(e.ID), s.localTime(e.ReceivedAt), s.state(e.State), quoted(e.Status),
		quoted(e.Type), quoted(e.TaskID), strconv.Itoa(e.Attempts), note,
	}
}

// progressNote is when the next attempt is, and why the last one failed.
func (s *session) progressNote(due *time.Time, last *control.Attempt) string {
	note := ""
	if last != nil {
		note = quoted(last.Reason)
	}
	if due == nil {
		return note
	}
	next := "due"
	if ahead := due.Sub(s.now()); ahead > 0 {
		next = "next in " + span(ahead)
	}
	if note != "" {
		next += ": "
	}
	return next + note
}

// maxUndelivered is how many destinations of an event a list names.
const maxUndelivered = 4

// undelivered tells where an event is not delivered, and why.
func (s *session) undelivered(deliveries []control.Delivery) string {
	var notes []string
	more := 0
	for _, d := range deliveries {
		switch {
		case d.State != inbox.Pending.String() && d.State != inbox.Dead.String():
		case len(notes) == maxUndelivered:
			more++
		default:
			note := quoted(d.Destination) + ": " + quoted(d.State)
			if why := s.progressNote(d.Due, d.LastAttempt); why != "" {
				note += " (" + why + ")"
			}
			notes = append(notes, note)
		}
	}
	if more > 0 {
		notes = append(notes, fmt.Sprintf("%d more", more))
	}
	return strings.Join(notes, ", ")
}
