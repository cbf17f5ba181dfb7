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
	if _, _, err := r.Event.Check(); err != nil {
		return false, err
	}
	var attempts []inbox.Attempt
	for _, d := range r.Deliveries {
		attempts = d.Log
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	duplicateOf, err := s.put(bounded, r.Event, originOf(r, attempts, s.attemptRoom(r.Event)))
	return duplicateOf != "", s.failed(ctx, err)
}

// originOf returns the state to be stored with an imported event, nil if it is
// that of a new one. It is stored in the same message, so that the event never
// appears without it.
func originOf(r *inbox.Record, attempts []inbox.Attempt, room int) *imported {
	if r.State == inbox.Pending && r.Attempts == 0 && r.Due.IsZero() && len(attempts) == 0 {
		return nil
	}
	o := &imported{Kind: kindOf(r.State), Record: record{
		Received: inbox.Micros(r.Event.ReceivedAt), Attempts: r.Attempts, Due: inbox.Micros(r.Due), Settled: inbox.Micros(r.SettledAt),
	}}
	if len(attempts) == 0 && !r.Last.At.IsZero() {
		attempts = []inbox.Attempt{r.Last}
	}
	size := 0
	for _, last := range slices.Backward(attempts) {
		a := attemptOf(last)
		text, err := json.Marshal(a)
		if size += len(text) + 1; err != nil || size > room {
			break
		}
		o.Record.Log = slices.Insert(o.Record.Log, 0, a)
	}
	return o
}

// attemptRoom returns the room for attempts in an event's message. The other
// headers take less than half of their allowance.
func (s *store) attemptRoom(e *inbox.Event) int {
	return int(min(maxOrigin, s.conn.MaxPayload()-int64(len(e.Body))-overhead/2))
}

// recordOrigin writes the record of an imported event.
func (s *store) recordOrigin(ctx context.Context, m *member) error {
	rec := m.origin.Record
	rec.Event, rec.By = m.seq, s.instance
	_, err := s.writeRecord(ctx, m.origin.Kind, m.ID, rec, m.last)
	return err
}

// imported is the state of an event in the inbox from which it was imported.
type imported struct {
	Kind   kind   `json:"kind"`
	Record record `json:"record"`
}
