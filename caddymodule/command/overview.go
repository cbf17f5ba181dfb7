package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// This file is the part of status that is about what happens at the moment: which Caddy
// answers, what came and went last, and the table of several handlers.

// processFields say which Caddy answers, and since when it and its config run. An older
// Caddy does not tell.
func (s *session) processFields(f *fields, p *control.Process, config time.Time) {
	if p == nil || p.Started.IsZero() {
		return
	}
	f.add("Caddy", quoted(p.Caddy)+", fotor_webhook "+quoted(p.Module))
	f.add("Running", "since "+s.localTimeWithAge(p.Started))
	if !config.IsZero() {
		f.add("Config", "of "+s.localTimeWithAge(config))
	}
	switch ahead := time.Duration(s.client.ahead.Load()); {
	case ahead > 0:
		f.add("Clock", "the server's is "+span(ahead)+" ahead of this one's; ages are by the server's")
	case ahead < 0:
		f.add("Clock", "the server's is "+span(-ahead)+" behind this one's; ages are by the server's")
	}
}

// newestConfig returns when the newest config of several handlers was loaded.
func newestConfig(handlers []control.Handler) (newest time.Time) {
	for i := range handlers {
		if at := handlers[i].ConfigLoaded; at.After(newest) {
			newest = at
		}
	}
	return newest
}

// traffic is what came and went in the last minute.
type traffic struct{ accepted, rejected, refused, delivered, failed int64 }

func trafficOf(h *control.Handler) traffic {
	r := &h.LastMinute
	t := traffic{
		accepted: r.Accepted + r.Duplicates, rejected: r.Unavailable + r.Invalid + r.TooLarge, refused: r.Refused,
	}
	for i := range h.Destinations {
		if p := h.Destinations[i].Pressure; p != nil {
			t.delivered += int64(p.Delivered)
			t.failed += int64(p.Failed)
		}
	}
	return t
}

// lastDelivery returns when an event was delivered last, to any destination.
func lastDelivery(h *control.Handler) (last *time.Time) {
	for i := range h.Destinations {
		if at := h.Destinations[i].LastDelivery; at != nil && (last == nil || at.After(*last)) {
			last = at
		}
	}
	return last
}

// trafficFields say what came and went last. An older Caddy does not tell.
func (s *session) trafficFields(f *fields, h *control.Handler) {
	if h.LastMinute.From.IsZero() {
		return
	}
	t := trafficOf(h)
	last := s.lastTime(h.LastCallback) + ", " + count(t.accepted) + inLastMinute
	if t.rejected > 0 {
		last += ", " + s.paint(count(t.rejected)+" not accepted", text.FgRed)
	}
	if t.refused > 0 {
		last += ", " + count(t.refused) + " refused"
	}
	f.add("Last callback", last)
	f.add("Last delivery", s.deliveryText(lastDelivery(h), t.delivered, t.failed))
}

const inLastMinute = " in the last minute"

// deliveryText tells when an event was delivered last, and what the last minute had.
func (s *session) deliveryText(last *time.Time, delivered, failed int64) string {
	told := s.lastTime(last) + ", " + count(delivered) + inLastMinute
	if failed > 0 {
		told += ", " + s.paint(count(failed)+" failed", text.FgYellow)
	}
	return told
}

// lastTime formats when something happened last in the process.
func (s *session) lastTime(at *time.Time) string {
	if at == nil {
		return "none since the start"
	}
	return s.localTimeWithAge(*at)
}

// lastAge is lastTime for tables.
func (s *session) lastAge(at *time.Time) string {
	if at == nil {
		return "none"
	}
	return s.shortAge(*at)
}

// shortAge formats how long ago a time was, for tables.
func (s *session) shortAge(at time.Time) string {
	age := s.now().Sub(at)
	if age < time.Second {
		return "now"
	}
	return span(age)
}

// inboxFull is what of its limit an inbox may take before it is shown in red.
const inboxFull = 0.9

// used returns how full an inbox is; "" if it has no limit or that is not known.
func (s *session) used(h *control.Handler, format string) string {
	if h.InboxBytes == nil || h.InboxLimit == nil || *h.InboxLimit <= 0 {
		return ""
	}
	part := float64(*h.InboxBytes) / float64(*h.InboxLimit)
	// not 100% before it is
	shown := fmt.Sprintf(format, math.Floor(1000*part)/10)
	if part > inboxFull {
		return s.paint(shown, text.FgRed)
	}
	return shown
}

