package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// This file is the part of status that is about destinations.

// statusOfDestination prints the status of one destination. With check it says what needs
// attention there.
func (s *session) statusOfDestination(ctx context.Context, name string, check bool, l limits) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	h, raw, err := get[control.Handler](ctx, s.client, call{path: []string{handler}})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(h.Destinations, func(d control.Destination) bool { return d.Name == name })
	if i < 0 {
		return noDestination(&h, name)
	}
	if s.json {
		var all struct {
			Destinations []json.RawMessage `json:"destinations"`
		}
		if err := json.Unmarshal(raw, &all); err != nil {
			return fmt.Errorf("the answer of %s is not what this version expects: %w", s.client.address, err)
		}
		s.printJSON(all.Destinations[i])
	} else {
		s.printDestination(&h, &h.Destinations[i])
	}
	if !check {
		return nil
	}
	found := s.exceededAt(&h.Destinations[i], l)
	if h.Error != "" {
		found = append([]string{"the inbox is down: " + quoted(h.Error)}, found...)
	}
	return attentionError(s.attention(h.Name, found))
}

func noDestination(h *control.Handler, name string) error {
	if len(h.Destinations) == 0 {
		return errors.New("this Caddy has an older version, which does not tell about destinations")
	}
	names := make([]string, 0, len(h.Destinations))
	for i := range h.Destinations {
		names = append(names, quoted(h.Destinations[i].Name))
	}
	return &exitError{exitNotFound, fmt.Errorf("handler %s has no destination %q: expected %s", quoted(h.Name), name, strings.Join(names, ", "))}
}

// printDestinations prints a table of a handler's destinations, and what to do about those
// that no config names any more.
func (s *session) printDestinations(h *control.Handler) {
	columns := []column{
		{title: "DESTINATION", least: 11},
		{title: "PENDING", right: true},
		{title: "OLDEST", rank: 2, right: true},
		{title: "DEAD", right: true},
		{title: "LAST OUT", rank: 3, right: true},
		{title: "OUT/MIN", rank: 4, right: true},
		{title: "ERR/MIN", rank: 4, right: true},
		{title: "HOW IT IS", rank: 1, least: 24},
	}
	rows := make([][]string, 0, len(h.Destinations))
	for i := range h.Destinations {
		d := &h.Destinations[i]
		counts := s.counts(d.Deliveries)
		out, delivered, failed := s.out(d)
		rows = append(rows, []string{
			quoted(d.Name), counts.pending, s.oldest(d.OldestPending, d.Deliveries), counts.dead,
			out, delivered, failed, strings.Join(s.howItIs(d), "; "),
		})
	}
	s.print("\n" + s.table(columns, rows))
	for i := range h.Destinations {
		if pending, dead := leftBehind(&h.Destinations[i]); pending > 0 || dead > 0 {
			s.print("\n" + s.leftHint(h.Name, &h.Destinations[i]))
		}
	}
}

// howItIs describes in words how a destination is: its holds, or else the trouble that
// attempts had lately.
func (s *session) howItIs(d *control.Destination) (told []string) {
	pending, dead := leftBehind(d)
	switch {
	case pending > 0 || dead > 0:
		return []string{s.paint("left behind: no config names it", text.FgYellow)}
	case !d.Configured && d.Deliveries == nil:
		return []string{"no config names it"}
	case !d.Configured:
		return []string{"no config names it; nothing is left to deliver"}
	}
	for _, hold := range d.Holds {
		told = append(told, s.paint("held "+s.holdText(hold), text.FgYellow))
	}
	if d.Name == inbox.ConfirmDestination {
		told = append(told, "callbacks that wait until Fotor confirms them")
	}
	if d.Pressure != nil && d.Pressure.Unsettled != nil {
		told = append(told, s.paint(s.unsettled(d.Pressure.Unsettled, ""), text.FgRed))
	}
	if len(told) == 0 && d.Pressure != nil {
		told = append(told, s.destination(d.Pressure))
	}
	return told
}

// unsettled says that outcomes cannot be stored, and with what they have to do.
func (s *session) unsettled(u *control.Unsettled, where string) string {
	return fmt.Sprintf("what became of %s%s cannot be stored since %s: %s",
		plural(int64(u.Outcomes), "attempt"), where, s.localTimeWithAge(u.Since), quoted(u.Reason))
}

// leftHint says what to do about what was left behind.
func (s *session) leftHint(handler string, d *control.Destination) string {
	pending, dead := leftBehind(d)
	name := quoted(d.Name)
	command := func(verb, rest string) string {
		return fmt.Sprintf("  caddy fotor-webhook %s -n %s --destination %s %s\n", verb, quoted(handler), name, rest)
	}
	left := fmt.Sprintf("%s for %s will not be delivered until a config names %[2]s again.", leftText(pending, dead), name)
	return s.prose(left, 0) + "\nTo deliver elsewhere, or to delete:\n" +
		command("replay", "--to <destination>") + command("purge", "--state pending,dead")
}

