package dashboard

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// overviewPage is how all handlers are doing.
type overviewPage struct {
	Handlers       []handlerView
	Unattended     []control.Unattended
	MoreUnattended bool

	// Spans lead to the same page with charts of other spans.
	Spans []navigation
}

// handlerView is how one handler is doing.
type handlerView struct {
	control.Handler
	Link         string // the parameter handler of links
	Condition    condition
	Destinations []destinationView

	// Room is how full the inbox is, in percent; -1 if that is not known, or if it has no
	// limit.
	Room float64
	Age  string // of the oldest pending event
	Keep string // how long delivered events stay

	Charts *chartsView

	Act *holdAct // of all destinations; nil if there is nothing to do
}

// destinationView is how one destination is doing.
type destinationView struct {
	control.Destination
	Condition condition
	Match     []string // which events go there; empty for all
	Age       string   // of the oldest pending event
	Rate      float64  // attempts a second at most; 0 is unlimited

	Act *holdAct // nil if there is nothing to do
}

// condition says in words how something is doing, and why.
type condition struct {
	chip
	Why string

	// Reason is why in words from outside: an error, or what an operator gave.
	Reason string

	// When is when that changes, or is tried next, as Until says; nil if it is not known.
	When  *time.Time
	Until string
}

func (v *visit) overview() error {
	p := query.New(v.r.URL.RawQuery, "recent", "span")
	recent, span := p.Recent(), p.Span()
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	page := overviewPage{Handlers: v.summaries(recent, span)}
	for _, name := range control.HistorySpans {
		page.Spans = append(page.Spans, navigation{name, href(leafOverview, "recent", p.Values.Get("recent"), "span", name), name == span})
	}
	page.Unattended, page.MoreUnattended = control.Inboxes(v.r.Context())
	return v.show("overview", "Overview", page)
}

// summaries asks all handlers at once: each of them may take long if its inbox does not
// answer.
func (v *visit) summaries(recent time.Duration, span string) []handlerView {
	views := make([]*handlerView, len(v.names))
	var wg sync.WaitGroup
	for i, name := range v.names {
		wg.Go(func() { views[i] = v.summary(v.r.Context(), name, recent, span) })
	}
	wg.Wait()
	shown := make([]handlerView, 0, len(views))
	for _, view := range views {
		if view != nil {
			shown = append(shown, *view)
		}
	}
	return shown
}

// summary returns nil if the handler has stopped meanwhile.
func (v *visit) summary(ctx context.Context, name string, recent time.Duration, span string) *handlerView {
	gateway, err := control.Open(name)
	if err != nil {
		return nil
	}
	defer v.closeGateway(gateway, name)
	view := viewOf(gateway.Summary(ctx, recent), time.Now())
	if len(v.names) > 1 {
		view.Link = name
	}
	if v.handler.AllowActions {
		view.addActs()
	}
	view.Charts = chartsOf(new(gateway.History(span)), view.Link, time.Now())
	return view
}

func viewOf(h control.Handler, now time.Time) *handlerView {
	view := &handlerView{Handler: h, Room: -1, Age: age(h.OldestPending, now)}
	if h.InboxBytes != nil && h.InboxLimit != nil && *h.InboxLimit > 0 {
		view.Room = min(100, 100*float64(*h.InboxBytes)/float64(*h.InboxLimit))
	}
	if keep, err := caddy.ParseDuration(h.Config.Keep); err == nil {
		view.Keep = show.Span(keep)
	}
	for _, d := range h.Destinations {
		dv := destinationView{Destination: d, Condition: destinationCondition(&d), Age: age(d.OldestPending, now)}
		if d.Name == "default" {
			dv.Rate = h.Config.Rate
		}
		for i := range h.Config.Destinations {
			if c := &h.Config.Destinations[i]; c.Name == d.Name {
				dv.Match, dv.Rate = c.Match, c.Rate
			}
		}
		view.Destinations = append(view.Destinations, dv)
	}
	view.Condition = handlerCondition(view)
	return view
}

// age says how long ago a time is; "" for none.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return show.Span(max(now.Sub(*t), 0).Truncate(time.Second))
}

// nearlyFull is the share of an inbox's room, in percent, from which it is said.
const nearlyFull = 90

