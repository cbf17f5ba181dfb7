// Package match decides which events go to a destination: by their type, their status,
// whether they are sensitive, and by CEL expressions over the whole event. It needs
// neither HTTP nor Caddy.
//
// Read match.go first: Rules are the config, a Matcher is what they become. event.go is
// how an event is looked into without reading more of it than is asked for, and cel.go
// what expressions can do.
package match

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Rules say which events go to a destination: those that fit all that is given.
type Rules struct {
	// The types of tasks, such as `avatar`: an event has to have one of them.
	// Default: every type
	Types []string `json:"types,omitempty"`

	// What events may report: `in_progress`, `completed`, `failed`, `lost`. Default: all of them
	Statuses []string `json:"statuses,omitempty"`

	// If true, only events that are flagged as sensitive, themselves or in one of their
	// images. Default: false, all events
	Sensitive bool `json:"sensitive,omitempty"`

	// Expressions in CEL, of which each has to be true. The event is the variable
	// `event`, with the members of its JSON: `event.type`, `event.extra.x`. One that
	// cannot be evaluated for an event, for instance because a member of `extra` is
	// missing, counts as true. Default: none
	Expressions []string `json:"expressions,omitempty"`
}

var statuses = []inbox.Status{inbox.InProgress, inbox.Completed, inbox.Failed, inbox.Lost}

// Matcher tells which events fit. A nil Matcher fits all. It is safe for concurrent use.
type Matcher struct {
	types     []string
	statuses  []inbox.Status
	sensitive bool
	programs  []program
}

// Compile checks rules and makes their Matcher, nil for nil rules. Its errors name the
// rule and the value.
func Compile(r *Rules) (*Matcher, error) {
	if r == nil {
		return nil, nil
	}
	if len(r.Types)+len(r.Statuses)+len(r.Expressions) == 0 && !r.Sensitive {
		return nil, errors.New("match is empty: expected types, statuses, sensitive or expressions")
	}
	m := &Matcher{types: r.Types, sensitive: r.Sensitive}
	for i, name := range r.Types {
		switch {
		case name == "":
			return nil, errors.New("match type is empty: expected the type of a task, such as avatar")
		case slices.Contains(r.Types[:i], name):
			return nil, fmt.Errorf("match type %.80q given twice: expected each type once", name)
		}
	}
	for i, name := range r.Statuses {
		at := slices.IndexFunc(statuses, func(s inbox.Status) bool { return s.String() == name })
		switch {
		case at < 0:
			return nil, fmt.Errorf("match status %.80q: expected in_progress, completed, failed or lost", name)
		case slices.Contains(r.Statuses[:i], name):
			return nil, fmt.Errorf("match status %q given twice: expected each status once", name)
		}
		m.statuses = append(m.statuses, statuses[at])
	}
	for _, source := range r.Expressions {
		p, err := compile(source)
		if err != nil {
			return nil, fmt.Errorf("match expression %.200q: %w", source, err)
		}
		m.programs = append(m.programs, p)
	}
	return m, nil
}

// Match reports whether the event fits. If an expression could not be evaluated, the
// event fits unless something else excludes it, and the error says why.
func (m *Matcher) Match(e *Event) (fits bool, err error) {
	if m == nil {
		return true, nil
	}
	if len(m.types) > 0 && !slices.Contains(m.types, e.event.Type) {
		return false, nil
	}
	if len(m.statuses) > 0 && !slices.Contains(m.statuses, e.event.Status) {
		return false, nil
	}
	if m.sensitive {
		fits, fault := e.boolean("sensitive")
		if fault == nil && !fits {
			return false, nil
		}
		err = fault
	}
	for _, p := range m.programs {
		fits, fault := p.eval(e)
		if fault == nil && !fits {
			return false, nil
		}
		if err == nil {
			err = fault
		}
	}
	return true, err
}

// Lines returns the rules as the arguments of match in a Caddyfile, such as
// "type avatar video"; nil for nil rules.
func (r *Rules) Lines() (lines []string) {
	if r == nil {
		return nil
	}
	if len(r.Types) > 0 {
		lines = append(lines, "type "+strings.Join(r.Types, " "))
	}
	if len(r.Statuses) > 0 {
		lines = append(lines, "status "+strings.Join(r.Statuses, " "))
	}
	if r.Sensitive {
		lines = append(lines, "sensitive")
	}
	for _, e := range r.Expressions {
		lines = append(lines, "expression "+e)
	}
	return lines
}
