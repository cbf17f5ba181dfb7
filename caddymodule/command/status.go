package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func statusCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [<name>]",
		Short: "Shows how the handlers are doing",
		Long: `
Shows how the handler of that name is doing: its events by state, its inbox,
whether deliveries are held, which addresses were refused, its configuration.
Without a name, and if several handlers run, shows a line for each.

With --check it also says what needs attention, and exits with 5 if anything
does: dead events, a hold, callbacks in quarantine, an error.

  caddy fotor-webhook status
  caddy fotor-webhook status avatars --json
  caddy fotor-webhook status --check || echo "look at the gateway"

--json prints an object with the member "handlers", or that handler's object if
a name is given.
` + exitHelpNo("--check found something that needs attention"),
		Args: cobra.MaximumNArgs(1),
		RunE: env.run(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			s, err := env.begin(cmd)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if s.handler != "" && s.handler != args[0] {
					return fmt.Errorf("two handlers are named, %q and --handler %q: expected one", args[0], s.handler)
				}
				s.handler = args[0]
				if err := errors.Join(errNoName(s.handler), checkName(s.handler)); err != nil {
					return err
				}
			}
			check, _ := cmd.Flags().GetBool("check")
			return s.status(ctx, check)
		}),
	}
	cmd.Flags().Bool("check", false, "Exit with 5 if something needs attention, and say what")
	env.addAdminFlags(cmd, "n")
	cmd.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return env.handlerNames(c, args, typed)
	}
	return cmd
}

func errNoName(name string) error {
	if name == "" {
		return errors.New("the name is empty: expected a handler's name, or none")
	}
	return nil
}

func (s *session) status(ctx context.Context, check bool) error {
	var all control.Handlers
	var raw []byte
	var err error
	if s.handler == "" {
		all, raw, err = get[control.Handlers](ctx, s.client, call{})
	} else {
		all.Handlers = make([]control.Handler, 1)
		all.Handlers[0], raw, err = get[control.Handler](ctx, s.client, call{path: []string{s.handler}})
	}
	if err != nil {
		return err
	}
	switch {
	case s.json:
		s.printJSON(raw)
	case len(all.Handlers) == 0:
		return s.noHandler()
	case len(all.Handlers) == 1:
		s.printHandler(&all.Handlers[0])
	default:
		s.print(s.handlersTable(all.Handlers))
	}
	if !check {
		return nil
	}
	if len(all.Handlers) == 0 {
		return s.noHandler()
	}
	return s.attention(all.Handlers)
}

// attention says what needs it. With --json it goes to stderr, beside the document.
func (s *session) attention(handlers []control.Handler) error {
	found := false
	for i := range handlers {
		for _, what := range attention(&handlers[i], s.now()) {
			found = true
			line := fmt.Sprintf("%s: %s", quoted(handlers[i].Name), what)
			if s.json {
				s.note("%s", line)
			} else {
				s.print(s.paint("needs attention: ", text.FgRed) + line + "\n")
			}
		}
	}
	if found {
		return said(exitNo)
	}
	return nil
}

// lossTold is how long --check speaks of lost events. They do not come back, and
// status shows them for ever.
const lossTold = 24 * time.Hour

func attention(h *control.Handler, now time.Time) []string {
	var found []string
	if h.LostAt != nil && h.Lost > 0 && now.Sub(*h.LostAt) < lossTold {
		found = append(found, plural(h.Lost, "lost event"))
	}
	if h.Events.Dead > 0 {
		found = append(found, plural(h.Events.Dead, "dead event"))
	}
	for _, hold := range h.Holds {
		found = append(found, "deliveries are held by "+quoted(hold.By)+reasonOf(hold.Reason))
	}
	if h.Quarantined > 0 {
		found = append(found, plural(h.Quarantined, "callback")+" in quarantine")
	}
	if h.Error != "" {
		found = append(found, quoted(h.Error))
	}
	return found
}

func reasonOf(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + quoted(reason)
}

