package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// conflictWait is how long a Put waits before it looks again at a task that
// another one is just adding to.
const conflictWait = 2 * time.Millisecond

// Put stores the event.
func (s *store) Put(ctx context.Context, e *inbox.Event) (duplicate bool, err error) {
	if err := checkEvent(e); err != nil {
		return false, err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	duplicate, err = s.put(bounded, e, nil)
	return duplicate, s.failed(ctx, err)
}

// put stores an event behind the last one of its task that it knows of. It
// begins with the guess that there is none, which is one way to the server and
// back. If the guess is wrong it learns what there is, and tries again behind
// that: so no id is stored twice, and each event knows whether others are
// before it.
func (s *store) put(ctx context.Context, e *inbox.Event, origin *imported) (duplicate bool, err error) {
	m, err := encodeEvent(s.subjects.event(e.ID), e)
	if err != nil {
		return false, err
	}
	if origin != nil {
		text, err := json.Marshal(origin)
		if err != nil {
			return false, err
		}
		m.Header.Set(headerImport, string(text))
	}
	var before []*stored
	for wait := conflictWait; ; wait = min(2*wait, 50*time.Millisecond) {
		after := uint64(0)
		if len(before) > 0 {
			after = before[len(before)-1].seq
			m.Header.Set(headerPrev, "1")
		}
		seq, err := s.publish(ctx, m, after, s.subjects.task(e.ID))
		if err == nil {
			s.putInOrder(ctx, &stored{Event: e, seq: seq, origin: origin}, before)
			return false, nil
		}
		if errors.Is(err, inbox.ErrFull) {
			s.full()
		}
		if !errors.Is(err, errConflict) {
			return false, err
		}
		known := len(before)
		if before, err = s.events(ctx, e.ID); err != nil {
			return false, err
		}
		for _, b := range before {
			if b.ID == e.ID {
				return true, nil
			}
		}
		if len(before) == known {
			// Who was faster is not stored yet, or not known here yet.
			select {
			case <-ctx.Done():
				return false, fmt.Errorf("event %s: other events of its task are being stored: %w", e.ID, ctx.Err())
			case <-time.After(wait):
			}
		}
	}
}

// putInOrder supersedes what an event that was just stored makes outdated. If
// that fails, whoever looks at the task next does it.
func (s *store) putInOrder(ctx context.Context, e *stored, before []*stored) {
	var err error
	switch {
	case e.origin != nil:
		err = s.recordOrigin(ctx, &member{stored: e})
	case len(before) == 0:
	case !e.Status.Final() && isFinal(before):
		err = s.supersede(ctx, &member{stored: e})
	case e.Status.Final() && slices.ContainsFunc(before, func(b *stored) bool { return !b.Status.Final() }):
		err = s.supersedeBefore(ctx, e)
	}
	if err != nil && !errors.Is(err, errConflict) {
		s.log.Debug("events in progress were not superseded at once", zap.String("task", e.TaskID), zap.Error(err))
	}
}

// supersedeBefore supersedes the events in progress that wait before a final one.
func (s *store) supersedeBefore(ctx context.Context, e *stored) error {
	task, err := s.task(ctx, e.ID)
	if err != nil {
		return err
	}
	outdated, _, _ := arrange(task, e.ID)
	for _, m := range outdated {
		if m.seq > e.seq {
			continue // whoever stored it does that
		}
		if err := s.supersede(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// maxOrigin is the size of the header that what became of an event is brought
// in. A server takes no more than 64 KiB of headers. If the event leaves less
// room in a message, fewer of its attempts are brought.
const maxOrigin = 40 << 10

// Import stores an event with what became of it.
func (s *store) Import(ctx context.Context, r *inbox.Record, attempts []inbox.Attempt) (duplicate bool, err error) {
	if err := checkEvent(r.Event); err != nil {
		return false, err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	duplicate, err = s.put(bounded, r.Event, originOf(r, attempts, s.room(r.Event)))
	return duplicate, s.failed(ctx, err)
}

// originOf is what is stored of what became of an event: nil if nothing did.
// It goes into the same message, so that an event never comes without it.
func originOf(r *inbox.Record, attempts []inbox.Attempt, room int) *imported {
	if r.State == inbox.Pending && r.Attempts == 0 && r.Due.IsZero() && len(attempts) == 0 {
		return nil
	}
	o := &imported{Kind: kindOf(r.State), Record: record{
		Received: micros(r.Event.ReceivedAt), Attempts: r.Attempts, Due: micros(r.Due), Settled: micros(r.SettledAt),
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

// room is what a message of an event has left for its attempts. What else is
// in its headers takes less than half of what they may have.
func (s *store) room(e *inbox.Event) int {
	return int(min(maxOrigin, s.conn.MaxPayload()-int64(len(e.Body))-overhead/2))
}

// recordOrigin writes the record of an event that was brought from elsewhere.
func (s *store) recordOrigin(ctx context.Context, m *member) error {
	rec := m.origin.Record
	rec.Event, rec.By = m.seq, s.me
	_, err := s.writeRecord(ctx, m.origin.Kind, m.ID, rec, m.last)
	return err
}
