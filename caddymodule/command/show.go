package command

import (
	"context"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func showCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show <id>",
		Short: "Shows all that is known of an event",
		Long: `
Shows an event: what became of it, at each destination if there are several, its
body, and its delivery attempts.

  caddy fotor-webhook show d43f7d0975a061bf49b7ffab7d5cb30720da6a1949559304
  caddy fotor-webhook show d43f7d0975a061bf49b7ffab7d5cb30720da6a1949559304 --json | jq .body

--json prints one document. Its "body" is what the upstream gets.
` + exitHelp,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		if err := checkEventID(args[0]); err != nil {
			return err
		}
		return s.show(ctx, args[0])
	})
}

func (s *session) show(ctx context.Context, id string) error {
	e, err := answerOf[control.EventDetail](ctx, s, call{path: []string{"events", id}})
	if err != nil || s.json {
		return err
	}
	s.printEvent(&e)
	return nil
}

func (s *session) printEvent(e *control.EventDetail) {
	f := &fields{printer: s.printer}
	f.add("Event", quoted(e.ID))
	f.add("Task", quoted(e.TaskID))
	f.add("Type", quoted(e.Type))
	f.add("Status", quoted(e.Status))
	state := s.state(e.State)
	if e.State == inbox.Skipped.String() {
		state += ", because it fits no destination"
	}
	f.add("State", state)
	if len(e.Deliveries) == 1 && !aloneIn(e.Deliveries) {
		f.add("Destination", quoted(e.Deliveries[0].Destination))
	}
	f.add("Received", s.localTimeWithAge(e.ReceivedAt))
	if e.SettledAt != nil {
		f.add("Settled", s.localTimeWithAge(*e.SettledAt))
	}
	if e.Due != nil {
		f.add("Next attempt", s.localTimeWithAge(*e.Due))
	}
	f.add("Attempts", strconv.Itoa(e.Attempts))
	f.add("Trace", quoted(e.TraceParent))
	s.print(f.String())
	several := len(e.Deliveries) > 1
	if several {
		s.print("\n" + s.deliveries(e.Deliveries))
	}
	s.print("\n" + s.paint("Body", text.Bold) + "\n" + indent(e.Body) + "\n")
	deliveries := e.Deliveries
	if len(deliveries) == 0 { // an older Caddy knows only one
		deliveries = []control.Delivery{{Attempts: e.Attempts, AttemptRecords: e.AttemptRecords}}
	}
	s.printAttempts(deliveries)
}

// printAttempts prints the attempts of all deliveries, if there are any.
func (s *session) printAttempts(deliveries []control.Delivery) {
	columns := attemptColumns
	if len(deliveries) > 1 {
		columns = append([]column{{title: "DESTINATION"}}, columns...)
	}
	var rows [][]string
	for _, d := range deliveries {
		for _, row := range s.attempts(&d) {
			if len(deliveries) > 1 {
				row = append([]string{quoted(d.Destination)}, row...)
			}
			rows = append(rows, row)
		}
	}
	if len(rows) > 0 {
		s.print("\n" + s.table(columns, rows, true))
	}
}

// deliveries returns a table of an event's deliveries.
func (s *session) deliveries(deliveries []control.Delivery) string {
	columns := []column{
		{title: "DESTINATION"},
		{title: "STATE"},
		{title: "ATTEMPTS", right: true},
		{title: "SETTLED"},
		{title: "NEXT ATTEMPT"},
	}
	rows := make([][]string, 0, len(deliveries))
	for _, d := range deliveries {
		settled, due := "", ""
		if d.SettledAt != nil {
			settled = s.localTime(*d.SettledAt)
		}
		if d.Due != nil {
			due = s.localTimeWithAge(*d.Due)
		}
		rows = append(rows, []string{quoted(d.Destination), s.state(d.State), strconv.Itoa(d.Attempts), settled, due})
	}
	return s.table(columns, rows, true)
}

var attemptColumns = []column{
	{title: "ATTEMPT", right: true},
	{title: "AT"},
	{title: "TOOK", right: true},
	{title: "STATUS", right: true},
	{title: "RESULT"},
}

// attempts returns rows for the attempts of a delivery, and for its replays.
func (s *session) attempts(d *control.Delivery) (rows [][]string) {
	replays := d.Replays
	replayed := func(before int) {
		for len(replays) > 0 && replays[0].After < before {
			what := "replayed by hand"
			if from := replays[0].From; from != "" {
				what = "moved here by hand, from " + quoted(from)
			}
			rows = append(rows, []string{"", s.localTime(replays[0].At), "", "", what})
			replays = replays[1:]
		}
	}
	for i, a := range d.AttemptRecords {
		// the oldest records may have been deleted
		number := max(d.Attempts-len(d.AttemptRecords), 0) + i + 1
		replayed(number)
		result := s.paint("delivered", text.FgGreen)
		if a.Reason != "" {
			result = s.paint(quoted(a.Reason), text.FgRed)
		}
		rows = append(rows, []string{
			strconv.Itoa(number), s.localTime(a.At), latency(milliseconds(a.DurationMS)), httpStatus(a.Status), result,
		})
	}
	replayed(d.Attempts + 1)
	return rows
}

// httpStatus returns an answer's status, or a dash if there was no answer.
func httpStatus(status int) string {
	if status == 0 {
		return "-"
	}
	return strconv.Itoa(status)
}