func (s *session) handlersTable(handlers []control.Handler) string {
	columns := []column{
		{title: "NAME"},
		{title: "PENDING", right: true},
		{title: "DELIVERED", right: true},
		{title: "SUPERSEDED", right: true},
		{title: "DEAD", right: true},
		{title: "QUARANTINED", right: true},
		{title: "OLDEST PENDING", right: true},
		{title: "INBOX", right: true},
		{title: "UNDER WAY", right: true},
		{title: "NOTE"},
	}
	rows := make([][]string, 0, len(handlers))
	for i := range handlers {
		h := &handlers[i]
		var notes []string
		for _, hold := range h.Holds {
			notes = append(notes, "held by "+quoted(hold.By))
		}
		if h.Lost > 0 {
			notes = append(notes, plural(h.Lost, "lost event"))
		}
		if h.Error != "" {
			notes = append(notes, quoted(h.Error))
		}
		oldest := "-"
		if h.OldestPending != nil {
			oldest = span(s.now().Sub(*h.OldestPending))
		}
		rows = append(rows, []string{
			quoted(h.Name), count(h.Events.Pending), count(h.Events.Delivered), count(h.Events.Superseded),
			s.bad(h.Events.Dead), s.bad(h.Quarantined), oldest, size(h.InboxBytes),
			strconv.Itoa(h.UnderWay), s.paint(strings.Join(notes, "; "), text.FgYellow),
		})
	}
	return s.table(columns, rows, true)
}

func (s *session) printHandler(h *control.Handler) {
	f := &fields{printer: s.printer}
	f.add("Handler", quoted(h.Name))
	f.add("Error", s.paint(quoted(h.Error), text.FgRed))
	pending := count(h.Events.Pending)
	if h.OldestPending != nil {
		pending += ", the oldest of " + s.localTimeWithAge(*h.OldestPending)
	}
	f.add("Pending", pending)
	f.add("Delivered", count(h.Events.Delivered))
	f.add("Superseded", count(h.Events.Superseded))
	f.add("Dead", s.bad(h.Events.Dead))
	f.add("Quarantined", s.bad(h.Quarantined))
	if h.Lost > 0 && h.LostAt != nil {
		f.add("Lost", s.bad(h.Lost)+", the last seen "+s.localTimeWithAge(*h.LostAt))
	}
	f.add("Under way", strconv.Itoa(h.UnderWay))
	for _, hold := range h.Holds {
		f.add("Held", s.paint(s.holdText(hold), text.FgYellow))
	}
	inbox := size(h.InboxBytes)
	if h.InboxLimit > 0 {
		inbox += fmt.Sprintf(" of %s (%.1f%%)", size(h.InboxLimit), 100*float64(h.InboxBytes)/float64(h.InboxLimit))
	}
	f.add("Inbox", inbox)
	s.configFields(f, &h.Config)
	s.print(f.String())
	if len(h.Refusals) > 0 {
		s.print("\n" + s.refusals(h.Refusals))
	}
}

func (*session) configFields(f *fields, c *control.Config) {
	f.add("Storage", quoted(c.Storage))
	f.add("Forward", quoted(c.Forward)+", signed with "+plural(int64(c.SignSecrets), "secret"))
	allow := make([]string, 0, len(c.Allow)+len(c.AllowFrom))
	for _, who := range c.Allow {
		allow = append(allow, quoted(who))
	}
	for _, module := range c.AllowFrom {
		allow = append(allow, "module "+quoted(module))
	}
	f.add("Allow", strings.Join(allow, ", "))
	f.add("Limits", fmt.Sprintf("body %s, quarantine %s, keep %s",
		size(c.MaxBody), count(int64(c.Quarantine)), configDuration(c.Keep)))
	f.add("Attempts", fmt.Sprintf("timeout %s, %d at once, retry after %s up to %s, give up after %s",
		configDuration(c.Timeout), c.Concurrency, configDuration(c.RetryFirst),
		configDuration(c.RetryMax), configDuration(c.GiveUp)))
}

func (s *session) refusals(refusals []control.Refusal) string {
	columns := []column{
		{title: "REFUSED"}, {title: "PEER"}, {title: "COUNT", right: true}, {title: "LAST"}, {title: "REASON"},
	}
	rows := make([][]string, 0, len(refusals))
	for _, r := range refusals {
		address := quoted(r.Address)
		if address == "" {
			address = "unknown"
		}
		rows = append(rows, []string{
			address, quoted(r.Peer), count(r.Count), s.localTimeWithAge(r.Last), quoted(r.Reason),
		})
	}
	return s.table(columns, rows, true)
}

// holdText says who holds, since and until when, and why.
func (s *session) holdText(h control.Hold) string {
	told := "by " + quoted(h.By) + " since " + s.localTimeWithAge(h.Since)
	if h.Until != nil {
		told += " until " + s.localTimeWithAge(*h.Until)
	}
	return told + reasonOf(h.Reason)
}
