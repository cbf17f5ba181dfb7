package command

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// maxDump is how many bytes of a body that is not text are shown.
const maxDump = 4 << 10

func quarantineCommand(env *environment) *cobra.Command {
	return group("quarantine", "Looks into and empties the quarantine", `
The quarantine keeps callbacks that came from an address that is let in, but
were not valid.

  caddy fotor-webhook quarantine list
  caddy fotor-webhook quarantine show 7
  caddy fotor-webhook quarantine release --all
`+exitHelp,
		quarantineListCommand(env),
		quarantineShowCommand(env),
		quarantineReleaseCommand(env),
		quarantineDeleteCommand(env),
	)
}

func quarantineListCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists callbacks in quarantine",
		Long: `
Lists the callbacks in quarantine, those that arrived last first. Callbacks with the
same body are one, with how often they arrived; the rest of a line is of the last.

  caddy fotor-webhook quarantine list
  caddy fotor-webhook quarantine list --since 1d --answer 422
  caddy fotor-webhook quarantine list --limit 0 --json | jq .id

--json prints a line of JSON for each callback.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	addSuspectFlags(cmd)
	addLimitFlag(cmd)
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		filter, err := s.suspectFilter(cmd)
		if err != nil {
			return err
		}
		limit, err := limitFlag(cmd)
		if err != nil {
			return err
		}
		handler, err := s.chosen(ctx)
		if err != nil {
			return err
		}
		return listPages(ctx, s, s.quarantineLister(handler, &filter), limit)
	})
}

func quarantineShowCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show <id>",
		Short: "Shows a callback in quarantine",
		Long: `
Shows a callback in quarantine: what was wrong with it, and its body.

  caddy fotor-webhook quarantine show 7
  caddy fotor-webhook quarantine show 7 --json | jq -r .body

--json prints one document. Its "body" is in base64 if "bodyEncoding" says so.
` + exitHelp,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		id, err := quarantineID(args[0])
		if err != nil {
			return err
		}
		if s.handler, err = s.locateSuspect(ctx, id); err != nil {
			return err
		}
		return s.quarantineShow(ctx, id)
	})
}

func quarantineID(arg string) (string, error) {
	if id, err := strconv.ParseInt(arg, 10, 64); err == nil && id > 0 {
		return strconv.FormatInt(id, 10), nil
	}
	return "", fmt.Errorf("%q is no id of a callback in quarantine: expected a positive integer", arg)
}

// quarantineLister returns how to list the quarantine. Its columns have widths, because
// pages are formatted one by one.
func (s *session) quarantineLister(handler string, f *suspectFilter) lister {
	return lister{
		path:   []string{handler, "quarantine"},
		member: "callbacks",
		columns: []column{
			{title: "ID", width: 6, right: true},
			{title: "COUNT", rank: 4, width: 6, right: true},
			{title: "LAST", rank: 3, width: len("2006-01-02 15:04:05"), short: withoutYear},
			{title: "FROM", rank: 2, width: len("255.255.255.255"), least: 15},
			{title: "ANSWER", rank: 5, right: true},
			{title: "SIZE", rank: 6, width: len("1023 KiB"), right: true},
			{title: "PROBLEMS", rank: 1, width: 40, least: 24},
		},
		row: func(raw json.RawMessage) ([]string, error) {
			var q control.Quarantined
			err := json.Unmarshal(raw, &q)
			return []string{
				strconv.FormatInt(q.ID, 10), count(q.Count), s.localTime(q.LastAt), quoted(q.SourceIP),
				strconv.Itoa(q.Status), size(int64(q.Size)), problems(q.Problems, q.ProblemCount),
			}, err
		},
		keep: func(raw json.RawMessage) (bool, error) {
			var q control.Quarantined
			err := json.Unmarshal(raw, &q)
			return f.fits(&q), err
		},
		none: func() {
			if f.text == "" {
				s.note("The quarantine is empty.")
			} else {
				s.note("Nothing in quarantine matches%s.", f.text)
			}
		},
	}
}

// problems returns how many problems there are, if several, and the first.
func problems(some []control.Problem, all int) string {
	if len(some) == 0 {
		return ""
	}
	first := quoted(problem(some[0]))
	if all > 1 {
		return fmt.Sprintf("%d problems: %s", all, first)
	}
	return first
}

func problem(p control.Problem) string {
	if p.Pointer == "" {
		return p.Detail
	}
	return p.Pointer + ": " + p.Detail
}

func (s *session) quarantineShow(ctx context.Context, id string) error {
	q, err := answerOf[control.QuarantinedDetail](ctx, s, call{path: []string{"quarantine", id}})
	if err != nil || s.json {
		return err
	}
	f := &fields{printer: s.printer}
	f.add("Callback", strconv.FormatInt(q.ID, 10))
	if q.Count > 1 {
		f.add("Received", plural(q.Count, "time"))
		f.add("First", s.localTimeWithAge(q.ReceivedAt))
		f.add("Last", s.localTimeWithAge(q.LastAt))
	} else {
		f.add("Received", s.localTimeWithAge(q.ReceivedAt))
	}
	f.add("From", quoted(q.SourceIP))
	f.add("Answer", strconv.Itoa(q.Status))
	f.add("Size", size(int64(q.Size)))
	s.print(f.String())
	if len(q.Problems) > 0 {
		s.print("\n" + s.problemTable(q.Problems))
	}
	body, err := suspectBody(&q)
	if err != nil {
		return err
	}
	s.print("\n" + s.paint("Body", text.Bold) + "\n" + body + "\n")
	return nil
}

func (s *session) problemTable(problems []control.Problem) string {
	rows := make([][]string, 0, len(problems))
	for _, p := range problems {
		at := quoted(p.Pointer)
		if at == "" {
			at = "(whole)"
		}
		rows = append(rows, []string{at, quoted(p.Detail)})
	}
	return s.table([]column{{title: "AT", least: 20}, {title: "PROBLEM", least: 20}}, rows)
}

// suspectBody returns a body for people: JSON, text, or a dump of the bytes.
func suspectBody(q *control.QuarantinedDetail) (string, error) {
	if q.BodyEncoding != control.BodyBase64 {
		return indent([]byte(q.Body)), nil
	}
	body, err := base64.StdEncoding.DecodeString(q.Body)
	if err != nil {
		return "", fmt.Errorf("the body of callback %d is no base64: %w", q.ID, err)
	}
	shown := hex.Dump(body[:min(len(body), maxDump)])
	if more := len(body) - maxDump; more > 0 {
		shown += plural(int64(more), "byte") + " more; --json has them all"
	}
	return shown, nil
}
