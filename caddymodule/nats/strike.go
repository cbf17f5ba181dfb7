package nats

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// strike removes the records of events that are not there any more. Those that
// were delivered or superseded go the way of what is too old, so that they are
// counted as removed. One that was dead had not been delivered: it is lost. It
// looks at the records from a number on.
func (s *store) strike(ctx context.Context, mine *claim, first uint64) error {
	for _, k := range []kind{delivered, superseded, dead} {
		for from := first; ; {
			if ok, err := s.claim(ctx, mine); err != nil || !ok {
				return err
			}
			records, more, err := s.ask(ctx, s.subjects.states(), query{Seq: from, NextFor: s.subjects.ofKind(k), Batch: s.options.limits.window, MaxBytes: maxAnswer})
			if err != nil {
				return err
			}
			if len(records) == 0 {
				break
			}
			if err := s.strikeSome(ctx, k, records); err != nil {
				return err
			}
			if more == 0 {
				break
			}
			from = records[len(records)-1].seq + 1
		}
	}
	return nil
}

// strikeSome removes those of some records whose events are not there.
func (s *store) strikeSome(ctx context.Context, k kind, records []message) error {
	subjects := make([]string, 0, len(records))
	for _, m := range records {
		if id := idOf(m.subject); len(id) == inbox.IDLength { // else it is not of the gateway
			subjects = append(subjects, s.subjects.event(id))
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	events, err := s.latest(ctx, s.subjects.stream, subjects...)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(events))
	for _, m := range events {
		there[m.subject] = true
	}
	var jobs errgroup.Group
	jobs.SetLimit(retireAtOnce)
	for _, m := range records {
		id := idOf(m.subject)
		if len(id) != inbox.IDLength || there[s.subjects.event(id)] {
			continue
		}
		jobs.Go(func() error { return s.strikeOne(ctx, k, id, m) })
	}
	return jobs.Wait()
}

func (s *store) strikeOne(ctx context.Context, k kind, id string, m message) error {
	// A replica may not know the event yet.
	if event, err := s.last(ctx, s.subjects.stream, s.subjects.event(id)); err != nil || event != nil {
		return err
	}
	if k == dead {
		s.forgetRecords(ctx, []uint64{m.seq})
		return nil
	}
	var r record
	if err := json.Unmarshal(m.data, &r); err != nil {
		return err
	}
	_, err := s.writeRecord(ctx, gone, id, record{Event: r.Event, Received: r.Received, By: s.me}, m.seq)
	if errors.Is(err, errConflict) {
		return nil // there is a newer one: it is looked at the next time
	}
	if err == nil {
		s.forgetRecords(ctx, []uint64{m.seq})
	}
	return err
}

// spare is how far the numbers of a stream that is made anew begin behind those
// that it is known to have had: no event gets a number that another one had.
const spare = 10_000_000

// makeStream makes a stream, in place of one that was there before if there is
// one in its room that knows of it.
func (s *store) makeStream(ctx context.Context, want jetstream.StreamConfig) error {
	if want.Name == s.subjects.stream {
		first, err := s.goOn(ctx)
		if err != nil {
			return err
		}
		want.FirstSeq = first
	}
	if _, err := s.js.CreateStream(ctx, want); err != nil {
		return err
	}
	s.log.Info("stream made", zap.String("name", want.Name), zap.Int("replicas", want.Replicas))
	if want.Name == s.subjects.states() {
		return s.startOver(ctx)
	}
	return nil
}

// goOn returns the number with which the stream of events goes on that was
// removed, 0 if there was none. Records of its events may still be there. The
// ledger counts the numbers in between as no event's.
func (s *store) goOn(ctx context.Context) (first uint64, err error) {
	if _, err := s.js.Stream(ctx, s.subjects.states()); errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	l, _, err := s.readLedger(ctx)
	if err != nil {
		return 0, err
	}
	if l == nil {
		return spare, nil
	}
	err = s.book(ctx, func(l *ledger) {
		seen := max(l.Seen, s.newest.Load())
		if seen+1 != l.Next { // else it was tried before
			l.Next = seen + spare
			l.Removed += l.Next - 1 - seen
			l.Seen = l.Next - 1
		}
		first = l.Next
	})
	return first, err
}

// startOver has all events handed out anew that are there: what became of them
// was in the stream of states, which was removed. Some may have waited for a retry
// that nobody knows of any more.
func (s *store) startOver(ctx context.Context) error {
	state, err := s.eventState(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && state.Msgs == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	s.log.Error("what became of the events is not known any more, as the stream of that was removed: all that are kept are delivered again",
		zap.Uint64("events", state.Msgs))
	err = s.js.DeleteConsumer(ctx, s.subjects.stream, consumer)
	if err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) {
		s.leaser.careful.Store(true)
		if err = s.consumer(ctx, s.subjects.stream, s.subjects.allEvents()); err == nil {
			s.leaser.forgetRequests()
		}
	}
	return err
}
