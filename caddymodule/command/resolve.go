package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// askedAtOnce is how many handlers are asked at once for an event.
const askedAtOnce = 8

// located is what an argument stands for: an event, or a task with several events.
type located struct {
	handler string
	id      string         // of the event; "" for a task
	task    string         // "" for an event
	event   *control.Event // nil if the argument is a whole id of the only handler
}

// candidate is an event that an argument may stand for.
type candidate struct {
	handler string
	control.Event
}

// locate finds out what an argument stands for: the id of an event, the beginning of one,
// or the id of a task. Without --handler it asks all handlers, and chooses the one that
// has it.
func (s *session) locate(ctx context.Context, arg string) (located, error) {
	if err := checkArgument(arg); err != nil {
		return located{}, err
	}
	names, err := s.candidates(ctx)
	if err != nil {
		return located{}, err
	}
	if eventIDRegexp.MatchString(arg) && len(names) == 1 {
		return located{handler: names[0], id: arg}, nil
	}
	answers, err := s.findAt(ctx, names, arg)
	if err != nil {
		return located{}, err
	}
	var fit []candidate
	var ofTask []string
	more := false
	for i, name := range names {
		found := &answers[i]
		for j := range found.Events {
			fit = append(fit, candidate{name, found.Events[j]})
		}
		if found.TaskID != "" {
			ofTask = append(ofTask, name)
		}
		more = more || found.More
	}
	prefix, _ := inbox.ParsePrefix(strings.ToLower(arg)) // no prefix is not Long
	since := s.notSearched(names, answers)
	switch onlyTask := len(ofTask) == 1 && !slices.ContainsFunc(fit, func(c candidate) bool { return c.TaskID != arg }); {
	case len(fit) == 0:
		return located{}, s.notLocated(arg, since)
	case since != "" && !prefix.Long() && len(ofTask) == 0:
		s.printCandidates(fit)
		return located{}, fmt.Errorf("other ids may begin with %q as well, as %s: expected at least %d digits", arg, since, inbox.LongPrefix)
	case len(fit) == 1 && !more:
		return located{handler: fit[0].handler, id: fit[0].ID, event: &fit[0].Event}, nil
	case onlyTask:
		return located{handler: ofTask[0], task: arg}, nil
	}
	if id := fit[0].ID; !more && !slices.ContainsFunc(fit, func(c candidate) bool { return c.ID != id }) {
		return located{}, fmt.Errorf("several handlers have the event %s, choose one with --handler: %s", quoted(id), strings.Join(namesOf(fit), ", "))
	}
	s.printCandidates(fit)
	return located{}, ambiguous(arg, fit, more)
}

func namesOf(fit []candidate) []string {
	names := make([]string, len(fit))
	for i, c := range fit {
		names[i] = c.handler
	}
	return names
}

// locateTask returns the only handler that has events of the task.
func (s *session) locateTask(ctx context.Context, task string) (handler string, err error) {
	names, err := s.candidates(ctx)
	if err != nil {
		return "", err
	}
	answers, err := s.findAt(ctx, names, task)
	if err != nil {
		return "", err
	}
	var with []string
	for i, name := range names {
		if answers[i].TaskID != "" {
			with = append(with, name)
		}
	}
	switch len(with) {
	case 0:
		return "", &exitError{exitNotFound, fmt.Errorf("no event is of the task %q", task)}
	case 1:
		return with[0], nil
	default:
		return "", fmt.Errorf("several handlers have events of the task %q, choose one with --handler: %s", task, strings.Join(with, ", "))
	}
}

// candidates returns the handlers to ask: the chosen one, or all.
func (s *session) candidates(ctx context.Context) ([]string, error) {
	if s.handler != "" {
		return []string{s.handler}, nil
	}
	names, err := s.client.handlers(ctx)
	if err == nil && len(names) == 0 {
		err = s.noHandler()
	}
	return names, err
}

// findAt asks handlers for the events that an argument may stand for, several at once.
func (s *session) findAt(ctx context.Context, names []string, arg string) ([]control.Found, error) {
	answers := make([]control.Found, len(names))
	failed := make([]error, len(names))
	var jobs errgroup.Group
	jobs.SetLimit(askedAtOnce)
	for i, name := range names {
		jobs.Go(func() error {
			answers[i], _, failed[i] = get[control.Found](ctx, s.client, call{path: []string{name, "find"}, query: url.Values{"id": {arg}}})
			return nil
		})
	}
	_ = jobs.Wait() // they are in failed
	for i, err := range failed {
		var status *statusError
		switch {
		case err == nil:
		case errors.As(err, &status) && status.status == http.StatusNotFound && strings.HasPrefix(status.message, "no such path"):
			return nil, fmt.Errorf("the Caddy at %s is older than this command, and does not find events by less than their whole ids: expected a whole id, and --handler if several run", s.client.address)
		case len(names) == 1:
			return nil, err
		default:
			// it may have the event too
			return nil, fmt.Errorf("asking the handler %s, --handler chooses another: %w", names[i], err)
		}
	}
	return answers, nil
}

