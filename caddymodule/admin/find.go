package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// find searches for events by the beginning of their ids, or by their task.
func (c *call) find() error {
	p := c.params("id")
	id := p.text("id")
	if !p.has("id") {
		p.fail("id", "it is missing: expected the beginning of an event's id, or the id of a task")
	}
	if err := p.failure(); err != nil {
		return err
	}
	found, err := c.ofTask(id)
	if err != nil {
		return inboxFailure(err)
	}
	answer := control.Found{More: found.More, Events: []control.Event{}}
	if len(found.Records) > 0 {
		answer.TaskID = id
	}
	if prefix, err := inbox.ParsePrefix(strings.ToLower(id)); err == nil {
		byID, err := c.withPrefix(prefix)
		if err != nil {
			return err
		}
		answer.More = answer.More || byID.More
		answer.Since = optionalTime(byID.Since)
		found.Records = append(byID.Records, found.Records...)
	}
	for _, r := range found.Records {
		e := eventOf(r)
		if !slices.ContainsFunc(answer.Events, func(other control.Event) bool { return other.ID == e.ID }) {
			answer.Events = append(answer.Events, e)
		}
	}
	slices.SortStableFunc(answer.Events, func(a, b control.Event) int { return b.ReceivedAt.Compare(a.ReceivedAt) })
	if len(answer.Events) > control.FoundMax {
		answer.Events, answer.More = answer.Events[:control.FoundMax], true
	}
	return c.answer(http.StatusOK, answer)
}

// ofTask returns the newest events of a task.
func (c *call) ofTask(id string) (found inbox.Found, err error) {
	page := inbox.Page{Limit: control.FoundMax + 1}
	for {
		records, next, err := c.gateway.Inbox().List(c.r.Context(), inbox.Filter{TaskID: id}, page)
		if err != nil {
			return found, err
		}
		found.Records = append(found.Records, records...)
		page.Cursor, page.Limit = next, page.Limit-len(records)
		if next == "" || page.Limit == 0 {
			break
		}
	}
	if found.More = len(found.Records) > control.FoundMax; found.More {
		found.Records = found.Records[:control.FoundMax]
	}
	return found, nil
}

// withPrefix returns the newest events whose ids have the prefix.
func (c *call) withPrefix(p inbox.Prefix) (found inbox.Found, err error) {
	in := c.gateway.Inbox()
	finder, ok := in.(inbox.Finder)
	switch {
	case ok:
		found, err = finder.Find(c.r.Context(), p, control.FoundMax)
	case p.Whole():
		var r *inbox.Record
		if r, err = in.Get(c.r.Context(), p.String()); err == nil {
			found.Records = append(found.Records, r)
		} else if errors.Is(err, inbox.ErrNotFound) {
			err = nil
		}
	default:
		return found, failure(http.StatusNotImplemented, fmt.Errorf("parameter \"id\": this inbox finds events by whole ids only: expected %d hexadecimal digits", inbox.IDLength))
	}
	if err != nil {
		return found, inboxFailure(err)
	}
	return found, nil
}
