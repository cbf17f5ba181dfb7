package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func quarantineReleaseCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release <id>...",
		Short: "Accepts callbacks that are valid by now",
		Long: `
Validates callbacks in quarantine again, such as after an upgrade, and accepts
those that are valid now. The others stay. --all takes the oldest first.

  caddy fotor-webhook quarantine release 7 9
  caddy fotor-webhook quarantine release --all

--json prints a line of JSON for each callback: "quarantineId", "status" (the
HTTP status) and "answer".
` + exitHelpNo("a callback is still not valid") + severalLong,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().Bool("all", false, "All callbacks in quarantine")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		all, _ := cmd.Flags().GetBool("all")
		if all == (len(args) > 0) {
			return errors.New("expected ids of callbacks in quarantine, or --all")
		}
		return s.eachCallback(ctx, args, all, (*session).release)
	})
}

func quarantineDeleteCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete <id>...",
		Short: "Deletes callbacks in quarantine",
		Long: `
Deletes callbacks in quarantine for good.

  caddy fotor-webhook quarantine delete 7 9

--json prints a line of JSON for each callback: "quarantineId" and "status"
(the HTTP status), and "answer" if there is one.
` + exitHelp + severalLong,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.eachCallback(ctx, args, false, (*session).deleteSuspect)
	})
}

const severalLong = `With several ids the lowest of the codes that is not 0.
`

// result is the result for one callback in quarantine.
type result struct {
	QuarantineID int64           `json:"quarantineId"`
	Status       int             `json:"status"`
	Answer       json.RawMessage `json:"answer,omitempty"`
}

// eachCallback does the same to several callbacks, one after the other, and prints the
// result of each. Only an error that is not about the callback ends it early.
func (s *session) eachCallback(ctx context.Context, args []string, all bool, do func(*session, context.Context, call) (string, json.RawMessage, error)) error {
	ids := make([]string, 0, len(args))
	for _, arg := range args {
		id, err := quarantineID(arg)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	if all {
		if ids, err = s.quarantineIDs(ctx, handler); err != nil {
			return err
		}
		if len(ids) == 0 && !s.json {
			s.note("The quarantine is empty.")
		}
	}
	code := exitDone
	for _, id := range ids {
		text, raw, err := do(s, ctx, call{path: []string{handler, "quarantine", id}})
		status := http.StatusOK
		var refused *statusError
		switch {
		case errors.As(err, &refused) && (refused.status == http.StatusNotFound || refused.status == http.StatusUnprocessableEntity):
			status, raw, text = refused.status, refused.body, refusalText(refused)
			if !all || refused.status != http.StatusNotFound {
				code = worse(code, exitCode(err)) // with --all it does not matter that one is gone
			}
		case err != nil:
			return fmt.Errorf("callback %s: %w", id, err)
		case raw == nil:
			status = http.StatusNoContent
		}
		if err := s.printResult(id, text, status, raw); err != nil {
			return err
		}
	}
	return exitQuietly(code)
}

func (s *session) printResult(id, text string, status int, raw json.RawMessage) error {
	if !s.json {
		s.say(id + ": " + text)
		return s.stdout.err
	}
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return err
	}
	if !json.Valid(raw) {
		raw = nil // an error not in Caddy's form
	}
	line, err := json.Marshal(result{number, status, raw})
	if err != nil {
		return err
	}
	return s.printLine(line)
}

// quarantineIDs returns the ids of all callbacks in quarantine, the oldest first, so that
// the events of a task keep their order.
func (s *session) quarantineIDs(ctx context.Context, handler string) ([]string, error) {
	var ids []string
	_, err := s.eachPage(ctx, s.quarantineLister(handler), 0, func(rows []json.RawMessage, _ bool) error {
		for _, raw := range rows {
			var q control.Quarantined
			if err := json.Unmarshal(raw, &q); err != nil {
				return fmt.Errorf("a row is not what this version expects: %w", err)
			}
			ids = append(ids, strconv.FormatInt(q.ID, 10))
		}
		return nil
	})
	slices.Reverse(ids)
	return ids, err
}

func (s *session) release(ctx context.Context, c call) (string, json.RawMessage, error) {
	c.method, c.path = http.MethodPost, append(c.path, "release")
	released, raw, err := get[control.Released](ctx, s.client, c)
	if released.Duplicate {
		return "a repeat of event " + quoted(released.ID), raw, err
	}
	return "accepted as event " + quoted(released.ID), raw, err
}

func (s *session) deleteSuspect(ctx context.Context, c call) (string, json.RawMessage, error) {
	c.method = http.MethodDelete
	_, err := s.client.ask(ctx, c)
	return "deleted", nil, err
}

func refusalText(e *statusError) string {
	var refused control.Refused
	if e.status == http.StatusNotFound {
		return "not found"
	}
	text := quoted(e.message)
	if json.Unmarshal(e.body, &refused) == nil && len(refused.Problems) > 0 {
		text += ": " + problems(refused.Problems, len(refused.Problems))
	}
	return text
}
