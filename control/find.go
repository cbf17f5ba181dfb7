package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// FoundMax bounds Found.Events.
const FoundMax = 20

// Found is the answer to a search for events by the beginning of their ids, or by their
// task.
type Found struct {
	// Events are the newest that fit, the newest first; at most FoundMax.
	Events []Event `json:"events"`

	// More is true if others fit too.
	More bool `json:"more,omitempty"`

	// TaskID is what was searched for if events have it as the id of their task.
	TaskID string `json:"taskId,omitempty"`

	// Since is present if not all ids were compared: with those of the events that
	// arrived before, only if they are dead. Then others may have the same beginning.
	Since *time.Time `json:"since,omitempty"`
}

// ErrWholeIDs is returned if the inbox finds events by whole ids only.
var ErrWholeIDs = fmt.Errorf("this inbox finds events by whole ids only: expected %d hexadecimal digits", inbox.IDLength)

// FindEvents returns the newest events whose ids begin like that, and those of the task
// with that id.
func FindEvents(ctx context.Context, in inbox.Inbox, id string) (Found, error) {
	found, err := eventsOfTask(ctx, in, id)
	if err != nil {
		return Found{}, err
	}
	answer := Found{More: found.More, Events: []Event{}}
	if len(found.Records) > 0 {
		answer.TaskID = id
	}
	if prefix, err := inbox.ParsePrefix(strings.ToLower(id)); err == nil {
		byID, err := eventsWithPrefix(ctx, in, prefix)
		if err != nil {
			return Found{}, err
		}
		answer.More = answer.More || byID.More
		answer.Since = optionalTime(byID.Since)
		found.Records = append(byID.Records, found.Records...)
	}
	for _, r := range found.Records {
		e := eventOf(r)
		if !slices.ContainsFunc(answer.Events, func(other Event) bool { return other.ID == e.ID }) {
			answer.Events = append(answer.Events, e)
		}
	}
	slices.SortStableFunc(answer.Events, func(a, b Event) int { return b.ReceivedAt.Compare(a.ReceivedAt) })
	if len(answer.Events) > FoundMax {
		answer.Events, answer.More = answer.Events[:FoundMax], true
	}
	return answer, nil
}

// eventsOfTask returns the newest events of a task.
func eventsOfTask(ctx context.Context, in inbox.Inbox, id string) (found inbox.Found, err error) {
	page := inbox.Page{Limit: FoundMax + 1}
	for {
		records, next, err := in.List(ctx, inbox.Filter{TaskID: id}, page)
		if err != nil {
			return found, err
		}
		found.Records = append(found.Records, records...)
		page.Cursor, page.Limit = next, page.Limit-len(records)
		if next == "" || page.Limit == 0 {
			break
		}
	}
	if found.More = len(found.Records) > FoundMax; found.More {
		found.Records = found.Records[:FoundMax]
	}
	return found, nil
}

// eventsWithPrefix returns the newest events whose ids have the prefix. A whole id may be that
// of the event that will be made of a callback which is not confirmed yet.
func eventsWithPrefix(ctx context.Context, in inbox.Inbox, p inbox.Prefix) (found inbox.Found, err error) {
	finder, ok := in.(inbox.Finder)
	switch {
	case ok:
		found, err = finder.Find(ctx, p, FoundMax)
	case !p.Whole():
		err = ErrWholeIDs
	}
	if err != nil || !p.Whole() || len(found.Records) > 0 {
		return found, err
	}
	r, err := get(ctx, in, p.String())
	switch {
	case errors.Is(err, inbox.ErrNotFound):
		return found, nil
	case err == nil:
		found.Records = append(found.Records, r)
	}
	return found, err
}
