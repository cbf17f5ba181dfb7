package command

import (
	"context"
	"errors"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func showCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [<id>]",
		Short: "Shows all that is known of an event or a task",
		Long: `
Shows an event: what became of it, at each destination if there are several, its
body, and its delivery attempts. With --task, or the id of a task that has
several events, the history of the task: its events in the order in which they
arrived, with their deliveries and attempts.
` + idLong + `
  caddy fotor-webhook show d43f7d09-49b7
  caddy fotor-webhook show d43f7d09-49b7 --json | jq .body
  caddy fotor-webhook show --task 39371b3800cc4a7e9e24867b0dfdf25b

--json prints one document, or of a task a line for each event. "body" is what
the upstream gets.
` + exitHelp,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().String("task", "", "The Fotor task with this id, in place of an event")
	completeNothing(cmd, "task")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		if task, _ := cmd.Flags().GetString("task"); cmd.Flags().Changed("task") {
			if len(args) > 0 || task == "" {
				return errors.New("expected the id of an event, or --task with the id of a task")
			}
			handler, err := s.locateTask(ctx, task)
			if err != nil {
				return err
			}
			return s.showTask(ctx, handler, task)
		}
		if len(args) == 0 {
			return errors.New("expected the id of an event, or --task with the id of a task")
		}
		return s.show(ctx, args[0])
	})
}

// idLong describes in the help of a command what it takes as an id.
const idLong = `
The id may be short, as tables show it, or its first digits, at least 4, or that
of a task. If several events fit, they are listed. If several handlers run, it
is looked for in all of them.
`

func (s *session) show(ctx context.Context, arg string) error {
	at, err := s.locate(ctx, arg)
	switch {
	case err != nil:
		return err
	case at.task != "":
		return s.showTask(ctx, at.handler, at.task)
	}
	s.handler = at.handler
	return s.showEvent(ctx, at.id)
}

func (s *session) showEvent(ctx context.Context, id string) error {
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
	if len(e.Deliveries) > 1 {
		s.print("\n" + s.deliveries(e.Deliveries))
	}
	s.print("\n" + s.paint("Body", text.Bold) + "\n" + indent(e.Body) + "\n")
	if rows := s.attemptTable(e); rows != "" {
		s.print("\n" + rows)
	}
}

// attemptTable returns the attempts of all deliveries and their replays; "" if there are
// none.
func (s *session) attemptTable(e *control.EventDetail) string {
	deliveries := e.Deliveries
	if len(deliveries) == 0 { // an older Caddy knows only one
		deliveries = []control.Delivery{{Attempts: e.Attempts, AttemptRecords: e.AttemptRecords}}
	}
	columns := attemptColumns
	if len(deliveries) > 1 {
		columns = append([]column{{title: "DESTINATION", least: 11}}, columns...)
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
	if len(rows) == 0 {
		return ""
	}
	return s.table(columns, rows)
}

// deliveries returns a table of an event's deliveries.
func (s *session) deliveries(deliveries []control.Delivery) string {
	columns := []column{
		{title: "DESTINATION", least: 12},
		{title: "STATE"},
		{title: "ATTEMPTS", rank: 2, right: true},
		{title: "SETTLED", rank: 1, short: withoutYear},
		{title: "NEXT ATTEMPT", rank: 3, short: ageOnly},
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
	return s.table(columns, rows)
}

var attemptColumns = []column{
	{title: "ATTEMPT", right: true},
	{title: "AT", rank: 1, short: withoutYear},
	{title: "TOOK", rank: 3, right: true},
	{title: "STATUS", rank: 2, right: true},
	{title: "RESULT", least: 15},
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
