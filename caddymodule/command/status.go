package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const statusName = "status"

func statusCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   statusName + " [<name>]",
		Short: "Shows how the handlers are doing",
		Long: `
Shows how the handler of that name is doing: which Caddy it is and since when it
runs, the last callback and the last delivery, its events by state, its inbox,
whether deliveries are held, which addresses were refused, its configuration.
Without a name, and if several handlers run, shows a line for each, and for each
of its destinations if it has several. Inboxes that hold something and have no
handler any more are listed below.

With several destinations, a table says of each what waits for it and how it is.
--destination shows all of one. What a config that names a destination no more
has left behind there is said with what to do about it.

With --check it also says what needs attention, a line for each, and exits with 5
if anything does: an inbox that does not answer or is nearly full, callbacks that
were answered 503, were too large or not valid lately, an old pending event, a
hold, dead events, those left behind for a destination that no config names,
events in an inbox without a handler. The limits are for each destination. Lately is the time of
--recent, so that the check is well again by itself once a fault is over. The
flags --max-… say how much of each is well; what is not known is not taken to be
well, but said.

  caddy fotor-webhook status
  caddy fotor-webhook status avatars --json
  caddy fotor-webhook status --destination staging
  caddy fotor-webhook status --check || echo "look at the gateway"
  caddy fotor-webhook status --check --recent 15m --max-hold 10m --max-dead 3

A number that is not known is shown as – and is null with --json, which prints an object with the member "handlers", or that handler's object if
a name is given.
` + exitHelpNo("--check found something that needs attention"),
		Args: cobra.MaximumNArgs(1),
	}
	addCheckFlags(cmd)
	env.addDestinationFlag(cmd, "Only this destination", false)
	cmd.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return env.handlerNames(c, args, typed)
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		if len(args) == 1 {
			if s.handler != "" && s.handler != args[0] {
				return fmt.Errorf("two handlers are named, %q and --handler %q: expected one", args[0], s.handler)
			}
			s.handler = args[0]
			if err := errors.Join(errNoName(s.handler), checkName(s.handler)); err != nil {
				return err
			}
		}
		check, recent, limits, err := readLimits(cmd)
		if err != nil {
			return err
		}
		destination, err := destinationFlag(cmd, flagDestination)
		if err != nil {
			return err
		}
		if destination != "" {
			return s.statusOfDestination(ctx, destination, check, limits)
		}
		return s.status(ctx, recent, check, limits)
	})
}

func errNoName(name string) error {
	if name == "" {
		return errors.New("the name is empty: expected a handler's name, or none")
	}
	return nil
}

func (s *session) status(ctx context.Context, recent time.Duration, check bool, l limits) error {
	var all control.Handlers
	var raw []byte
	var err error
	ask := call{query: url.Values{"recent": {recent.String()}}}
	if s.handler == "" {
		all, raw, err = get[control.Handlers](ctx, s.client, ask)
	} else {
		ask.path = []string{s.handler}
		all.Handlers = make([]control.Handler, 1)
		all.Handlers[0], raw, err = get[control.Handler](ctx, s.client, ask)
		if p := all.Handlers[0].Process; p != nil {
			all.Process = *p
		}
	}
	if err != nil {
		return err
	}
	switch {
	case s.json:
		s.printJSON(raw)
	case len(all.Handlers) == 0:
		s.printUnattended(&all)
		return s.noHandler()
	case len(all.Handlers) == 1:
		s.printHandler(&all.Handlers[0], &all.Process)
	default:
		s.printHandlers(&all)
	}
	if !s.json && s.handler == "" {
		if len(all.Unattended) > 0 {
			s.print("\n")
		}
		s.printUnattended(&all)
	}
	if !check {
		return nil
	}
	if len(all.Handlers) == 0 {
		return s.noHandler()
	}
	found := s.unattendedAttention(all.Unattended)
	for i := range all.Handlers {
		h := &all.Handlers[i]
		found = s.attention(h.Name, s.exceeded(h, l)) || found
	}
	return attentionError(found)
}

func reasonOf(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + quoted(reason)
}

// unknown is shown for an unknown number.
const unknown = "–"

func known(n *int64, show func(int64) string) string {
	if n == nil {
		return unknown
	}
	return show(*n)
}

// countTexts are the numbers of events by state, as they are shown.
type countTexts struct{ pending, delivered, superseded, dead string }

func (s *session) counts(c *control.Counts) countTexts {
	if c == nil {
		return countTexts{unknown, unknown, unknown, unknown}
	}
	return countTexts{count(c.Pending), count(c.Delivered), count(c.Superseded), s.bad(c.Dead)}
}

// printHandlers prints a table of several handlers. Only people are told which Caddy
// answers: for others the table stands alone.
func (s *session) printHandlers(all *control.Handlers) {
	if s.aligned {
		f := &fields{printer: s.printer}
		if s.processFields(f, &all.Process, newestConfig(all.Handlers)); len(f.rows) > 0 {
			s.print(f.String() + "\n")
		}
	}
	s.print(s.overview(all.Handlers))
}

