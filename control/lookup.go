package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// This file looks events and quarantined callbacks up, for all who show them. Errors are
// those of the inbox.

// listTime is how long the inbox is searched for one page. A page may end before it is
// full, so that a rare kind of event takes many short requests rather than a long one.
const listTime = 25 * time.Millisecond

// ListEvents returns a page of the events that match the filter. It may have fewer rows
// than its limit, even none, although more follow: the end is where there is no next page.
func ListEvents(ctx context.Context, in inbox.Inbox, filter inbox.Filter, page inbox.Page) (Events, error) {
	answer := Events{Events: make([]Event, 0, page.Limit)}
	for began := time.Now(); ; {
		records, next, err := in.List(ctx, filter, page)
		if err != nil {
			return Events{}, err
		}
		for _, record := range records {
			answer.Events = append(answer.Events, eventOf(record))
		}
		answer.Next = next
		page.Cursor, page.Limit = next, page.Limit-len(records)
		if next == "" || page.Limit <= 0 || time.Since(began) > listTime {
			return answer, nil
		}
	}
}

// ShowEvent returns all that is known of an event.
func ShowEvent(ctx context.Context, in inbox.Inbox, id string) (EventDetail, error) {
	record, err := get(ctx, in, id)
	if err != nil {
		return EventDetail{}, err
	}
	detail := EventDetail{
		Event:          eventOf(record),
		TraceParent:    record.Event.TraceParent,
		AttemptRecords: []Attempt{},
		Body:           record.Event.Body,
	}
	for i := range record.Deliveries {
		attempts := attemptsOf(&record.Deliveries[i])
		detail.Deliveries[i].AttemptRecords = attempts
		detail.Deliveries[i].Replays = replaysOf(record.Deliveries[i].Replays)
		detail.AttemptRecords = append(detail.AttemptRecords, attempts...)
	}
	slices.SortStableFunc(detail.AttemptRecords, func(a, b Attempt) int { return a.At.Compare(b.At) })
	return detail, nil
}

// get returns an event, or the callback that it will be made of, which is not confirmed yet.
func get(ctx context.Context, in inbox.Inbox, id string) (*inbox.Record, error) {
	record, err := in.Get(ctx, id)
	if !errors.Is(err, inbox.ErrNotFound) {
		return record, err
	}
	waiting, malformed := inbox.UnconfirmedID(id)
	if malformed != nil {
		return nil, err
	}
	if record, werr := in.Get(ctx, waiting); werr == nil && record.Event.Status == inbox.Unconfirmed {
		return record, nil
	}
	return nil, err
}

func eventOf(r *inbox.Record) Event {
	e := Event{
		ID:         r.Event.ID,
		TaskID:     r.Event.TaskID,
		Type:       r.Event.Type,
		Status:     r.Event.Status.String(),
		State:      r.State.String(),
		ReceivedAt: r.Event.ReceivedAt.UTC(),
		Attempts:   r.Attempts,
		Due:        optionalTime(r.Due),
		SettledAt:  optionalTime(r.SettledAt),
	}
	e.Deliveries = make([]Delivery, len(r.Deliveries))
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		e.Deliveries[i] = deliveryOf(d)
		if d.Last == r.Last {
			e.LastAttempt = e.Deliveries[i].LastAttempt
		}
	}
	return e
}

func deliveryOf(d *inbox.Delivery) Delivery {
	c := Delivery{
		Destination: d.Destination, State: d.State.String(), Attempts: d.Attempts,
		Due: optionalTime(d.Due), SettledAt: optionalTime(d.SettledAt),
	}
	if !d.Last.At.IsZero() {
		c.LastAttempt = attemptOf(&d.Last, d.Attempts)
	}
	return c
}

// attemptsOf returns nil for none.
func attemptsOf(d *inbox.Delivery) (attempts []Attempt) {
	for i := range d.Log {
		attempts = append(attempts, *attemptOf(&d.Log[i], d.FirstInLog()+i))
	}
	return attempts
}

// replaysOf returns nil for none.
func replaysOf(replays []inbox.Replay) (all []Replay) {
	for _, r := range replays {
		all = append(all, Replay{At: r.At.UTC(), After: r.After, From: r.From})
	}
	return all
}

func attemptOf(a *inbox.Attempt, number int) *Attempt {
	return &Attempt{
		Number:     number,
		At:         a.At.UTC(),
		DurationMS: Milliseconds(a.Duration),
		Status:     a.Status,
		Reason:     a.Reason,
	}
}

// optionalTime returns nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// listedProblems is how many problems of a callback a list shows.
const listedProblems = 3

// ListQuarantine returns a page of the callbacks in quarantine.
func ListQuarantine(ctx context.Context, in inbox.Inbox, page inbox.Page) (Quarantine, error) {
	suspects, next, err := in.Suspects(ctx, page)
	if err != nil {
		return Quarantine{}, err
	}
	answer := Quarantine{Callbacks: make([]Quarantined, 0, len(suspects)), Next: next}
	for _, s := range suspects {
		callback, err := quarantinedOf(s)
		if err != nil {
			return Quarantine{}, err
		}
		callback.Problems = callback.Problems[:min(len(callback.Problems), listedProblems)]
		answer.Callbacks = append(answer.Callbacks, callback)
	}
	return answer, nil
}

// ShowQuarantined returns all that is known of a callback in quarantine.
func ShowQuarantined(ctx context.Context, in inbox.Inbox, id int64) (QuarantinedDetail, error) {
	suspect, err := in.Suspect(ctx, id)
	if err != nil {
		return QuarantinedDetail{}, err
	}
	callback, err := quarantinedOf(suspect)
	if err != nil {
		return QuarantinedDetail{}, err
	}
	detail := QuarantinedDetail{Quarantined: callback}
	detail.Body, detail.BodyEncoding = BodyOf(suspect.Body)
	return detail, nil
}

// BodyOf returns a body as a text, and how that is encoded.
func BodyOf(body []byte) (text, encoding string) {
	if utf8.Valid(body) {
		return string(body), BodyText
	}
	return base64.StdEncoding.EncodeToString(body), BodyBase64
}

func quarantinedOf(s *inbox.Suspect) (Quarantined, error) {
	problems := []Problem{}
	if len(s.Problems) > 0 {
		if err := json.Unmarshal(s.Problems, &problems); err != nil {
			return Quarantined{}, fmt.Errorf("the problems of quarantined callback %d: %w", s.ID, err)
		}
	}
	return Quarantined{
		ID:           s.ID,
		ReceivedAt:   s.ReceivedAt.UTC(),
		LastAt:       s.Last.UTC(),
		Count:        s.Count,
		SourceIP:     s.SourceIP,
		Status:       s.Status,
		Size:         len(s.Body),
		Problems:     problems,
		ProblemCount: len(problems),
	}, nil
}