// locateSuspect returns the only handler that has the callback in quarantine.
func (s *session) locateSuspect(ctx context.Context, id string) (handler string, err error) {
	names, err := s.candidates(ctx)
	if err != nil || len(names) == 1 {
		return strings.Join(names, ""), err
	}
	failed := make([]error, len(names))
	var jobs errgroup.Group
	jobs.SetLimit(askedAtOnce)
	for i, name := range names {
		jobs.Go(func() error {
			_, failed[i] = s.client.ask(ctx, call{path: []string{name, "quarantine", id}})
			return nil
		})
	}
	_ = jobs.Wait() // they are in failed
	var with []string
	for i, err := range failed {
		switch {
		case err == nil:
			with = append(with, names[i])
		case exitCode(err) != exitNotFound:
			return "", fmt.Errorf("asking the handler %s, --handler chooses another: %w", names[i], err)
		}
	}
	switch len(with) {
	case 0:
		return "", &exitError{exitNotFound, fmt.Errorf("no handler has the callback %s in quarantine", id)}
	case 1:
		return with[0], nil
	default:
		return "", fmt.Errorf("several handlers have a callback %s in quarantine, choose one with --handler: %s", id, strings.Join(with, ", "))
	}
}

// checkArgument refuses what can be neither an id nor a task.
func checkArgument(arg string) error {
	if arg == "" || !printable(arg) {
		return fmt.Errorf("%q is no id: expected that of an event, its first digits, such as d43f7d09, or the id of a task", arg)
	}
	return nil
}

// notSearched tells which events were not searched; "" if all were.
func (s *session) notSearched(names []string, answers []control.Found) string {
	for i, name := range names {
		if since := answers[i].Since; since != nil {
			return fmt.Sprintf("of the events that %s has from before %s only the dead ones were searched", name, s.localTime(*since))
		}
	}
	return ""
}

func (s *session) notLocated(arg, since string) error {
	text := fmt.Sprintf("no event's id begins with %q, and no event is of a task with this id", arg)
	if _, err := inbox.ParsePrefix(strings.ToLower(arg)); err != nil {
		text = fmt.Sprintf("no event is of a task %q; if that is no task: %v", arg, err)
	}
	if since != "" {
		text += "; " + since + ": the first 16 digits or more find it"
	}
	return &exitError{exitNotFound, errors.New(text)}
}

// ambiguous returns the error for an argument that fits several events.
func ambiguous(arg string, fit []candidate, more bool) error {
	several := plural(int64(len(fit)), "event")
	if more {
		several = "more than " + several
	}
	hint := "expected one of these ids"
	switch task := fit[0].TaskID; {
	case inSeveral(fit):
		hint += ", and --handler"
	case !slices.ContainsFunc(fit, func(c candidate) bool { return c.TaskID != task }):
		hint += ", or for all of them that of their task"
	}
	return fmt.Errorf("%q fits %s: %s", arg, several, hint)
}

// inSeveral reports whether events are of several handlers.
func inSeveral(fit []candidate) bool {
	return slices.ContainsFunc(fit, func(c candidate) bool { return c.handler != fit[0].handler })
}

// printCandidates prints the events that an argument may stand for to stderr.
func (s *session) printCandidates(fit []candidate) {
	columns := []column{{title: "ID"}, {title: "RECEIVED"}, {title: "STATUS"}, {title: "STATE"}, {title: "TASK"}}
	handlers := inSeveral(fit)
	if handlers {
		columns = append([]column{{title: "HANDLER"}}, columns...)
	}
	short := distinctIDs(fit)
	rows := make([][]string, 0, len(fit))
	for i := range fit {
		c := &fit[i]
		row := []string{quoted(short[i]), s.localTime(c.ReceivedAt), quoted(c.Status), quoted(c.State), cut(c.TaskID, 48)}
		if handlers {
			row = append([]string{c.handler}, row...)
		}
		rows = append(rows, row)
	}
	fmt.Fprint(s.stderr, printer{aligned: true}.table(columns, rows))
}

// distinctIDs returns the ids of events in a short form in which they differ.
func distinctIDs(fit []candidate) []string {
	const most = inbox.IDLength - 16
	for digits := 4; ; digits = min(2*digits, most) {
		seen := make(map[string]string)
		short := make([]string, len(fit))
		for i, c := range fit {
			short[i] = inbox.ShortIDOf(c.ID, digits)
			if other, ok := seen[short[i]]; ok && other != c.ID && digits < most {
				seen = nil
				break
			}
			seen[short[i]] = c.ID
		}
		if seen != nil {
			return short
		}
	}
}

// shortID returns an event's id as tables have it: short on a terminal, and whole where a
// program may read it.
func (s *session) shortID(id string) string {
	if !s.aligned {
		return quoted(id)
	}
	return quoted(inbox.ShortID(id))
}
