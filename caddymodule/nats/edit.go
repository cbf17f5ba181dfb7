package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// withEvent calls f with an event and its history.
func (s *store) withEvent(ctx context.Context, id string, f func(context.Context, *member) error) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if _, err := inbox.LookUpID(id); err != nil {
		return err
	}
	m, err := s.find(bounded, id)
	if err == nil {
		err = f(bounded, m)
	}
	return s.failed(ctx, err)
}

// Replay makes an ended event pending, and a pending one due. The new record is
// handed out.
func (s *store) Replay(ctx context.Context, id, destination string) error {
	if err := onlyDefault(destination); err != nil {
		return err
	}
	return s.withEvent(ctx, id, func(ctx context.Context, m *member) error {
		if m.kind == none && m.origin != nil {
			if err := s.recordOrigin(ctx, m); err != nil {
				return conflictAsState(id, err)
			}
			var err error
			if m, err = s.find(ctx, id); err != nil {
				return err
			}
		}
		if !m.kind.ended() {
			return conflictAsState(id, s.makeDue(ctx, m))
		}
		m.rec = initial(m.stored)
		if !m.Status.Final() {
			events, err := s.events(ctx, id)
			if err != nil {
				return err
			}
			if isFinal(events) {
				// If it is superseded already, the new record replaces the one
				// on the same subject.
				return conflictAsState(id, s.supersede(ctx, m))
			}
		}
		m.rec.By = s.instance
		if _, err := s.writeRecord(ctx, pending, id, m.rec, m.last); err != nil {
			return conflictAsState(id, err)
		}
		s.forgetRecords(ctx, m.others)
		s.leaser.signal()
		return nil
	})
}

// Move makes an event pending again for a destination.
func (s *store) Move(ctx context.Context, id, from, to string) error {
	if err := errors.Join(onlyDefault(from), onlyDefault(to)); err != nil {
		return err
	}
	return s.Replay(ctx, id, to)
}

func onlyDefault(destination string) error {
	if destination == "" || destination == inbox.DefaultDestination {
		return nil
	}
	return fmt.Errorf("destination %.80q: %w", destination, inbox.ErrNotFound)
}

// Queue returns the queue of the default destination.
func (s *store) Queue(_ context.Context, destination string) (inbox.Queue, error) {
	if err := onlyDefault(destination); err != nil {
		return nil, err
	}
	return s, nil
}

// Purge removes an event.
func (s *store) Purge(ctx context.Context, id, destination string) error {
	if err := onlyDefault(destination); err != nil {
		return err
	}
	return s.withEvent(ctx, id, func(ctx context.Context, m *member) error {
		if m.kind == leased || s.leaser.holds(id) {
			return wrongState(id)
		}
		if err := s.remove(ctx, expired{id, m.seq, m.last, inbox.Micros(m.ReceivedAt)}); err != nil {
			return err
		}
		s.leaser.drop(id)
		s.leaser.wakeTask(id)
		return nil
	})
}

// remove removes an event and its records. It first marks the event as purged,
// so that nobody leases or replays it meanwhile. The records go last, because
// without an event they are ignored.
func (s *store) remove(ctx context.Context, e expired) error {
	rec := record{Event: e.seq, Received: e.received, By: s.instance}
	seq, err := s.writeRecord(ctx, purged, e.id, rec, e.last)
	if err != nil {
		return conflictAsState(e.id, err)
	}
	return s.erase(ctx, e, seq)
}

// erase removes an event that was marked as purged by the record with the
// sequence seq. Another Caddy may have done so already, and the event may have
// been put again since: nothing newer is removed. A mark in the stream of
// states records the removal for the ledger.
func (s *store) erase(ctx context.Context, e expired, seq uint64) error {
	err := s.api(ctx, "STREAM.PURGE."+s.subjects.stream, map[string]any{"filter": s.subjects.event(e.id), "seq": e.seq + 1})
	if err != nil {
		return err
	}
	_, err = s.publish(ctx, &nats.Msg{Subject: s.subjects.erased(seq)}, seq, s.subjects.statesOf(e.id))
	if err != nil && !errors.Is(err, errConflict) { // else another Caddy has made it
		return err
	}
	return s.api(ctx, "STREAM.PURGE."+s.subjects.states(), map[string]any{"filter": s.subjects.statesOf(e.id), "seq": seq + 1})
}
