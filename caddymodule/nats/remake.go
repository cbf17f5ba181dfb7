package nats

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// sequenceGap is how far the numbers of a stream that is made anew begin behind those
// that it is known to have had: no event gets a number that another one had.
const sequenceGap = 10_000_000

// makeStream makes a stream, in place of one that was there before if there is
// one in its room that knows of it.
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
	if want.Name == s.subjects.states() {
		return s.redeliverAll(ctx)
	}
	return nil
}

// nextSequence returns the number with which the stream of events goes on that was
// removed, 0 if there was none. Records of its events may still be there. The
// ledger counts the numbers in between as no event's.
func (s *store) nextSequence(ctx context.Context) (first uint64, err error) {
	if _, err := s.js.Stream(ctx, s.subjects.states()); errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	l, _, err := s.readLedger(ctx)
	if err != nil {
		return 0, err
	}
	if l == nil {
		return sequenceGap, nil
	}
	err = s.updateLedger(ctx, func(l *ledger) {
		seen := max(l.Seen, s.newest.Load())
		if seen+1 != l.Next { // else it was tried before
			l.Next = seen + sequenceGap
			l.Removed += l.Next - 1 - seen
			l.Seen = l.Next - 1
		}
		first = l.Next
	})
	return first, err
}

// redeliverAll has all events handed out anew that are there: what became of them
// was in the stream of states, which was removed. Some may have waited for a retry
// that nobody knows of any more.
func (s *store) redeliverAll(ctx context.Context) error {
	state, err := s.eventState(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && state.Msgs == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	s.log.Error("what became of the events is not known any more, as the stream of that was removed: all that are kept are delivered again",
		zap.Uint64("events", state.Msgs))
	err = s.js.DeleteConsumer(ctx, s.subjects.stream, consumerName)
	if err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) {
		s.leaser.recheckNew.Store(true)
		if err = s.ensureConsumer(ctx, s.subjects.stream, s.subjects.allEvents()); err == nil {
			s.leaser.forgetRequests()
		}
	}
	return err
}

// remakeStreams makes streams anew that are gone, if a config was loaded since.
func (s *store) remakeStreams() {
	c := &s.health
	c.mu.Lock()
	due := c.remakeDue
	c.remakeDue = false
	c.mu.Unlock()
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
		for _, of := range s.consumedStreams() {
			if err == nil && of.stream == want.Name {
				err = s.ensureConsumer(ctx, of.stream, of.filter)
			}
		}
		if err != nil {
			s.log.Error("a stream that is gone is not made anew", zap.String("name", want.Name), zap.Error(err))
		}
	}
}

// requestRemake has streams made anew that are gone: a config was loaded.
func (s *store) requestRemake() {
	s.health.mu.Lock()
	s.health.remakeDue = true
	s.health.mu.Unlock()
	s.health.inspectSoon()
}