// oldest formats the age of the oldest pending event.
func (s *session) oldest(oldest *time.Time, counts *control.Counts) string {
	switch {
	case oldest != nil:
		return s.shortAge(*oldest)
	case counts != nil:
		return "none"
	}
	return unknown
}

// printDestination prints one destination.
func (s *session) printDestination(h *control.Handler, d *control.Destination) {
	f := &fields{printer: s.printer}
	f.add("Destination", quoted(d.Name))
	f.add("Handler", quoted(h.Name))
	f.add("Error", s.paint(quoted(h.Error), text.FgRed))
	if d.Pressure != nil && !h.LastMinute.From.IsZero() {
		f.add("Last delivery", s.deliveryText(d.LastDelivery, int64(d.Pressure.Delivered), int64(d.Pressure.Failed)))
	}
	s.countFields(f, d.Deliveries, d.OldestPending)
	f.add("Under way", strconv.Itoa(d.UnderWay))
	for _, told := range s.howItIs(d) {
		f.add("How it is", told)
	}
	if c := destinationConfig(&h.Config, d.Name); c != nil {
		f.add("Forward", forwardText(c.Forward, c.SignSecrets))
		for _, line := range c.Match {
			f.add("Match", quoted(line))
		}
		f.add("Attempts", attemptsText(c))
	}
	s.print(f.String())
	if pending, dead := leftBehind(d); pending > 0 || dead > 0 {
		s.print("\n" + s.leftHint(h.Name, d))
	}
}

// exceededAt lists what is beyond its limit at a destination, which has no name if it is
// the only one.
func (s *session) exceededAt(d *control.Destination, l limits) (found []string) {
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	named := func(preposition string) string {
		if d.Name == "" {
			return ""
		}
		return " " + preposition + " " + quoted(d.Name)
	}
	if !d.Configured {
		if pending, dead := leftBehind(d); pending > 0 || dead > l.dead {
			add("%s left behind%s, which no config names", leftText(pending, dead), named("for"))
		}
		return found
	}
	now := s.now()
	if d.Pressure != nil && d.Pressure.Unsettled != nil {
		add("%s", s.unsettled(d.Pressure.Unsettled, named("to")))
	}
	if d.OldestPending != nil {
		if age := now.Sub(*d.OldestPending); age > l.pendingAge {
			add("the oldest pending event%s has waited for %s", named("for"), span(age))
		}
	}
	for _, hold := range d.Holds {
		if lasts := now.Sub(hold.Since); lasts >= l.hold {
			add("deliveries%s are held by %s for %s%s", named("to"), quoted(hold.By), span(max(0, lasts)), reasonOf(hold.Reason))
		}
	}
	if d.Deliveries != nil && d.Deliveries.Dead > l.dead {
		add("%s%s", plural(d.Deliveries.Dead, "dead event"), named("at"))
	}
	return found
}

// destinationConfig returns the config of a destination, which for the default one is the
// handler's own; nil if it has none.
func destinationConfig(c *control.Config, name string) *control.DestinationConfig {
	for i := range c.Destinations {
		if c.Destinations[i].Name == name {
			return &c.Destinations[i]
		}
	}
	if name != inbox.DefaultDestination || c.Forward == "" {
		return nil
	}
	return ownConfig(c)
}

// ownConfig returns what the handler's own options say about deliveries.
func ownConfig(c *control.Config) *control.DestinationConfig {
	return &control.DestinationConfig{
		Name: inbox.DefaultDestination, Forward: c.Forward, SignSecrets: c.SignSecrets, Timeout: c.Timeout, Concurrency: c.Concurrency, Rate: c.Rate,
		RetryFirst: c.RetryFirst, RetryMax: c.RetryMax, GiveUp: c.GiveUp,
	}
}

func forwardText(forward string, secrets int) string {
	return quoted(forward) + ", signed with " + plural(int64(secrets), "secret")
}

func attemptsText(c *control.DestinationConfig) string {
	rate := ""
	if c.Rate > 0 {
		rate = ", " + strconv.FormatFloat(c.Rate, 'f', -1, 64) + " a second"
	}
	return fmt.Sprintf("timeout %s, %d at once%s, retry after %s up to %s, give up after %s",
		configDuration(c.Timeout), c.Concurrency, rate, configDuration(c.RetryFirst), configDuration(c.RetryMax), configDuration(c.GiveUp))
}