// overviewColumns are of the table of several handlers.
var overviewColumns = []column{
	{title: "NAME", least: 12},
	{title: "PENDING", rank: 1, right: true},
	{title: "OLDEST", rank: 3, right: true},
	{title: "DEAD", rank: 1, right: true},
	{title: "LAST IN", rank: 3, right: true},
	{title: "IN/MIN", rank: 5, right: true},
	{title: "REFUSED/MIN", rank: 9, right: true},
	{title: "LAST OUT", rank: 4, right: true},
	{title: "OUT/MIN", rank: 6, right: true},
	{title: "ERR/MIN", rank: 7, right: true},
	{title: "USED", rank: 8, right: true},
	{title: "INBOX", rank: 10, right: true},
	{title: "QUARANTINED", rank: 11, right: true},
	{title: "DELIVERED", rank: 12, right: true},
	{title: "SUPERSEDED", rank: 14, right: true},
	{title: "UNDER WAY", rank: 13, right: true},
	{title: "NOTE", rank: 2, least: 20},
}

// overview is a table of several handlers, with a line for each destination of those that
// have several.
func (s *session) overview(handlers []control.Handler) string {
	rows := make([][]string, 0, len(handlers))
	for i := range handlers {
		h := &handlers[i]
		rows = append(rows, s.handlerRow(h))
		if alone(h.Destinations) {
			continue
		}
		for j := range h.Destinations {
			rows = append(rows, s.destinationRow(h, &h.Destinations[j]))
		}
	}
	return s.table(overviewColumns, rows)
}

func (s *session) handlerRow(h *control.Handler) []string {
	events, t := s.counts(h.Events), trafficOf(h)
	in, minute := unknown, [...]string{unknown, unknown, unknown, unknown}
	if !h.LastMinute.From.IsZero() {
		in = s.lastAge(h.LastCallback)
		minute = [...]string{count(t.accepted), count(t.refused), count(t.delivered), s.bad(t.failed)}
	}
	out := unknown
	if in != unknown {
		out = s.lastAge(lastDelivery(h))
	}
	return []string{
		quoted(h.Name), events.pending, s.oldest(h.OldestPending, h.Events), events.dead,
		in, minute[0], minute[1], out, minute[2], minute[3],
		s.used(h, "%.0f%%"), known(h.InboxBytes, size),
		known(h.Quarantined, s.bad), events.delivered, events.superseded, strconv.Itoa(h.UnderWay),
		s.paint(strings.Join(handlerNotes(h), "; "), text.FgYellow),
	}
}

// destinationRow is below that of its handler: indented for people, and else with its name.
func (s *session) destinationRow(h *control.Handler, d *control.Destination) []string {
	name := gap + quoted(d.Name)
	if !s.aligned {
		name = quoted(h.Name) + "/" + quoted(d.Name)
	}
	counts := s.counts(d.Deliveries)
	out, delivered, failed := s.out(d)
	return []string{
		name, counts.pending, s.oldest(d.OldestPending, d.Deliveries), counts.dead,
		"", "", "", out, delivered, failed,
		"", "", "", counts.delivered, counts.superseded, strconv.Itoa(d.UnderWay),
		s.paint(strings.Join(destinationNotes(d), "; "), text.FgYellow),
	}
}

// out returns when an event was delivered to a destination last, and how many deliveries and
// failed attempts the last minute had.
func (s *session) out(d *control.Destination) (last, delivered, failed string) {
	p := d.Pressure
	if p == nil {
		return "", "", ""
	}
	return s.lastAge(d.LastDelivery), count(int64(p.Delivered)), s.bad(int64(p.Failed))
}

const noteUnsettled = "outcomes cannot be stored"

// handlerNotes are what there is to be said of a handler; what is of one of several
// destinations stands there.
func handlerNotes(h *control.Handler) (notes []string) {
	if alone(h.Destinations) {
		for _, hold := range h.Holds {
			notes = append(notes, "held by "+quoted(hold.By))
		}
		if h.Pressure.Unsettled != nil {
			notes = append(notes, noteUnsettled)
		}
		if len(h.Holds) == 0 && underPressure(&h.Pressure) {
			notes = append(notes, "under pressure")
		}
	}
	if h.Lost > 0 {
		notes = append(notes, plural(h.Lost, "lost event"))
	}
	if h.Error != "" {
		notes = append(notes, quoted(h.Error))
	}
	if n := h.Recent.Unavailable; n > 0 {
		notes = append(notes, count(n)+" not stored lately")
	}
	if n := h.Recent.NotKept; n > 0 {
		notes = append(notes, count(n)+" not kept in quarantine lately")
	}
	return notes
}

// destinationNotes are what there is to be said of a destination.
func destinationNotes(d *control.Destination) (notes []string) {
	for _, hold := range d.Holds {
		notes = append(notes, "held by "+quoted(hold.By))
	}
	if d.Pressure != nil && d.Pressure.Unsettled != nil {
		notes = append(notes, noteUnsettled)
	}
	if len(d.Holds) == 0 && d.Pressure != nil && underPressure(d.Pressure) {
		notes = append(notes, "under pressure")
	}
	if !d.Configured {
		notes = append(notes, "left behind")
	}
	return notes
}
