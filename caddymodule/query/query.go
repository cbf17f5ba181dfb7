// Package query reads the parameters of what operators ask: of the requests to the admin
// API, and of the pages of the dashboard. So both take the same, refuse the same, and say
// so in the same words. docs/admin-api.md describes the parameters for users.
package query

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// MaxText bounds a parameter, in bytes. A longer task id cannot be asked for; its events
// are found by their ids.
const MaxText = 4096

// Params are the parameters of a request. The first fault is remembered, see Err; what is
// read of a faulty parameter means nothing.
type Params struct {
	Values url.Values

	// Now is what durations that mean "so long ago" are counted from.
	Now time.Time

	err error
}

// New returns the parameters of a query. An unknown one is a fault: with a misspelled
// filter, a purge would delete the wrong events.
func New(raw string, known ...string) *Params {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return &Params{Now: time.Now(), err: fmt.Errorf("the query cannot be read: %w", err)}
	}
	return Of(values, known...)
}

// Of is New for values that have been read already.
func Of(values url.Values, known ...string) *Params {
	p := &Params{Values: values, Now: time.Now()}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch {
		case !slices.Contains(known, name):
			p.Fail(name, "%s", "it is unknown here: expected "+expected(known))
		case len(values[name]) > 1:
			p.Fail(name, "it is given %d times: expected once", len(values[name]))
		case len(values[name][0]) > MaxText:
			p.Fail(name, "it has %d bytes: expected at most %d", len(values[name][0]), MaxText)
		}
	}
	return p
}

func expected(known []string) string {
	if len(known) == 0 {
		return "no parameters"
	}
	return strings.Join(known, ", ")
}

// Fail remembers a fault of a parameter, unless there was one before.
func (p *Params) Fail(name, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("parameter %.64q: %w", name, fmt.Errorf(format, args...))
	}
}

// Err returns the first fault; nil if there is none.
func (p *Params) Err() error { return p.err }

// Has reports whether the parameter is given.
func (p *Params) Has(name string) bool { return p.Values.Has(name) }

// Text returns a parameter that must not be empty if it is given.
func (p *Params) Text(name string) string {
	if p.Has(name) && p.Values.Get(name) == "" {
		p.Fail(name, "it is empty: expected a value, or no such parameter")
	}
	return p.Values.Get(name)
}

// Number returns a number from least to most, or fallback if it is not given.
func (p *Params) Number(name string, least, most, fallback int) int {
	if !p.Has(name) {
		return fallback
	}
	n, err := strconv.Atoi(p.Values.Get(name))
	if err != nil || n < least || n > most {
		p.Fail(name, "it is %.64q: expected a number from %d to %d", p.Values.Get(name), least, most)
	}
	return n
}

// Boolean returns a parameter that is true or false; false if it is not given.
func (p *Params) Boolean(name string) bool {
	switch value := p.Values.Get(name); {
	case !p.Has(name), value == "false":
		return false
	case value == "true":
		return true
	default:
		p.Fail(name, "it is %.64q: expected true or false", value)
		return false
	}
}

// List returns the entries of a comma-separated list of known words.
func (p *Params) List(name string, known []string) []string {
	if !p.Has(name) {
		return nil
	}
	words := strings.Split(p.Values.Get(name), ",")
	for _, word := range words {
		if !slices.Contains(known, word) {
			p.Fail(name, "it has %.64q: expected %s, separated by commas", word, strings.Join(known, ", "))
			return nil
		}
	}
	return words
}

// Time returns a point in time, which is given as such or as a duration before now.
func (p *Params) Time(name string) time.Time {
	if !p.Has(name) {
		return time.Time{}
	}
	value := p.Values.Get(name)
	if at, err := time.Parse(time.RFC3339Nano, value); err == nil && at.Year() > 1970 && at.Year() < 3000 {
		return at
	}
	if ago, err := caddy.ParseDuration(value); err == nil && ago >= 0 {
		return p.Now.Add(-ago)
	}
	p.Fail(name, "it is %.64q: expected a time such as 2026-11-23T12:00:00Z, or a duration such as 15m or 3d, which means so long ago", value)
	return time.Time{}
}

// Destination returns a parameter that names a destination; "" if it is not given.
func (p *Params) Destination(name string) string {
	value := p.Text(name)
	if value != "" {
		if err := inbox.CheckDestination(value); err != nil {
			p.Fail(name, "%w", err)
		}
	}
	return value
}

// Filter returns what the control.FilterParams choose.
func (p *Params) Filter() inbox.Filter {
	f := inbox.Filter{Destination: p.Destination("destination"), TaskID: p.Text("task"), Type: p.Text("type"), Since: p.Time("since"), Until: p.Time("until")}
	names := control.StateNames()
	for _, word := range p.List("state", names) {
		f.States = append(f.States, inbox.States[slices.Index(names, word)])
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		p.Fail("until", "it is no later than since: expected a later time")
	}
	return f
}

// Page returns what the parameters limit, cursor and order choose.
func (p *Params) Page() inbox.Page {
	page := inbox.Page{
		Cursor: p.Text("cursor"),
		Limit:  p.Number("limit", 1, control.PageMax, control.PageDefault),
	}
	if order := p.List("order", []string{"asc", "desc"}); len(order) > 1 {
		p.Fail("order", "it is %.64q: expected asc or desc", p.Values.Get("order"))
	} else if len(order) == 1 {
		page.OldestFirst = order[0] == "asc"
	}
	return page
}

// Recent returns the parameter recent: how far back to count what has arrived.
func (p *Params) Recent() time.Duration {
	if !p.Has("recent") {
		return control.RecentDefault
	}
	value := p.Values.Get("recent")
	recent, err := caddy.ParseDuration(value)
	if err != nil || recent < control.RecentMin || recent > control.RecentMax {
		p.Fail("recent", "it is %.64q: expected a duration from %s to %s, such as 5m", value, control.RecentMin, control.RecentMax)
	}
	return recent
}

// Span returns the span of a history, one of control.HistorySpans; the first by default.
func (p *Params) Span() string {
	if !p.Has("span") {
		return control.HistorySpans[0]
	}
	span := p.Values.Get("span")
	if !slices.Contains(control.HistorySpans, span) {
		p.Fail("span", "it is %.64q: expected one of %s", span, strings.Join(control.HistorySpans, ", "))
	}
	return span
}

// Caller returns the parameters ip and forwarded_for: the caller to be explained.
func (p *Params) Caller() (ip netip.Addr, forwardedFor string) {
	ip, err := netip.ParseAddr(p.Values.Get("ip"))
	if err != nil {
		p.Fail("ip", "it is %.64q: expected an IPv4 or IPv6 address", p.Values.Get("ip"))
	}
	forwardedFor = p.Text("forwarded_for")
	if !headerText(forwardedFor) {
		p.Fail("forwarded_for", "it has control characters: expected the value of a header, such as 203.0.113.7, 10.0.0.1")
	}
	return ip, forwardedFor
}

// headerText reports whether the value is possible in a header.
func headerText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
