package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// restoreConsumers creates consumers that were removed again. It never creates
// a stream: somebody may be about to restore it.
func (s *store) restoreConsumers(ctx context.Context) error {
	for _, c := range s.consumedStreams() {
		there, err := s.js.Consumer(ctx, c.stream, consumerName)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			s.log.Error("somebody has removed the consumer, it is made anew", zap.String("of", c.stream))
			err = s.ensureConsumer(ctx, c.stream, c.filter)
		} else if err == nil && c.stream == s.subjects.stream {
			s.leaser.recheckNew.Store(there.CachedInfo().Config.Metadata[recheckKey] != "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ensureConsumer creates the consumer of a stream, or checks and updates an
// existing one.
func (s *store) ensureConsumer(ctx context.Context, stream, filter string) error {
	want := jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.current.Load().lease,
		MaxDeliver: -1, MaxAckPending: maxAckPending, FilterSubject: filter, MaxWaiting: 4096,
		Metadata: map[string]string{layoutKey: layout},
	}
	there, err := s.js.Consumer(ctx, stream, consumerName)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if n, nerr := s.count(ctx, stream, ">"); nerr != nil {
			return fmt.Errorf("counting stream %s: %w", stream, nerr)
		} else if n > 0 {
			// It was removed, and a new one begins at the first event.
			want.Metadata[recheckKey] = "1"
		}
		_, err = s.js.CreateConsumer(ctx, stream, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil // another Caddy was faster
		}
		if err != nil {
			return fmt.Errorf("making consumer %s of stream %s: %w", consumerName, stream, err)
		}
		there, err = s.js.Consumer(ctx, stream, consumerName)
	}
	if err != nil {
		return fmt.Errorf("looking for consumer %s of stream %s: %w", consumerName, stream, err)
	}
	have := there.CachedInfo().Config
	switch {
	case have.Metadata[layoutKey] != layout:
		return fmt.Errorf("consumer %s of stream %s was not made by the gateway; it is left as it is: remove it", consumerName, stream)
	case have.FilterSubject != filter, have.AckPolicy != want.AckPolicy, have.MaxDeliver != -1, have.DeliverSubject != "":
		return fmt.Errorf("consumer %s of stream %s was changed: remove it, and it will be made anew", consumerName, stream)
	}
	if stream == s.subjects.stream {
		s.leaser.recheckNew.Store(have.Metadata[recheckKey] != "")
	}
	if have.AckWait == want.AckWait {
		return nil
	}
	have.AckWait = want.AckWait
	if _, err := s.js.UpdateConsumer(ctx, stream, have); err != nil {
		return fmt.Errorf("changing the lease of consumer %s of stream %s: %w", consumerName, stream, err)
	}
	return nil
}

// consumedStream is a stream from which events are leased.
type consumedStream struct {
	stream, filter string
	src            *source
}

// consumedStreams returns the streams that have a consumer.
func (s *store) consumedStreams() []consumedStream {
	return []consumedStream{
		{s.subjects.stream, s.subjects.allEvents(), &s.leaser.fresh},
		{s.subjects.states(), s.subjects.ofKind(pending), &s.leaser.again},
	}
}
