package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Purge removes a delivery of an event, or all of it.
func (s *store) Purge(ctx context.Context, id, destination string) error {
	return s.withWhole(ctx, id, func(ctx context.Context, w *whole) error {
		chosen := w.parts
		if destination != "" {
			p := w.part(destination)
			if p == nil {
				return notThere(id, destination)
			}
			chosen = []part{*p}
		}
		for _, p := range chosen {
			if p.leasedNow() {
				return wrongState(id)
			}
		}
		if !w.spread {
			return s.purgeHome(ctx, w.parts[0].member)
		}
		for _, p := range chosen {
			if p.redo || p.state() == inbox.Pending || len(chosen) < len(w.parts) {
				if err := p.drop(ctx, p.member); err != nil {
					return errors.Join(err, s.conclude(ctx, w.stored))
				}
			}
		}
		if len(chosen) < len(w.parts) {
			return s.conclude(ctx, w.stored)
		}
		return s.removeWhole(ctx, w.stored, &w.sum, namesOf(w.stored, &w.sum.rec))
	})
}

// purgeHome removes an event that goes to the default destination alone.
func (s *store) purgeHome(ctx context.Context, m *member) error {
	if err := s.remove(ctx, m.at, expired{id: m.ID, seq: m.seq, last: m.last, received: inbox.Micros(m.ReceivedAt)}); err != nil {
		return err
	}
	s.home.leaser.drop(m.ID)
	s.home.leaser.wakeTask(m.ID)
	return nil
}

// removeWhole removes an event with several destinations.
func (s *store) removeWhole(ctx context.Context, e *stored, sum *history, names []string) error {
	err := s.remove(ctx, s.subjects.all(), expired{e.ID, e.seq, sum.last, inbox.Micros(e.ReceivedAt), names, !e.several})
	if err != nil {
		return err
	}
	for _, q := range s.openQueues() {
		q.leaser.drop(e.ID)
		q.leaser.wakeTask(e.ID)
	}
	return nil
}

// remove removes an event and its records. It first marks the event as purged,
// so that nobody leases or replays it meanwhile. The records go last, because
// without an event they are ignored.
func (s *store) remove(ctx context.Context, at place, e expired) error {
	rec := record{Event: e.seq, Received: e.received, By: s.instance, Also: e.also, Moved: e.moved}
	seq, err := s.writeRecord(ctx, at, purged, e.id, rec, e.last)
	if err != nil {
		return err
	}
	return s.erase(ctx, at, e, seq)
}

// erase removes an event that was marked as purged by the record with the
// sequence seq. Another Caddy may have done so already, and the event may have
// been put again since: nothing newer is removed. A mark in the stream of
// the record notes the removal for the ledger.
func (s *store) erase(ctx context.Context, at place, e expired, seq uint64) error {
	err := s.api(ctx, "STREAM.PURGE."+s.subjects.stream, map[string]any{"filter": s.subjects.event(e.id), "seq": e.seq + 1})
	if err != nil {
		return err
	}
	if err := s.forgetDeliveries(ctx, at, e); err != nil {
		return err
	}
	_, err = s.publish(ctx, &nats.Msg{Subject: at.erased(seq)}, seq, at.statesOf(e.id))
	if err != nil && !errors.Is(err, errConflict) { // else another Caddy has made it
		return err
	}
	return s.api(ctx, "STREAM.PURGE."+at.stream, map[string]any{"filter": at.statesOf(e.id), "seq": seq + 1})
}

// forgetDeliveries removes the records of the deliveries of an event that is removed
// as a whole, but none of a newer event with the same id.
func (s *store) forgetDeliveries(ctx context.Context, at place, e expired) error {
	if at != s.subjects.all() {
		return nil
	}
	var places []place
	for _, name := range e.also {
		d, err := s.destinationNamed(ctx, name)
		if err != nil {
			return err
		}
		if d != nil {
			places = append(places, d.place())
		}
	}
	if e.moved {
		places = append(places, s.subjects.home())
	}
	for _, at := range places {
		if err := s.forgetDelivery(ctx, at, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) forgetDelivery(ctx context.Context, at place, e expired) error {
	m, err := s.last(ctx, at.stream, at.statesOf(e.id))
	if err != nil || m == nil {
		return err
	}
	var r record
	if err := json.Unmarshal(m.data, &r); err != nil {
		return fmt.Errorf("record %d of event %s: %w", m.seq, e.id, err)
	}
	if r.Event <= e.seq {
		return s.api(ctx, "STREAM.PURGE."+at.stream, map[string]any{"filter": at.statesOf(e.id), "seq": m.seq + 1})
	}
	records, err := s.latest(ctx, at.stream, at.statesOf(e.id))
	if err != nil {
		return err
	}
	var old []uint64
	for _, m := range records {
		if json.Unmarshal(m.data, &r) == nil && r.Event <= e.seq {
			old = append(old, m.seq)
		}
	}
	s.forgetRecords(ctx, at, old)
	return nil
}
