package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The rows of a page of a list: the default, and the most that it may ask for.
const (
	rows    = 50
	mostRow = 200
)

// eventsPage is a list of events.
type eventsPage struct {
	Filter  filterForm
	Events  []control.Event
	Several bool   // the handler has several destinations
	Act     string // the handler's name in forms; "" without actions

	// First is the link to the first page, "" on that one, and Next to the next.
	First, Next string

	// Search is what was searched for; nil on a page of the list.
	Search *searched
}

// filterForm is the form that chooses events.
type filterForm struct {
	Handler                                      string
	States                                       []stateBox
	Destinations                                 []string
	Destination, Type, Task, Since, Until, Order string
	On                                           bool // something is chosen
}

type stateBox struct {
	Name    string
	Checked bool
}

func (v *visit) events() error {
	values, err := url.ParseQuery(v.r.URL.RawQuery)
	if err != nil {
		return badRequest(err)
	}
	if v.tidy(values) {
		return nil
	}
	p := query.Of(values, append([]string{"handler", "q", "limit", "cursor", "order"}, control.FilterParams...)...)
	filter, page := p.Filter(), p.Page()
	page.Limit = p.Number("limit", 1, mostRow, rows)
	name, search := p.Text("handler"), strings.TrimSpace(p.Text("q"))
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	if search != "" {
		return v.search(search)
	}
	list, err := control.ListEvents(v.r.Context(), v.gateway.Inbox(), filter, page)
	if err != nil {
		return err
	}
	shown := v.eventsPage(list.Events, &filter)
	shown.Filter.Since, shown.Filter.Until, shown.Filter.Order = values.Get("since"), values.Get("until"), values.Get("order")
	destinations := shown.Filter.Destinations
	if filter.Destination != "" && !slices.Contains(destinations, filter.Destination) {
		shown.Filter.Destinations = append([]string{filter.Destination}, destinations...)
	}
	shown.Filter.On = slices.ContainsFunc(control.FilterParams, p.Has)
	if page.Cursor != "" {
		shown.First = with(values, "")
	}
	if list.Next != "" {
		shown.Next = with(values, list.Next)
	}
	return v.show("events", "Events", shown)
}

// eventsPage is a page with events, and the form with a filter.
func (v *visit) eventsPage(events []control.Event, filter *inbox.Filter) *eventsPage {
	destinations := v.gateway.Destinations()
	page := &eventsPage{Events: events, Act: v.acting(), Several: len(destinations) > 1, Filter: filterForm{
		Handler: v.one(), Destinations: destinations, Destination: filter.Destination, Type: filter.Type, Task: filter.TaskID,
	}}
	for _, state := range inbox.States {
		page.Filter.States = append(page.Filter.States, stateBox{state.String(), slices.Contains(filter.States, state)})
	}
	return page
}

// tidy redirects to a shorter address if a form has sent fields that are empty, or a state
// for each of its boxes. It reports whether it did.
func (v *visit) tidy(values url.Values) bool {
	redirect := false
	for name, all := range values {
		if given := slices.DeleteFunc(all, func(s string) bool { return s == "" }); len(given) < len(all) {
			redirect, values[name] = true, given
		}
		if len(values[name]) == 0 {
			delete(values, name)
		}
	}
	if states := values["state"]; len(states) > 1 && len(states) <= len(inbox.States) {
		redirect = true
		values.Set("state", strings.Join(states, ","))
	}
	if redirect {
		v.redirect("./" + leafEvents + "?" + values.Encode())
	}
	return redirect
}

// redirect sends the client to another page.
func (v *visit) redirect(link string) {
	v.w.Header().Set("Location", link)
	v.w.WriteHeader(http.StatusSeeOther)
}

// with returns the link to another page of the list.
func with(values url.Values, cursor string) string {
	pairs := make([]string, 0, 2*len(values)+2)
	for name := range values {
		if name != "cursor" {
			pairs = append(pairs, name, values.Get(name))
		}
	}
	return href(leafEvents, append(pairs, "cursor", cursor)...)
}

// eventPage is all that is known of an event.
type eventPage struct {
	control.EventDetail
	Handler  string // as links need it
	Received time.Time
	Callback callbackView
	Media    []media
	MoreURLs int // links beyond those in Media
	Body     string
	Cut      string // how large the body is, if only its beginning is shown
	Outgoing outgoing

	Act    string   // the handler's name in forms; "" without actions
	Others []string // destinations of the config that it does not go to
	All    []string // destinations of the config

	holds []control.Hold
}

// Waits reports whether it stands for a callback that Fotor is to be asked about first.
func (p *eventPage) Waits() bool { return p.Status == inbox.Unconfirmed.String() }

// Left reports whether the config has a destination no more.
func (p *eventPage) Left(destination string) bool { return !slices.Contains(p.All, destination) }

// Stopped says why deliveries to a destination wait; nil if they do not.
func (p *eventPage) Stopped(destination string) *condition {
	d := control.Destination{Name: destination, Configured: p.Waits() || !p.Left(destination)}
	for _, h := range p.holds {
		if h.Destination == destination {
			d.Holds = append(d.Holds, h)
		}
	}
	return stopped(&d)
}

// maxBody bounds how much of a body a page shows, in bytes.
const maxBody = 256 << 10

func (v *visit) event() error {
	p := query.New(v.r.URL.RawQuery, "handler", "id")
	name, id := p.Text("handler"), p.Text("id")
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	detail, err := control.ShowEvent(v.r.Context(), v.gateway.Inbox(), id)
	if err != nil {
		return err
	}
	page := eventPage{EventDetail: detail, Handler: v.one(), Received: detail.ReceivedAt, Callback: callbackOf(detail.Body)}
	page.Media, page.MoreURLs = page.Callback.media(v.handler.ImageHosts)
	page.Body, page.Cut = pretty(detail.Body)
	if page.Outgoing, err = v.outgoing(v.r.Context(), &detail); err != nil {
		return err
	}
	page.Act, page.All, page.holds = v.acting(), v.gateway.Destinations(), v.gateway.Holds().Holds
	for _, name := range page.All {
		if !slices.ContainsFunc(page.Deliveries, func(d control.Delivery) bool { return d.Destination == name }) {
			page.Others = append(page.Others, name)
		}
	}
	return v.show("event", "Event "+value(detail.TaskID, cutCell), &page)
}

// suspectID returns the id of a quarantined callback.
func suspectID(p *query.Params) int64 {
	id, err := strconv.ParseInt(p.Text("id"), 10, 64)
	if err != nil || id < 1 {
		p.Fail("id", "it is %.64q: expected the number of a quarantined callback", p.Values.Get("id"))
	}
	return id
}
