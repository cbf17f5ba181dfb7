package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// listTime is how long the inbox is searched for one page. A page may end before it is
// full, so that a rare kind of event takes many short requests rather than a long one.
const listTime = 25 * time.Millisecond

func (c *call) listEvents() error {
	p := c.params(append([]string{"limit", "cursor", "order"}, control.FilterParams...)...)
	filter, page := p.filter(), p.page()
	if err := p.failure(); err != nil {
		return err
	}
	answer := control.Events{Events: make([]control.Event, 0, page.Limit)}
	for began := time.Now(); ; {
		records, next, err := c.gateway.Inbox().List(c.r.Context(), filter, page)
		if err != nil {
			return pageFailure(p, err)
		}
		for _, record := range records {
			answer.Events = append(answer.Events, eventOf(record))
		}
		answer.Next = next
		page.Cursor, page.Limit = next, page.Limit-len(records)
		if next == "" || page.Limit <= 0 || time.Since(began) > listTime {
			return c.answer(http.StatusOK, answer)
		}
	}
}

// pageFailure returns the failure of a list.
func pageFailure(p *params, err error) error {
	if errors.Is(err, inbox.ErrCursor) {
		p.fail("cursor", "%w", err)
		return p.failure()
	}
	return inboxFailure(err)
}

func (c *call) showEvent() error {
	if err := c.params().failure(); err != nil {
		return err
	}
	record, err := c.gateway.Inbox().Get(c.r.Context(), c.id)
	if err != nil {
		return inboxFailure(err)
	}
	detail := control.EventDetail{
		Event:          eventOf(record),
		TraceParent:    record.Event.TraceParent,
		AttemptRecords: []control.Attempt{},
		Body:           record.Event.Body,
	}
	for i := range record.Deliveries {
		attempts := attemptsOf(&record.Deliveries[i])
		detail.Deliveries[i].AttemptRecords = attempts
		detail.Deliveries[i].Replays = replaysOf(record.Deliveries[i].Replays)
		detail.AttemptRecords = append(detail.AttemptRecords, attempts...)
	}
	slices.SortStableFunc(detail.AttemptRecords, func(a, b control.Attempt) int { return a.At.Compare(b.At) })
	return c.answer(http.StatusOK, detail)
}

func (c *call) purgeEvent() error {
	p := c.params("destination")
	destination := p.destination("destination")
	if err := p.failure(); err != nil {
		return err
	}
	if err := c.gateway.Inbox().Purge(c.r.Context(), c.id, destination); err != nil {
		return inboxFailure(err)
	}
	c.audit("event purged by hand", append(named(destination, ""), zap.String("event_id", c.id))...)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) replayEvent() error {
	p := c.params("destination", "to")
	destination, to := p.destination("destination"), p.to()
	if err := p.failure(); err != nil {
		return err
	}
	if err := c.configured(to); err != nil {
		return err
	}
	if err := c.again(c.r.Context(), c.id, destination, to); err != nil {
		return inboxFailure(err)
	}
	c.audit("event replayed by hand", append(named(destination, to), zap.String("event_id", c.id))...)
	return c.answer(http.StatusOK, control.Done{ID: c.id, State: inbox.Pending.String()})
}

// again has an event delivered again: to another destination, if to is not "".
func (c *call) again(ctx context.Context, id, destination, to string) error {
	if to == "" {
		return c.gateway.Inbox().Replay(ctx, id, destination)
	}
	return c.gateway.Inbox().Move(ctx, id, destination, to)
}

func eventOf(r *inbox.Record) control.Event {
	e := control.Event{
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
	e.Deliveries = make([]control.Delivery, len(r.Deliveries))
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		e.Deliveries[i] = deliveryOf(d)
		if d.Last == r.Last {
			e.LastAttempt = e.Deliveries[i].LastAttempt
		}
	}
	return e
}

func deliveryOf(d *inbox.Delivery) control.Delivery {
	c := control.Delivery{
		Destination: d.Destination, State: d.State.String(), Attempts: d.Attempts,
		Due: optionalTime(d.Due), SettledAt: optionalTime(d.SettledAt),
	}
	if !d.Last.At.IsZero() {
		c.LastAttempt = attemptOf(&d.Last, d.Attempts)
	}
	return c
}

// attemptsOf returns nil for none.
func attemptsOf(d *inbox.Delivery) (attempts []control.Attempt) {
	for i := range d.Log {
		attempts = append(attempts, *attemptOf(&d.Log[i], d.FirstInLog()+i))
	}
	return attempts
}

// replaysOf returns nil for none.
func replaysOf(replays []inbox.Replay) (all []control.Replay) {
	for _, r := range replays {
		all = append(all, control.Replay{At: r.At.UTC(), After: r.After, From: r.From})
	}
	return all
}

func attemptOf(a *inbox.Attempt, number int) *control.Attempt {
	return &control.Attempt{
		Number:     number,
		At:         a.At.UTC(),
		DurationMS: control.Milliseconds(a.Duration),
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

// answer answers with JSON.
func (c *call) answer(status int, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	if err := encode(c.w, v); err != nil {
		// the client has gone, and it is too late for another answer
		c.logger.Debug("answer not sent", zap.Error(err))
	}
	return nil
}

// encode writes v as one line of JSON.
func encode(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // it is never part of a page
	return encoder.Encode(v)
}
