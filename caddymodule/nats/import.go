package nats

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxOrigin bounds the header with the state of an imported event. A server
// accepts no more than 64 KiB of headers. If the event leaves less room in its
// message, fewer attempts are imported.
const maxOrigin = 40 << 10

// Import stores an event with its state.
func (s *store) Import(ctx context.Context, r *inbox.Record) (duplicate bool, err error) {
	e := *r.Event
	e.Destinations = make([]string, len(r.Deliveries))
	for i, d := range r.Deliveries {
		e.Destinations[i] = d.Destination
	}
	if _, _, err := e.Check(); err != nil {
		return false, err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	if err := s.checkQueues(bounded, &e); err != nil {
		return false, s.failed(ctx, err)
	}
	p := &pendingPut{store: s, event: &e, moved: true, origin: originOf(&e, r.Deliveries, s.attemptRoom(r.Event))}
	duplicateOf, err := s.put(bounded, p)
	if err == nil {
		s.followEvent(bounded, &e, false, p, duplicateOf)
	}
	return duplicateOf != "", s.failed(ctx, err)
}

// originOf returns the states to be stored with an imported event, nil if they are those
// of a new one. They are stored in the same message, so that the event never
// appears without them.
func originOf(e *inbox.Event, deliveries []inbox.Delivery, room int) *imported {
	if len(deliveries) == 0 {
		return nil
	}
	room /= len(deliveries)
	o := &imported{To: map[string]*imported{}}
	for _, d := range deliveries {
		if one := originOfOne(e, &d, room); one != nil {
			o.To[d.Destination] = one
		}
	}
	if onlyDefault(e) {
		return o.To[inbox.DefaultDestination]
	}
	if len(o.To) == 0 {
		return nil
	}
	return o
}

func originOfOne(e *inbox.Event, d *inbox.Delivery, room int) *imported {
	if d.State == inbox.Pending && d.Attempts == 0 && d.Due.IsZero() && len(d.Log) == 0 && len(d.Replays) == 0 {
		return nil
	}
	o := &imported{Kind: kindOf(d.State), Record: record{
		Received: inbox.Micros(e.ReceivedAt), Attempts: d.Attempts, Due: inbox.Micros(d.Due), Settled: inbox.Micros(d.SettledAt),
	}}
	attempts := d.Log
	if len(attempts) == 0 && !d.Last.At.IsZero() {
		attempts = []inbox.Attempt{d.Last}
	}
	size := 0
	fits := func(v any) bool {
		text, err := json.Marshal(v)
		size += len(text) + 1
		return err == nil && size <= room
	}
	after := map[int]replay{}
	for _, r := range d.Replays {
		p := replay{At: inbox.Micros(r.At), After: r.After, From: r.From}
		after[p.After] = p
		o.Record.Replays = append(o.Record.Replays, p)
	}
	fits(o.Record.Replays[max(0, len(o.Record.Replays)-1):]) // the last one is kept in any case
	for number := d.Attempts - 1; len(o.Record.Log) < len(attempts); number-- {
		a := attemptOf(attempts[len(attempts)-1-len(o.Record.Log)])
		if p, ok := after[number]; ok && !fits(p) || !fits(a) {
			break
		}
		o.Record.Log = slices.Insert(o.Record.Log, 0, a)
	}
	o.Record.keep(len(o.Record.Log))
	return o
}

// attemptRoom returns the room for attempts in an event's message. The other
// headers take less than half of their allowance.
func (s *store) attemptRoom(e *inbox.Event) int {
	return int(min(maxOrigin, s.conn.MaxPayload()-int64(len(e.Body))-overhead/2))
}

// recordOrigin writes the record of an imported delivery.
func (d *destination) recordOrigin(ctx context.Context, m *member) error {
	rec := m.origin.Record
	rec.Event, rec.By = m.seq, d.instance
	seq, err := d.writeRecord(ctx, m.at, m.origin.Kind, m.ID, rec, m.last)
	if err != nil || !m.origin.Kind.ended() {
		return err
	}
	done := *m
	done.kind, done.rec, done.last = m.origin.Kind, rec, seq
	return d.concludeMember(ctx, &done)
}

// imported is the state of an event in the inbox from which it was imported.
type imported struct {
	Kind   kind                 `json:"kind,omitempty"`
	Record record               `json:"record,omitzero"`
	To     map[string]*imported `json:"to,omitempty"` // of an event with several destinations: by their names
}
