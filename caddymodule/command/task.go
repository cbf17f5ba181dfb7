package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// detailsAtOnce is how many events of a task are read at once.
const detailsAtOnce = 8

// showTask prints the history of a task: its events, the oldest first, with their
// deliveries and attempts. They are read a page at a time, as a task may have thousands.
func (s *session) showTask(ctx context.Context, handler, task string) error {
	printed := 0
	_, err := s.eachPage(ctx, lister{
		path:   []string{handler, "events"},
		query:  url.Values{"task": {task}, "order": {"asc"}},
		member: "events",
	}, 0, func(rows []json.RawMessage, _ bool) error {
		ids := make([]string, len(rows))
		for i, raw := range rows {
			var e control.Event
			if err := json.Unmarshal(raw, &e); err != nil {
				return fmt.Errorf("a row is not what this version expects: %w", err)
			}
			ids[i] = e.ID
		}
		for len(ids) > 0 {
			n := min(len(ids), 4*detailsAtOnce)
			if err := s.showEvents(ctx, handler, task, ids[:n], printed); err != nil {
				return err
			}
			ids, printed = ids[n:], printed+n
		}
		return nil
	})
	if err == nil && printed == 0 {
		err = &exitError{exitNotFound, fmt.Errorf("no event is of the task %q", task)}
	}
	return err
}

// showEvents prints some events of a task; before of them were printed already.
func (s *session) showEvents(ctx context.Context, handler, task string, ids []string, before int) error {
	details := make([]json.RawMessage, len(ids))
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(detailsAtOnce)
	for i, id := range ids {
		jobs.Go(func() (err error) {
			details[i], err = s.client.ask(ctx, call{path: []string{handler, "events", id}})
			if exitCode(err) == exitNotFound {
				err = nil // it was removed meanwhile
			}
			return err
		})
	}
	if err := jobs.Wait(); err != nil {
		return err
	}
	for i, raw := range details {
		switch {
		case raw == nil:
		case s.json:
			if err := s.printLine(raw); err != nil {
				return err
			}
		default:
			var e control.EventDetail
			if err := json.Unmarshal(raw, &e); err != nil {
				return fmt.Errorf("event %s is not what this version expects: %w", quoted(ids[i]), err)
			}
			if before+i == 0 {
				f := &fields{printer: s.printer}
				f.add("Task", quoted(task))
				f.add("Type", quoted(e.Type))
				s.print(f.String())
			}
			s.printHistory(&e, before+i+1)
		}
	}
	return s.stdout.err
}

// printHistory prints an event as a part of its task's history.
func (s *session) printHistory(e *control.EventDetail, number int) {
	s.printf("\n%s  %s  %s  %s\n", s.paint(fmt.Sprintf("%d. %s", number, quoted(e.Status)), text.Bold),
		s.state(e.State), s.localTimeWithAge(e.ReceivedAt), s.shortID(e.ID))
	if len(e.Deliveries) > 0 && !aloneIn(e.Deliveries) {
		s.print(s.deliveries(e.Deliveries))
	} else if e.Due != nil {
		s.printf("Next attempt: %s\n", s.localTimeWithAge(*e.Due))
	}
	s.print(s.attemptTable(e))
}
