package command

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func tasksCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "Lists tasks whose final events have not come",
		Long: `
Lists the tasks whose final events have not come, those that became known last
first: since when, and how, how often Fotor was asked for them, when it is asked
next, and what it answered last.

  caddy fotor-webhook tasks
  caddy fotor-webhook tasks --oldest-first --limit 10
  caddy fotor-webhook tasks --limit 0 --json | jq -r 'select(.asked > 5).taskId'

--json prints a line of JSON for each task.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	addLimitFlag(cmd)
	cmd.Flags().Bool("oldest-first", false, "Those that became known earlier come first")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		limit, err := limitFlag(cmd)
		if err != nil {
			return err
		}
		handler, err := s.chosen(ctx)
		if err != nil {
			return err
		}
		l := s.taskLister(handler)
		if oldest, _ := cmd.Flags().GetBool("oldest-first"); oldest {
			l.query = map[string][]string{"order": {"asc"}}
		}
		return listPages(ctx, s, l, limit)
	})
}

// taskLister returns how to list tasks. Where nobody asks for them, that is noted once.
func (s *session) taskLister(handler string) lister {
	noted := false
	noteNotAsking := func(answer map[string]json.RawMessage) {
		if !noted && !s.json && string(answer["asking"]) == "false" {
			noted = true
			s.note("Handler %s has no fotor_api: Fotor is not asked for tasks.", handler)
		}
	}
	return lister{
		path:   []string{handler, "tasks"},
		member: "tasks",
		seen:   noteNotAsking,
		columns: []column{
			{title: "TASK", width: 32, least: 32},
			{title: "SINCE", rank: 2, width: len("59m 59s ago")},
			{title: "SOURCE", rank: 5, width: len("submission")},
			{title: "ASKED", rank: 3, right: true},
			{title: "NEXT", rank: 4, width: len("in 59m 59s")},
			{title: "LAST ANSWER", rank: 1, width: 12, least: 12},
		},
		row: func(raw json.RawMessage) ([]string, error) {
			var t control.Task
			err := json.Unmarshal(raw, &t)
			return []string{
				quoted(t.TaskID), s.sinceText(t.Since), quoted(t.Source), count(int64(t.Asked)), s.dueText(t.Due), quoted(t.Answer),
			}, err
		},
		none: func() { s.note("No task is waited for.") },
	}
}

// sinceText formats when a task became known: for people how long ago that is.
func (s *session) sinceText(at time.Time) string {
	if s.aligned {
		return s.age(at)
	}
	return s.localTime(at)
}

// dueText formats when Fotor is asked next: for people how far ahead that is.
func (s *session) dueText(at time.Time) string {
	switch {
	case !s.aligned:
		return s.localTime(at)
	case !at.After(s.now()):
		return "due"
	default:
		return s.age(at)
	}
}

// tasksText describes how many tasks are waited for; "" if Fotor is not asked.
func (s *session) tasksText(t *control.TaskStats) string {
	if t == nil {
		return ""
	}
	told := count(t.Waiting) + " waiting"
	if t.Oldest != nil {
		told += ", the oldest since " + s.localTimeWithAge(*t.Oldest)
	}
	if t.Due > 0 {
		told += ", " + count(t.Due) + " due"
	}
	if t.Dropped > 0 {
		told += ", " + s.paint(count(t.Dropped)+" forgotten because there were too many", text.FgRed)
	}
	return told
}
