package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxTaskLine bounds a line of standard input in bytes, to tell a file of something else.
const maxTaskLine = 64 << 10

const taskIDsLong = `
"-" reads the ids from standard input, one in a line. Empty lines do not count.
`

func trackCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "track <task>...",
		Short: "Has Fotor asked for tasks until their final events have come",
		Long: `
Makes tasks known to a handler with a fotor_api. Fotor is asked for them if
their callbacks do not come. Those that are known already stay as they are, so
the command can be repeated.

  caddy fotor-webhook track 39371b3800cc4a7e9e24867b0dfdf25b
  psql -Atc "select task_id from jobs where done is null" | caddy fotor-webhook track -
` + taskIDsLong + `
--json prints one object: how many tasks are "added", and how many were "known".
` + exitHelpNo("an id is not valid, or the handler has no fotor_api"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		ids, err := s.taskIDs(args)
		if err != nil {
			return err
		}
		return s.track(ctx, ids)
	})
}

func untrackCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "untrack <task>...",
		Short: "Has Fotor asked no more for tasks",
		Long: `
Has Fotor asked no more for tasks, such as those of another account. A task
becomes known again with its next in-progress callback.

  caddy fotor-webhook untrack 39371b3800cc4a7e9e24867b0dfdf25b
  caddy fotor-webhook tasks --limit 0 --json | jq -r 'select(.asked > 50).taskId' | caddy fotor-webhook untrack -
` + taskIDsLong + `
--json prints a line of JSON for each task: "taskId" and "status" (the HTTP
status).
` + exitHelp,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		ids, err := s.taskIDs(args)
		if err != nil {
			return err
		}
		return s.untrack(ctx, ids)
	})
}

// taskIDs returns the ids that a command is given, as arguments or in standard input. An
// error ends them.
func (s *session) taskIDs(args []string) (iter.Seq2[string, error], error) {
	switch {
	case len(args) == 0:
		return nil, errors.New("nothing says which tasks: expected ids of tasks, or - to read them from standard input")
	case len(args) == 1 && args[0] == "-":
		return taskLines(s.stdin), nil
	}
	for _, id := range args {
		if id == "-" {
			return nil, errors.New("- reads standard input, so it does not go with ids: expected one of them")
		}
		if err := control.CheckTaskID(id); err != nil {
			return nil, fmt.Errorf("task %.40q %w", id, err)
		}
	}
	return func(yield func(string, error) bool) {
		for _, id := range args {
			if !yield(id, nil) {
				return
			}
		}
	}, nil
}

// taskLines returns the ids in lines.
func taskLines(in io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, maxTaskLine)
		n := 0
		for lines.Scan() {
			n++
			id := strings.TrimSpace(lines.Text())
			if id == "" {
				continue
			}
			err := control.CheckTaskID(id)
			if err != nil {
				err = fmt.Errorf("line %d of standard input %w", n, err)
			}
			if !yield(id, err) || err != nil {
				return
			}
		}
		err := lines.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("it is longer than %s; expected the id of a task", size(maxTaskLine))
		}
		if err != nil {
			yield("", fmt.Errorf("line %d of standard input: %w", n+1, err))
		}
	}
}

// track tracks tasks, in batches as they are read.
func (s *session) track(ctx context.Context, ids iter.Seq2[string, error]) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	var sum control.Tracked
	batch := make([]string, 0, inbox.MaxTrack)
	progress := s.newProgress("tracked", 0)
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		tracked, _, err := get[control.Tracked](ctx, s.client, call{
			method: http.MethodPost, path: []string{handler, "tasks"}, body: control.TrackRequest{Tasks: batch},
		})
		sum.Added, sum.Known, batch = sum.Added+tracked.Added, sum.Known+tracked.Known, batch[:0]
		progress.set(int64(sum.Added + sum.Known))
		return err
	}
	for id, err := range ids {
		if err == nil {
			batch = append(batch, id)
			if len(batch) == inbox.MaxTrack {
				err = send()
			}
		}
		if err != nil {
			return s.trackedSoFar(sum, err)
		}
	}
	if err := send(); err != nil {
		return s.trackedSoFar(sum, err)
	}
	if s.json {
		return s.printValue(sum)
	}
	s.say(trackedText(sum))
	return nil
}

// trackedSoFar adds to an error what was done before it.
func (s *session) trackedSoFar(sum control.Tracked, err error) error {
	if sum == (control.Tracked{}) {
		return err
	}
	return fmt.Errorf("%w. Before that: %s It may be run again as a whole", err, trackedText(sum))
}

func trackedText(sum control.Tracked) string {
	switch {
	case sum == control.Tracked{}:
		return "There was no task to track."
	case sum.Known == 0:
		return plural(int64(sum.Added), "task") + " tracked."
	case sum.Added == 0:
		return plural(int64(sum.Known), "task") + " known already: none to track."
	default:
		return fmt.Sprintf("%s tracked, %s known already.", plural(int64(sum.Added), "task"), count(int64(sum.Known)))
	}
}

// untracked is the result for one task.
type untracked struct {
	TaskID string `json:"taskId"`
	Status int    `json:"status"`
}

// untrack untracks tasks, one after the other, and prints the result of each. Only an error
// that is not about the task ends it early.
func (s *session) untrack(ctx context.Context, ids iter.Seq2[string, error]) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	code := exitDone
	for id, err := range ids {
		if err != nil {
			return err
		}
		result, told := untracked{id, http.StatusNoContent}, "untracked"
		_, err = s.client.ask(ctx, call{method: http.MethodDelete, path: []string{handler, "tasks", id}})
		if refused, ok := errors.AsType[*statusError](err); ok && refused.status == http.StatusNotFound && !refused.foreign {
			result.Status, told, code = refused.status, "not tracked", exitNotFound
		} else if err != nil {
			return fmt.Errorf("task %s: %w", quoted(id), err)
		}
		if !s.json {
			s.say(quoted(id) + ": " + told)
			continue
		}
		line, err := json.Marshal(result)
		if err != nil {
			return err
		}
		if err := s.printLine(line); err != nil {
			return err
		}
	}
	return exitQuietly(code)
}
