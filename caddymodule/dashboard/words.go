package dashboard

import (
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// The lengths to which texts from outside are cut, in characters: in a cell of a table, in
// a line of its own, and where it is the subject of the page.
const (
	cutCell = 60
	cutLine = 400
	cutLong = 4000
)

// functions are what templates may use. Whatever comes from outside goes through text,
// name or long if it stands alone, such as an id, and through line if it is told, such as
// a reason. In them nothing invisible is hidden; html/template escapes it.
var functions = template.FuncMap{
	"text":     func(s string) string { return value(s, cutCell) },
	"name":     func(s string) string { return value(s, cutLine) },
	"long":     func(s string) string { return value(s, cutLong) },
	"line":     func(s string) string { return cut(s, cutLine) },
	"count":    humanize.Comma,
	"int":      func(n int) int64 { return int64(n) },
	"size":     func(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) },
	"span":     show.Span,
	"ms":       func(ms float64) string { return show.Latency(time.Duration(ms * float64(time.Millisecond))) },
	"plural":   plural,
	"href":     href,
	"exact":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"utc":      utc,
	"words":    func(s string) string { return strings.ReplaceAll(s, "_", " ") },
	"state":    stateOf,
	"ended":    ended,
	"last":     lastEnded,
	"reason":   reasonOf,
	"alike":    alike,
	"replayed": replayed,
	"lower":    strings.ToLower,
	"asset":    func(name string) string { return assets[name].name },
	"minus":    func(a, b int) int { return a - b },
	"some":     func(n *int64) bool { return n != nil && *n > 0 },
	"full":     func() int { return nearlyFull },
}

// cut shortens a text to at most that many characters, and makes visible what is not.
func cut(s string, most int) string { return show.Text(shorten(s, most)) }

// value is cut for what stands alone: spaces at its ends are made visible, too.
func value(s string, most int) string { return show.Value(shorten(s, most)) }

func shorten(s string, most int) string {
	shortened := false
	if len(s) > most*utf8.UTFMax { // so that a long text costs no more than a short one
		s, shortened = strings.ToValidUTF8(s[:most*utf8.UTFMax], ""), true
	}
	if utf8.RuneCountInString(s) > most {
		s, shortened = string([]rune(s)[:most]), true
	}
	if shortened {
		s += "…"
	}
	return s
}

// plural is a count with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(n) + " " + noun + "s"
}

// href returns a link to a page: its last part, then names and values of parameters. One
// without a value is left out.
func href(leaf string, pairs ...string) string {
	values := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	link := "./" + leaf
	if len(values) > 0 {
		link += "?" + values.Encode()
	}
	return link
}

// utc is a time for people, for as long as no script makes it local.
func utc(t time.Time) string { return t.UTC().Format("2 Jan 15:04:05") + " UTC" }

// chip is a short word about a state. Class says which colour it has.
type chip struct{ Class, Word string }

// The classes of chips.
const (
	isWell = "well"
	isInfo = "info"
	isWarn = "warn"
	isBad  = "bad"
	isIdle = "idle"
)

// stateOf returns the chip of an event's or a delivery's state.
func stateOf(state string) chip {
	switch state {
	case "delivered":
		return chip{isWell, "Delivered"}
	case "pending":
		return chip{isInfo, "Pending"}
	case "dead":
		return chip{isBad, "Dead"}
	case "superseded":
		return chip{isIdle, "Superseded"}
	case "skipped":
		return chip{isIdle, "Skipped"}
	}
	return chip{isIdle, cut(state, cutCell)}
}

// ended returns the chip of an attempt at a destination: what the service answered, or what
// came of asking Fotor.
func ended(destination string, a control.Attempt) chip {
	switch {
	case destination == inbox.ConfirmDestination && a.Reason != "":
		return chip{isBad, "Not confirmed"}
	case destination == inbox.ConfirmDestination:
		return chip{isWell, "Done"}
	case a.Status == 0:
		return chip{isBad, "No answer"}
	case a.Reason == "":
		return chip{isWell, fmt.Sprintf("HTTP %d", a.Status)}
	default:
		return chip{isBad, fmt.Sprintf("HTTP %d", a.Status)}
	}
}

// lastEnded returns the chip of an event's last attempt, at any destination.
func lastEnded(e control.Event) chip {
	destination := ""
	if e.Status == inbox.Unconfirmed.String() {
		destination = inbox.ConfirmDestination
	}
	return ended(destination, *e.LastAttempt)
}

// reasonOf returns why an attempt failed, without the status that stands beside it.
func reasonOf(a control.Attempt) string {
	status := fmt.Sprintf("HTTP %d", a.Status)
	if a.Reason == status {
		return ""
	}
	return strings.TrimPrefix(a.Reason, status+": ")
}

// alike reports whether all deliveries of an event are in the state that the event is in.
func alike(e control.Event) bool {
	return !slices.ContainsFunc(e.Deliveries, func(d control.Delivery) bool { return d.State != e.State })
}

// replayed returns the replays right before an attempt.
func replayed(replays []control.Replay, number int) (before []control.Replay) {
	for _, r := range replays {
		if r.After == number-1 {
			before = append(before, r)
		}
	}
	return before
}