// handlerCondition is the worst that can be said of a handler.
func handlerCondition(v *handlerView) condition {
	switch {
	case v.Error != "":
		return condition{chip: chip{isBad, "Inbox in trouble"}, Why: "The inbox does not answer.", Reason: v.Error}
	case v.Recent.Unavailable > 0:
		c := condition{chip: chip{isBad, "Not storing"}, Why: plural(v.Recent.Unavailable, "callback") + " could not be stored lately and got 503."}
		if last := v.Recent.LastUnavailable; last != nil {
			c.Reason = last.Reason
		}
		return c
	case v.Room >= nearlyFull:
		return condition{chip: chip{isBad, "Nearly full"}, Why: fmt.Sprintf("%.0f %% of the inbox's room is taken. Once it is full, callbacks get 503.", v.Room)}
	}
	worst := condition{chip: chip{isWell, "Well"}}
	for i := range v.Destinations {
		c := v.Destinations[i].Condition
		if c.Class == isBad || c.Class == isWarn && worst.Class != isBad {
			worst = c
			worst.Why = fmt.Sprintf("Destination %s: %s", v.Destinations[i].Name, c.Why)
		}
	}
	return worst
}

// destinationCondition says how a destination is doing.
func destinationCondition(d *control.Destination) condition {
	if c := stopped(d); c != nil {
		return *c
	}
	p := d.Pressure
	switch {
	case d.Name == inbox.ConfirmDestination:
		return condition{chip: chip{isInfo, "Asking"}, Why: "Callbacks that wait until Fotor confirms them."}
	case p == nil:
		return condition{chip: chip{isIdle, "Not known"}}
	}
	attempts := plural(int64(p.Attempts), "attempt")
	failed := fmt.Sprintf("%s of %s failed in the last minute", humanize.Comma(int64(p.Failed)), attempts)
	limited := fmt.Sprintf("%s at once instead of %s", humanize.Comma(int64(p.Limit)), humanize.Comma(int64(p.Concurrency)))
	switch {
	case p.High():
		return condition{chip: chip{isWarn, "Under pressure"}, Why: failed + "; it gets " + limited + "."}
	case p.Failed*10 >= p.Attempts && p.Failed > 0: // the events' own, or too few to tell
		return condition{chip: chip{isWarn, "Failures"}, Why: failed + "."}
	case p.Failed > 0:
		return condition{chip: chip{isWell, "Mostly well"}, Why: failed + "."}
	case p.Limit < p.Concurrency:
		return condition{chip: chip{isInfo, "Recovering"}, Why: "It gets " + limited + ", and more with each success."}
	case p.Attempts == 0:
		return condition{chip: chip{isWell, "Well"}, Why: "No attempts in the last minute."}
	default:
		return condition{chip: chip{isWell, "Well"}, Why: attempts + " in the last minute, none failed."}
	}
}

// stopped says why deliveries to a destination wait; nil if they do not.
func stopped(d *control.Destination) *condition {
	if !d.Configured {
		return &condition{chip: chip{isWarn, "Left behind"}, Why: "No running config names it. What waits here stays until it is configured again, replayed to another destination, or purged."}
	}
	if d.Pressure != nil && d.Pressure.Unsettled != nil {
		u := d.Pressure.Unsettled
		why := fmt.Sprintf("What became of %s cannot be stored", plural(int64(u.Outcomes), "attempt"))
		return &condition{chip: chip{isBad, "Not stored"}, Why: why, When: &u.Since, Until: "since", Reason: u.Reason}
	}
	for _, by := range []string{control.ByOperator, control.ByUpstream} {
		for i := range d.Holds {
			if d.Holds[i].By == by {
				return new(held(&d.Holds[i]))
			}
		}
	}
	return nil
}

func held(h *control.Hold) condition {
	if h.By == control.ByOperator {
		c := condition{chip: chip{isWarn, "Held by hand"}, Why: "Nothing is delivered until somebody resumes it.", Reason: h.Reason}
		if h.Until != nil {
			c.Why, c.When, c.Until = "Nothing is delivered", h.Until, "until"
		}
		return c
	}
	c := condition{chip: chip{isBad, "In trouble"}, Why: "Deliveries wait; single events are tried.", Reason: h.Reason}
	if h.Until != nil {
		c.When, c.Until = h.Until, "Next try at"
	}
	return c
}
