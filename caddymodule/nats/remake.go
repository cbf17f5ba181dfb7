package nats

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

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

// remake makes streams anew that are gone, if a config was loaded since.
func (s *store) remake() {
	c := &s.condition
	c.mu.Lock()
	due := c.remake
	c.remake = false
	c.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(s.life, 4*inspectTimeout)
	defer cancel()
	for _, want := range s.streams() {
		if _, err := s.js.Stream(ctx, want.Name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		err := s.makeStream(ctx, want)
		for _, of := range s.consumed() {
			if err == nil && of.stream == want.Name {
				err = s.consumer(ctx, of.stream, of.filter)
			}
		}
		if err != nil {
			s.log.Error("a stream that is gone is not made anew", zap.String("name", want.Name), zap.Error(err))
		}
	}
}

// mend has streams made anew that are gone: a config was loaded.
func (s *store) mend() {
	s.condition.mu.Lock()
	s.condition.remake = true
	s.condition.mu.Unlock()
	s.condition.soon()
}