func (s *session) printHandler(h *control.Handler, process *control.Process) {
	f := &fields{printer: s.printer}
	s.processFields(f, process, h.ConfigLoaded)
	f.add("Handler", quoted(h.Name))
	f.add("Error", s.paint(quoted(h.Error), text.FgRed))
	s.trafficFields(f, h)
	s.countFields(f, h.Events, h.OldestPending)
	f.add("Quarantined", known(h.Quarantined, s.bad))
	f.add("Tasks", s.tasksText(h.Tasks))
	s.askingField(f, h.Asking)
	if h.Lost > 0 && h.LostAt != nil {
		f.add("Lost", s.bad(h.Lost)+", the last seen "+s.localTimeWithAge(*h.LostAt))
	}
	f.add("Under way", strconv.Itoa(h.UnderWay))
	if alone(h.Destinations) {
		unsettled := h.Pressure.Unsettled
		if unsettled != nil {
			f.add("Outcomes", s.paint(s.unsettled(unsettled, ""), text.FgRed))
		}
		if len(h.Holds) == 0 && unsettled == nil {
			f.add("Destination", s.destination(&h.Pressure))
		}
		for _, hold := range h.Holds {
			f.add("Held", s.paint(s.holdText(hold), text.FgYellow))
		}
	}
	inbox := known(h.InboxBytes, size)
	if used := s.used(h, "%.1f%%"); used != "" {
		inbox += " of " + size(*h.InboxLimit) + " (" + used + ")"
	}
	f.add("Inbox", inbox)
	f.add("Bodies", fmt.Sprintf("%s of %s, %d not whole yet", size(h.Bodies.Bytes), size(h.Bodies.Limit), h.Bodies.Reading))
	s.recentFields(f, &h.Recent)
	s.configFields(f, &h.Config)
	s.print(f.String())
	if !alone(h.Destinations) {
		s.printDestinations(h)
	}
	if len(h.Refusals) > 0 {
		s.print("\n" + s.refusals(h.Refusals))
	}
}

// countFields adds the numbers of events, or of deliveries, by state.
func (s *session) countFields(f *fields, c *control.Counts, oldest *time.Time) {
	events := s.counts(c)
	pending := events.pending
	if oldest != nil {
		pending += ", the oldest of " + s.localTimeWithAge(*oldest)
	}
	f.add("Pending", pending)
	f.add("Delivered", events.delivered)
	f.add("Superseded", events.superseded)
	f.add("Dead", events.dead)
	if c != nil && c.Skipped > 0 {
		f.add("Skipped", count(c.Skipped)+", which fit no destination")
	}
}

func (s *session) recentFields(f *fields, r *control.Recent) {
	invalid := s.bad(r.Invalid) + " not valid"
	if r.NotKept > 0 {
		invalid += " (" + s.bad(r.NotKept) + " not kept in quarantine)"
	}
	told := fmt.Sprintf("%s accepted, %s repeats, %s not stored, %s, %s too large, %s refused, since %s",
		count(r.Accepted), count(r.Duplicates), s.bad(r.Unavailable), invalid, s.bad(r.TooLarge), count(r.Refused),
		s.localTimeWithAge(r.From))
	f.add("Lately", told)
	if last := r.LastUnavailable; last != nil {
		f.add("Storage failed", fmt.Sprintf("last at %s%s", s.localTimeWithAge(last.At), reasonOf(last.Reason)))
	}
}

func (*session) configFields(f *fields, c *control.Config) {
	f.add("Storage", quoted(c.Storage))
	if c.Forward != "" {
		f.add("Forward", forwardText(c.Forward, c.SignSecrets))
	}
	for i := range c.Destinations {
		d := &c.Destinations[i]
		what := []string{quoted(d.Forward)}
		for _, line := range d.Match {
			what = append(what, quoted(line))
		}
		f.add("To "+quoted(d.Name), strings.Join(what, ", "))
	}
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
	f.add("Attempts", attemptsText(ownConfig(c)))
}

func (s *session) refusals(refusals []control.Refusal) string {
	columns := []column{
		{title: "REFUSED"},
		{title: "PEER", rank: 3},
		{title: "COUNT", rank: 2, right: true},
		{title: "LAST", rank: 2, short: ageOnly},
		{title: "REASON", rank: 1, least: 20},
	}
	more := 0
	if s.aligned {
		more = max(0, len(refusals)-maxRefusals)
		refusals = refusals[:len(refusals)-more]
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
	shown := s.table(columns, rows)
	if more > 0 {
		shown += count(int64(more)) + " more; --json has them all\n"
	}
	return shown
}

// maxRefusals is how many refused addresses are shown to people: strangers can make many.
const maxRefusals = 10

// ageOnly shortens a time with its age.
func ageOnly(s string) string {
	_, age, found := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	if !found {
		return s
	}
	return age
}

func underPressure(p *control.Pressure) bool { return p.High() }

// destination describes in words how a destination is that is not held. Some
// failures at its full limit are neither pressure nor well: they are of the events
// themselves, or too few to tell.
func (s *session) destination(p *control.Pressure) string {
	attempts := plural(int64(p.Attempts), "attempt")
	failed := fmt.Sprintf("%s of %s failed in the last minute", count(int64(p.Failed)), attempts)
	limited := fmt.Sprintf(", limited to %d at once", p.Limit)
	switch {
	case p.Concurrency == 0:
		return "" // an older Caddy does not say
	case underPressure(p):
		return s.paint("under pressure: "+failed+limited, text.FgYellow)
	case p.Failed > 0:
		return failed
	case p.Limit < p.Concurrency && p.Attempts == 0:
		return "recovering: no attempts in the last minute" + limited
	case p.Limit < p.Concurrency:
		return "recovering: no trouble in " + attempts + " of the last minute" + limited
	case p.Attempts == 0:
		return "no attempts in the last minute"
	default:
		return "well: no trouble in " + attempts + " of the last minute"
	}
}

// holdText describes who holds deliveries, since and until when, and why.
func (s *session) holdText(h control.Hold) string {
	told := "by " + quoted(h.By) + " since " + s.localTimeWithAge(h.Since)
	switch {
	case h.By == control.ByUpstream && h.Until == nil:
		told += ", the next try is under way or due"
	case h.By == control.ByUpstream:
		told += ", the next try at " + s.localTimeWithAge(*h.Until)
	case h.Until != nil:
		told += " until " + s.localTimeWithAge(*h.Until)
	}
	return told + reasonOf(h.Reason)
}
