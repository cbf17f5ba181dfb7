package command

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// find is the route of fakeAPI that finds events by the beginning of their ids.
func (f *fakeAPI) find(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	id := r.URL.Query().Get("id")
	prefix, err := inbox.ParsePrefix(strings.ToLower(id))
	answer := control.Found{Events: []control.Event{}}
	for _, e := range slices.Backward(h.events) {
		if e.TaskID == id {
			answer.TaskID = id
		}
		if e.TaskID != id && (err != nil || !prefix.Matches(e.ID)) {
			continue
		}
		if answer.More = len(answer.Events) == control.FoundMax; answer.More {
			break
		}
		answer.Events = append(answer.Events, e.Event)
	}
	if err == nil && !prefix.OfTask() && !h.searchedSince.IsZero() && (!prefix.Long() || len(answer.Events) == 0) {
		answer.Since = &h.searchedSince
	}
	return answer, nil
}

// realIDs gives the events of a handler ids as real ones are.
func realIDs(h *fakeHandler) {
	for _, e := range h.events {
		e.ID = inbox.NewID(e.TaskID, []byte(e.Status+e.ReceivedAt.Format(time.RFC3339)))
	}
}
