package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// changeSuspect changes a callback in quarantine. It returns what has become of it.
type changeSuspect func(*session, context.Context, call) (string, json.RawMessage, error)

func quarantineReleaseCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release [<id>...]",
		Short: "Accepts callbacks that are valid by now",
		Long: `
Validates callbacks in quarantine again, such as after an upgrade, and accepts
those that are valid now: some, or all that fit a filter, the oldest first. The
others stay.

A filter leaves out callbacks that Fotor did not confirm: they are valid, and may
be forged. --answer 200 chooses them. They are delivered with "confirmed": false.

  caddy fotor-webhook quarantine release 7 9
  caddy fotor-webhook quarantine release --problem /avatarResult --dry-run
  caddy fotor-webhook quarantine release --all --yes
` + suspectsLong + `
--json prints a line of JSON for each callback: "quarantineId", "status" (the
HTTP status) and "answer".
` + exitHelpNo("a callback is still not valid") + severalLong,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.suspectsCommand(cmd, suspects{
		verb: "release", past: "accepted", atOnce: 1, // a task's events keep their order
		do: (*session).release, sparesUnconfirmed: true,
	})
}

func quarantineDeleteCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [<id>...]",
		Short: "Deletes callbacks in quarantine",
		Long: `
Deletes callbacks in quarantine for good: some, or all that fit a filter.

  caddy fotor-webhook quarantine delete 7 9
  caddy fotor-webhook quarantine delete --until 30d --dry-run
  caddy fotor-webhook quarantine delete --answer 415 --yes
` + suspectsLong + `
--json prints a line of JSON for each callback: "quarantineId" and "status"
(the HTTP status), and "answer" if there is one.
` + exitHelp + severalLong,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.suspectsCommand(cmd, suspects{
		verb: "delete", past: "deleted", atOnce: 8, do: (*session).deleteSuspect,
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
func (s *session) eachCallback(ctx context.Context, args []string, do changeSuspect) error {
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
	code := exitDone
	for _, id := range ids {
		r, err := s.changeOne(ctx, handler, id, do)
		if err != nil {
			return err
		}
		code = worse(code, r.code)
		if err := s.printResult(id, r.text, r.status, r.raw); err != nil {
			return err
		}
	}
	return exitQuietly(code)
}

// changed is what came of a change to a callback.
type changed struct {
	text   string
	status int
	raw    json.RawMessage
	code   int
}

// changeOne changes one callback. An error that is about the callback is a result.
func (s *session) changeOne(ctx context.Context, handler, id string, do changeSuspect) (r changed, err error) {
	r.status = http.StatusOK
	r.text, r.raw, err = do(s, ctx, call{path: []string{handler, "quarantine", id}})
	var refused *statusError
	switch {
	case errors.As(err, &refused) && (refused.status == http.StatusNotFound || refused.status == http.StatusUnprocessableEntity):
		return changed{refusalText(refused), refused.status, refused.body, exitCode(err)}, nil
	case err != nil:
		return r, fmt.Errorf("callback %s: %w", id, err)
	case r.raw == nil:
		r.status = http.StatusNoContent
	}
	return r, nil
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

func (s *session) release(ctx context.Context, c call) (string, json.RawMessage, error) {
	c.method, c.path = http.MethodPost, append(c.path, "release")
	released, raw, err := get[control.Released](ctx, s.client, c)
	if released.Duplicate {
		return "a repeat of event " + s.shortID(released.ID), raw, err
	}
	return "accepted as event " + s.shortID(released.ID), raw, err
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
