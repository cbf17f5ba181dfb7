package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// retireAtOnce is the number of events that are removed concurrently:
	// removal has to keep up with storing.
	retireAtOnce = 128

	// retireBatch is the number of records read at a time, and retireTimeout
	// bounds the removal of their events.
	retireBatch   = 1000
	retireTimeout = time.Minute
)

// retireAll removes the events that ended long enough ago, and surplus more.
// Removal takes two steps, so that a crash or a replay at any moment leaves
// nothing half removed: first the event's record changes to the kind gone, so
// that it is not replayed; then the event is removed, and the record with it.
func (s *store) retireAll(ctx context.Context, surplus int64) error {
	var mine claim
	defer s.releaseClaim(ctx, &mine)
	for _, at := range s.eventPlaces() {
		for _, k := range []kind{gone, delivered, superseded, skipped} {
			if err := s.retire(ctx, at, k, &surplus, &mine); err != nil {
				return err
			}
		}
	}
	return s.checkLedger(ctx, &mine)
}

// eventPlaces returns where the records are that say how an event as a whole ended.
func (s *store) eventPlaces() []place {
	if !s.several.Load() {
		return []place{s.subjects.home()}
	}
	return []place{s.subjects.home(), s.subjects.all()}
}

// retire goes through the records of a kind, which are in the order in which
// their events ended, until one is not due to be removed.
func (s *store) retire(ctx context.Context, at place, k kind, surplus *int64, mine *claim) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, retireTimeout)
		more, err := s.retireSome(bounded, at, k, surplus, mine)
		if err == nil && k != gone {
			err = s.retire(bounded, at, gone, nil, mine)
		}
		cancel()
		if err != nil || !more {
			return err
		}
	}
}

// retireSome removes a batch. It reports whether there may be more to do.
func (s *store) retireSome(ctx context.Context, at place, k kind, surplus *int64, mine *claim) (more bool, err error) {
	// To read a batch the server counts all records of the kind. So it only
	// does if the first record is due.
	first, err := s.next(ctx, at.stream, at.ofKind(k), 1)
	if err != nil || first == nil {
		return false, err
	}
	if _, past, err := s.due(k, []message{*first}, surplus); err != nil || past == 0 {
		return false, err
	}
	if ok, err := s.claim(ctx, mine); err != nil || !ok {
		return false, err
	}
	messages, _, err := s.directGet(ctx, at.stream, query{Seq: 1, NextFor: at.ofKind(k), Batch: retireBatch, MaxBytes: maxAnswer})
	if err != nil {
		return false, err
	}
	old, past, err := s.due(k, messages, surplus)
	if err != nil || past == 0 {
		return false, err
	}
	var jobs errgroup.Group
	jobs.SetLimit(retireAtOnce)
	for _, e := range old {
		jobs.Go(func() error { return s.retireOne(ctx, at, k, e) })
	}
	if err := jobs.Wait(); err != nil {
		return false, err
	}
	if surplus != nil {
		*surplus -= int64(len(old))
	}
	if k == gone {
		err := s.updateLedger(ctx, func(l *ledger) { l.countRemoved(l.gone(at == s.subjects.all()), old, past) })
		if err != nil {
			return false, err
		}
	}
	// Sequences only grow, so no record was added among these since.
	err = s.api(ctx, "STREAM.PURGE."+at.stream, map[string]any{"filter": at.ofKind(k), "seq": past})
	return past > messages[len(messages)-1].seq, err
}

// expired is an event to be removed.
type expired struct {
	id       string
	seq      uint64
	last     uint64 // sequence of its last record
	received int64
	also     []string // of an event with several destinations: their names
	moved    bool     // as record.Moved
}

// due returns the events to be removed: those of the first records that ended
// long enough ago or are surplus. It also returns the sequence after their
// records, 0 if there are none.
func (s *store) due(k kind, records []message, surplus *int64) (old []expired, past uint64, err error) {
	since := time.Now().Add(-s.policy.Load().Keep).UnixMicro()
	for _, m := range records {
		var r record
		if err := json.Unmarshal(m.data, &r); err != nil {
			return nil, 0, err
		}
		if k != gone && r.Settled >= since && int64(len(old)) >= *surplus {
			break
		}
		past = m.seq + 1
		if id := idOf(m.subject); len(id) == inbox.IDLength { // else the gateway did not write it
			old = append(old, expired{id, r.Event, m.seq, r.Received, r.Also, r.Moved})
		}
	}
	return old, past, nil
}

// retireOne takes the next step of removing an event.
func (s *store) retireOne(ctx context.Context, at place, k kind, e expired) error {
	if k != gone {
		rec := record{Event: e.seq, Received: e.received, By: s.instance, Also: e.also, Moved: e.moved}
		_, err := s.writeRecord(ctx, at, gone, e.id, rec, e.last)
		if !errors.Is(err, errConflict) {
			return err
		}
		// It was replayed, or another Caddy removes it. But the conflicting
		// record may be lost together with its server: this one must stay while
		// it is the last.
		m, err := s.last(ctx, at.stream, at.statesOf(e.id))
		if err == nil && m != nil && m.seq <= e.last {
			err = fmt.Errorf("event %s is not removed: %w", e.id, errConflict)
		}
		return err
	}
	err := s.api(ctx, "STREAM.MSG.DELETE."+s.subjects.stream, map[string]any{"seq": e.seq, "no_erase": true})
	if err != nil && !isMissing(err) {
		return err
	}
	return s.forgetDeliveries(ctx, at, e)
}

// isMissing reports whether a message could not be deleted because it does not
// exist.
func isMissing(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == codeSequenceNotFound || api.ErrorCode == jetstream.JSErrCodeMessageNotFound || api.ErrorCode == codeDeleteFailed)
}
