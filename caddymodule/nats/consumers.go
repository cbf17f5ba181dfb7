package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// revive makes the consumers anew if somebody has removed them. It never makes
// a stream anew: somebody may be about to restore it.
func (s *store) revive(ctx context.Context) error {
	for _, c := range s.consumed() {
		there, err := s.js.Consumer(ctx, c.stream, consumer)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			s.log.Error("somebody has removed the consumer, it is made anew", zap.String("of", c.stream))
			err = s.consumer(ctx, c.stream, c.filter)
		} else if err == nil && c.stream == s.subjects.stream {
			s.leaser.careful.Store(there.CachedInfo().Config.Metadata[checked] != "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// consumer makes the consumer of a stream, or checks the one that is there.
func (s *store) consumer(ctx context.Context, stream, filter string) error {
	want := jetstream.ConsumerConfig{
		Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.current.Load().lease,
		MaxDeliver: -1, MaxAckPending: maxAckPending, FilterSubject: filter, MaxWaiting: 4096,
		Metadata: map[string]string{mark: layout},
	}
	there, err := s.js.Consumer(ctx, stream, consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if n, nerr := s.count(ctx, stream, ">"); nerr != nil {
			return fmt.Errorf("counting stream %s: %w", stream, nerr)
		} else if n > 0 {
			// Somebody has removed it: it begins at the first event.
			want.Metadata[checked] = "1"
		}
		_, err = s.js.CreateConsumer(ctx, stream, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil // another Caddy was first
		}
		if err != nil {
			return fmt.Errorf("making consumer %s of stream %s: %w", consumer, stream, err)
		}
		there, err = s.js.Consumer(ctx, stream, consumer)
	}
	if err != nil {
		return fmt.Errorf("looking for consumer %s of stream %s: %w", consumer, stream, err)
	}
	have := there.CachedInfo().Config
	switch {
	case have.Metadata[mark] != layout:
		return fmt.Errorf("consumer %s of stream %s was not made by the gateway; it is left as it is: remove it", consumer, stream)
	case have.FilterSubject != filter, have.AckPolicy != want.AckPolicy, have.MaxDeliver != -1, have.DeliverSubject != "":
		return fmt.Errorf("consumer %s of stream %s was changed: remove it, and it will be made anew", consumer, stream)
	}
	if stream == s.subjects.stream {
		s.leaser.careful.Store(have.Metadata[checked] != "")
	}
	if have.AckWait == want.AckWait {
		return nil
	}
	have.AckWait = want.AckWait
	if _, err := s.js.UpdateConsumer(ctx, stream, have); err != nil {
		return fmt.Errorf("changing the lease of consumer %s of stream %s: %w", consumer, stream, err)
	}
	return nil
}

// consumed is a stream that events are leased from.
type consumed struct {
	stream, filter string
	src            *source
}

// consumed returns the streams that have a consumer.
func (s *store) consumed() []consumed {
	return []consumed{
		{s.subjects.stream, s.subjects.allEvents(), &s.leaser.fresh},
		{s.subjects.states(), s.subjects.ofKind(pending), &s.leaser.again},
	}
}
