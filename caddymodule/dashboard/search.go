package dashboard

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// searched is what was found for the id of a task or event, or the beginning of one, unless
// that leads to another page.
type searched struct {
	Text string
	More bool       // others fit, too
	From *time.Time // if not nil, ids of events before it were not compared, unless they are dead
	Hint string     // why it is not the beginning of an event's id; "" if it is
}

// search leads to the event or the task with that id. If several events or none fit, it
// lists them.
func (v *visit) search(text string) error {
	found, err := control.FindEvents(v.r.Context(), v.gateway.Inbox(), text)
	switch {
	case errors.Is(err, control.ErrWholeIDs):
		return badRequest(err)
	case err != nil:
		return err
	}
	prefix, hint := inbox.ParsePrefix(strings.ToLower(text)) // no prefix is not Long
	ofOthers := slices.ContainsFunc(found.Events, func(e control.Event) bool { return e.TaskID != found.TaskID })
	switch {
	case len(found.Events) == 1 && !found.More && (found.Since == nil || prefix.Long() || !ofOthers):
		v.redirect(href(leafEvent, "handler", v.one(), "id", found.Events[0].ID))
		return nil
	case found.TaskID != "" && !ofOthers:
		v.redirect(href(leafEvents, "handler", v.one(), "task", text)) // there it has pages
		return nil
	}
	page := v.eventsPage(found.Events, new(inbox.Filter))
	page.Search = &searched{Text: text, More: found.More, From: found.Since}
	if hint != nil {
		page.Search.Hint = hint.Error()
	}
	return v.write(http.StatusOK, "events", v.frame("Search", page)) // which does not move
}
