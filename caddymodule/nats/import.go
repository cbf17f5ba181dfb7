package nats

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxOrigin is the size of the header that what became of an event is brought
// in. A server takes no more than 64 KiB of headers. If the event leaves less
// room in a message, fewer of its attempts are brought.
const maxOrigin = 40 << 10

// Import stores an event with what became of it.
func (s *store) Import(ctx context.Context, r *inbox.Record, attempts []inbox.Attempt) (duplicate bool, err error) {
	if _, _, err := r.Event.Check(); err != nil {
		return false, err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	duplicateOf, err := s.put(bounded, r.Event, originOf(r, attempts, s.attemptRoom(r.Event)))
	return duplicateOf != "", s.failed(ctx, err)
}

// originOf is what is stored of what became of an event: nil if nothing did.
// It goes into the same message, so that an event never comes without it.
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

// attemptRoom is what a message of an event has left for its attempts. What else is
// in its headers takes less than half of what they may have.
func (s *store) attemptRoom(e *inbox.Event) int {
	return int(min(maxOrigin, s.conn.MaxPayload()-int64(len(e.Body))-overhead/2))
}

// recordOrigin writes the record of an event that was brought from elsewhere.
func (s *store) recordOrigin(ctx context.Context, m *member) error {
	rec := m.origin.Record
	rec.Event, rec.By = m.seq, s.instance
	_, err := s.writeRecord(ctx, m.origin.Kind, m.ID, rec, m.last)
	return err
}

// imported is what had become of an event that was brought from another inbox.
type imported struct {
	Kind   kind   `json:"kind"`
	Record record `json:"record"`
}
