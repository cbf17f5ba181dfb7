package nats

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// sequenceGap is the distance between the last known sequence of a removed
// stream and the first one of its successor, so that no sequence is used twice.
const sequenceGap = 10_000_000

// makeStream creates a stream. If it replaces one that was removed, it
// continues where that one ended.
func (s *store) makeStream(ctx context.Context, want jetstream.StreamConfig) error {
	if want.Name == s.subjects.stream {
		first, err := s.nextSequence(ctx)
		if err != nil {
			return err
		}
		want.FirstSeq = first
	}
	if _, err := s.js.CreateStream(ctx, want); err != nil {
		return err
	}
	s.log.Info("stream made", zap.String("name", want.Name), zap.Int("replicas", want.Replicas))
	switch {
	case want.Name == s.subjects.states():
		return errors.Join(s.registerFound(ctx), s.redeliverAll(ctx, s.home.destination))
	case want.Name == s.subjects.all().stream:
		return s.redeliverAll(ctx, s.destinations()...)
	case want.Name == s.subjects.stream && want.FirstSeq == 0:
		s.newest.Store(0) // its sequences begin anew
	}
	for _, d := range s.destinations() {
		if want.Name == d.place().stream {
			return s.redeliverAll(ctx, d)
		}
	}
	return nil
}

// nextSequence returns the first sequence for a stream of events that replaces
// a removed one, 0 if there was none. Records of the old events may still
// exist. The ledger counts the skipped sequences as removed.
func (s *store) nextSequence(ctx context.Context) (first uint64, err error) {
	if _, err := s.js.Stream(ctx, s.subjects.states()); errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	l, _, err := s.readLedger(ctx)
	if err != nil {
		return 0, err
	}
	if l == nil {
		err := s.writeLedger(ctx, &ledger{Removed: sequenceGap - 1, Seen: sequenceGap - 1, Next: sequenceGap}, 0)
		if !errors.Is(err, errConflict) { // else another Caddy has begun one
			return sequenceGap, err
		}
	}
	err = s.updateLedger(ctx, func(l *ledger) {
		seen := max(l.Seen, s.newest.Load())
		if seen+1 != l.Next { // else an earlier try has done it
			l.Next = seen + sequenceGap
			l.Removed += l.Next - 1 - seen
			l.Seen = l.Next - 1
		}
		first = l.Next
	})
	return first, err
}

// redeliverAll makes all existing events be handed out again to some destinations, because
// the stream with their records was removed. Otherwise an event that
// waited for a retry would never be delivered.
func (s *store) redeliverAll(ctx context.Context, to ...*destination) error {
	state, err := s.eventState(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && state.Msgs == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	s.log.Error("what became of the events is not known any more, as the stream of that was removed: all that are kept are delivered again",
		zap.Uint64("events", state.Msgs))
	for _, d := range to {
		if err := d.redeliver(ctx); err != nil {
			return err
		}
	}
	return nil
}

// redeliver makes the consumer of the stream of events anew.
func (d *destination) redeliver(ctx context.Context) error {
	err := d.js.DeleteConsumer(ctx, d.subjects.stream, d.consumer())
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	q := d.queueNamed(d.name)
	if q != nil {
		q.leaser.recheckNew.Store(true)
	}
	if err := d.ensureConsumer(ctx, d.consumed()[0]); err != nil {
		return err
	}
	if q != nil {
		q.leaser.forgetRequests()
	}
	return nil
}

// remakeStreams creates streams again that were removed, if a config was loaded
// since.
func (s *store) remakeStreams() {
	h := &s.health
	h.mu.Lock()
	due := h.remakeDue
	h.remakeDue = false
	h.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(s.life, 4*inspectTimeout)
	defer cancel()
	for _, want := range s.streamConfigs() {
		if _, err := s.js.Stream(ctx, want.Name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		err := s.makeStream(ctx, want)
		for _, d := range append(s.destinations(), s.home.destination) {
			for _, c := range d.consumed() {
				if err == nil && c.stream == want.Name {
					err = d.ensureConsumer(ctx, c)
				}
			}
		}
		if err != nil {
			s.log.Error("a stream that is gone is not made anew", zap.String("name", want.Name), zap.Error(err))
		}
	}
}

// requestRemake makes removed streams be created again, because a config was
// loaded.
func (s *store) requestRemake() {
	s.health.mu.Lock()
	s.health.remakeDue = true
	s.health.mu.Unlock()
	s.health.inspectSoon()
}
