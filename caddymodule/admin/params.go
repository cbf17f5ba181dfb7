package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// maxText bounds a parameter, in bytes. A longer task id cannot be asked for; its
	// events are found by their ids.
	maxText = 4096

	// maxBody bounds a request's body, in bytes.
	maxBody = 16 << 10
)

// params are a request's parameters. The first fault is remembered in err.
type params struct {
	values url.Values
	now    time.Time
	err    error
}

// params returns the request's parameters. An unknown one is an error: with a misspelled
// filter, a purge would delete the wrong events.
func (c *call) params(known ...string) *params {
	p := &params{now: time.Now()}
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		p.err = fmt.Errorf("the query cannot be read: %w", err)
		return p
	}
	p.values = values
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch {
		case !slices.Contains(known, name):
			p.fail(name, "%s", "it is unknown here: expected "+expected(known))
		case len(values[name]) > 1:
			p.fail(name, "it is given %d times: expected once", len(values[name]))
		case len(values[name][0]) > maxText:
			p.fail(name, "it has %d bytes: expected at most %d", len(values[name][0]), maxText)
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

func (p *params) fail(name, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("parameter %.64q: %w", name, fmt.Errorf(format, args...))
	}
}

// failure returns the first fault as an answer; nil if there is none.
func (p *params) failure() error {
	if p.err == nil {
		return nil
	}
	return failure(http.StatusBadRequest, p.err)
}

func (p *params) has(name string) bool { return p.values.Has(name) }

// text returns a parameter that must not be empty if it is given.
func (p *params) text(name string) string {
	if p.has(name) && p.values.Get(name) == "" {
		p.fail(name, "it is empty: expected a value, or no such parameter")
	}
	return p.values.Get(name)
}

func (p *params) number(name string, least, most, fallback int) int {
	if !p.has(name) {
		return fallback
	}
	n, err := strconv.Atoi(p.values.Get(name))
	if err != nil || n < least || n > most {
		p.fail(name, "it is %.64q: expected a number from %d to %d", p.values.Get(name), least, most)
	}
	return n
}

func (p *params) boolean(name string) bool {
	switch value := p.values.Get(name); {
	case !p.has(name), value == "false":
		return false
	case value == "true":
		return true
	default:
		p.fail(name, "it is %.64q: expected true or false", value)
		return false
	}
}

// list returns the entries of a comma-separated list.
func (p *params) list(name string, known []string) []string {
	if !p.has(name) {
		return nil
	}
	words := strings.Split(p.values.Get(name), ",")
	for _, word := range words {
		if !slices.Contains(known, word) {
			p.fail(name, "it has %.64q: expected %s, separated by commas", word, strings.Join(known, ", "))
			return nil
		}
	}
	return words
}

// time returns a point in time, which is given as such or as a duration before now.
func (p *params) time(name string) time.Time {
	if !p.has(name) {
		return time.Time{}
	}
	value := p.values.Get(name)
	if at, err := time.Parse(time.RFC3339Nano, value); err == nil && at.Year() > 1970 && at.Year() < 3000 {
		return at
	}
	if ago, err := caddy.ParseDuration(value); err == nil && ago >= 0 {
		return p.now.Add(-ago)
	}
	p.fail(name, "it is %.64q: expected a time such as 2026-11-23T12:00:00Z, or a duration such as 15m or 3d, which means so long ago", value)
	return time.Time{}
}

func (p *params) filter() inbox.Filter {
	f := inbox.Filter{Destination: p.destination("destination"), TaskID: p.text("task"), Type: p.text("type"), Since: p.time("since"), Until: p.time("until")}
	names := control.StateNames()
	for _, word := range p.list("state", names) {
		f.States = append(f.States, inbox.States[slices.Index(names, word)])
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		p.fail("until", "it is no later than since: expected a later time")
	}
	return f
}

func (p *params) page() inbox.Page {
	page := inbox.Page{
		Cursor: p.text("cursor"),
		Limit:  p.number("limit", 1, control.PageMax, control.PageDefault),
	}
	if order := p.list("order", []string{"asc", "desc"}); len(order) > 1 {
		p.fail("order", "it is %.64q: expected asc or desc", p.values.Get("order"))
	} else if len(order) == 1 {
		page.OldestFirst = order[0] == "asc"
	}
	return page
}

// body reads a request's JSON body into v. The body may be empty.
func (c *call) body(v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return failure(http.StatusBadRequest, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit))
		}
		return failure(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return failure(http.StatusBadRequest, fmt.Errorf("the body: %w", err))
	}
	return nil
}
