package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// limits are the limits of --check. What is beyond one needs attention.
type limits struct {
	unavailable, tooLarge, invalid int64 // of the callbacks that arrived recently
	inboxUsed                      int64 // percent
	pendingAge                     time.Duration
	hold                           time.Duration
	dead                           int64
	quarantined                    int64 // negative: any number
}

// checkFlags are the flags that only count with --check.
var checkFlags = []string{
	"max-unavailable", "max-too-large", "max-invalid", "max-inbox-used",
	"max-pending-age", "max-hold", "max-dead", "max-quarantined",
}

func addCheckFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Bool("check", false, "Exit with 5 if something needs attention, and say what")
	flags.String("recent", control.RecentDefault.String(), "How far back callbacks are counted as having arrived lately, 10s to 1h")
	flags.Int64("max-unavailable", 0, "With --check: callbacks answered 503 lately, because they could not be stored")
	flags.Int64("max-too-large", 0, "With --check: callbacks larger than max_body lately, which are kept nowhere")
	flags.Int64("max-invalid", 0, "With --check: callbacks lately that were not valid")
	flags.Int64("max-inbox-used", 90, "With --check: how full the inbox is, in percent")
	flags.String("max-pending-age", "1h", "With --check: age of the oldest pending event")
	flags.String("max-hold", "0s", "With --check: how long deliveries are held")
	flags.Int64("max-dead", 0, "With --check: dead events")
	flags.Int64("max-quarantined", -1, "With --check: callbacks in quarantine, however long ago they came; -1 is any number")
	completeNothing(cmd, append([]string{"recent"}, checkFlags...)...)
}

// readLimits reads the flags of addCheckFlags.
func readLimits(cmd *cobra.Command) (check bool, recent time.Duration, l limits, err error) {
	flags := cmd.Flags()
	check, _ = flags.GetBool("check")
	value, _ := flags.GetString("recent")
	recent, err = parseDuration("recent", value)
	if err != nil || recent < control.RecentMin || recent > control.RecentMax {
		return check, recent, l, fmt.Errorf("--recent %q: expected a duration from %s to %s, such as 5m", value, span(control.RecentMin), span(control.RecentMax))
	}
	var errs []error
	for _, name := range checkFlags {
		if flags.Changed(name) && !check {
			errs = append(errs, fmt.Errorf("--%s is for --check, which is not given", name))
		}
	}
	number := func(name string, least int64) int64 {
		n, _ := flags.GetInt64(name)
		if n < least {
			errs = append(errs, fmt.Errorf("--%s %d: expected %d or more", name, n, least))
		}
		return n
	}
	duration := func(name string) time.Duration {
		value, _ := flags.GetString(name)
		if value == "0" || value == "0s" {
			return 0
		}
		d, err := parseDuration(name, value)
		errs = append(errs, err)
		return d
	}
	l = limits{
		unavailable: number("max-unavailable", 0),
		tooLarge:    number("max-too-large", 0),
		invalid:     number("max-invalid", 0),
		inboxUsed:   number("max-inbox-used", 0),
		pendingAge:  duration("max-pending-age"),
		hold:        duration("max-hold"),
		dead:        number("max-dead", 0),
		quarantined: number("max-quarantined", -1),
	}
	return check, recent, l, errors.Join(errs...)
}

// needsAttention prints a line of --check. With --json it goes to stderr, beside
// the document.
func (s *session) needsAttention(line string) {
	if s.json {
		s.note("%s", line)
	} else {
		s.say(s.paint("needs attention:", text.FgRed) + " " + line)
	}
}

// attention prints what was found at a handler, and reports whether anything was.
func (s *session) attention(handler string, found []string) bool {
	for _, what := range found {
		s.needsAttention(quoted(handler) + ": " + what)
	}
	return len(found) > 0
}

// attentionError returns the error with which --check ends if anything was found.
func attentionError(found bool) error {
	if found {
		return exitQuietly(exitNo)
	}
	return nil
}

// lossShown is how long --check reports lost events. They never come back, so it must
// not report them for ever, as status does.
const lossShown = 24 * time.Hour

// exceeded lists what is beyond its limit; what may lose callbacks comes first.
func (s *session) exceeded(h *control.Handler, l limits) (found []string) {
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if h.Error != "" {
		add("the inbox is down: %s", quoted(h.Error))
	}
	now := s.now()
	lately := " since " + s.localTimeWithAge(h.Recent.From)
	why := ""
	if last := h.Recent.LastUnavailable; last != nil {
		why = fmt.Sprintf(", the last at %s: %s", s.localTimeWithAge(last.At), quoted(last.Reason))
	}
	if n := h.Recent.Unavailable; n > l.unavailable {
		add("%s could not be stored and got 503%s%s", plural(n, "callback"), lately, why)
	}
	if n := h.Recent.NotKept; n > 0 {
		add("%s could not be kept in quarantine%s%s", plural(n, "invalid callback"), lately, why)
	}
	if n := h.Recent.TooLarge; n > l.tooLarge {
		add("%s larger than %s and kept nowhere%s", plural(n, "callback"), size(h.Config.MaxBody), lately)
	}
	if h.LostAt != nil && h.Lost > 0 && now.Sub(*h.LostAt) < lossShown {
		add("%s, the last seen %s", plural(h.Lost, "lost event"), s.localTimeWithAge(*h.LostAt))
	}
	if h.InboxBytes != nil && h.InboxLimit != nil && *h.InboxLimit > 0 {
		if used := 100 * float64(*h.InboxBytes) / float64(*h.InboxLimit); used > float64(l.inboxUsed) {
			add("the inbox is %.1f%% full: %s of %s", used, size(*h.InboxBytes), size(*h.InboxLimit))
		}
	}
	if alone(h.Destinations) {
		only := control.Destination{Configured: true, Deliveries: h.Events, OldestPending: h.OldestPending, Holds: h.Holds, Pressure: &h.Pressure}
		found = append(found, s.exceededAt(&only, l)...)
	} else {
		for i := range h.Destinations {
			found = append(found, s.exceededAt(&h.Destinations[i], l)...)
		}
	}
	if a := h.Asking; a != nil && a.State != control.AskingWorks {
		add("%s, %s", askingState(a), s.localTimeWithAge(a.Since))
	}
	if n := h.Recent.Invalid; n > l.invalid {
		add("%s not valid%s", plural(n, "callback"), lately)
	}
	if h.Quarantined != nil && l.quarantined >= 0 && *h.Quarantined > l.quarantined {
		add("%s in quarantine", plural(*h.Quarantined, "callback"))
	}
	return found
}
