package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// consumed is a stream from which deliveries of a destination are leased.
type consumed struct {
	stream, consumer, filter string

	fresh bool
	from  uint64 // of the stream of events: the first event that counts
}

// consumed returns the streams that have a consumer for the destination: that of the
// events first, then those of records.
func (d *destination) consumed() []consumed {
	places := []place{d.place()}
	if d.isDefault() {
		places = []place{d.subjects.home()}
		if d.several.Load() {
			places = append(places, d.place())
		}
	}
	all := make([]consumed, 1, 1+len(places))
	all[0] = consumed{d.subjects.stream, d.consumer(), d.subjects.allEvents(), true, max(1, d.from.Load())}
	for _, at := range places {
		all = append(all, consumed{stream: at.stream, consumer: consumerName, filter: at.ofKind(pending)})
	}
	return all
}

// restoreConsumers creates consumers that were removed again. It never creates
// a stream: somebody may be about to restore it.
func (s *store) restoreConsumers(ctx context.Context) error {
	all := s.destinations()
	if len(all) == 0 {
		all = append(all, s.home.destination)
	}
	for _, d := range all {
		q := s.queueNamed(d.name)
		for _, c := range d.consumed() {
			there, err := s.js.Consumer(ctx, c.stream, c.consumer)
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				s.log.Error("somebody has removed the consumer, it is made anew", zap.String("of", c.stream), zap.String("name", c.consumer))
				err = d.ensureConsumer(ctx, c)
			} else if err == nil {
				s.notePause(c, there.CachedInfo())
				if c.fresh && q != nil {
					q.leaser.recheckNew.Store(there.CachedInfo().Config.Metadata[recheckKey] != "")
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// notePause logs once that somebody has paused a consumer, from which nothing comes then,
// and that this has ended.
func (s *store) notePause(c consumed, info *jetstream.ConsumerInfo) {
	key := c.stream + " " + c.consumer
	told, known := s.paused[key]
	switch {
	case !info.Paused && known:
		s.log.Info("the consumer is not paused any more, deliveries go on", zap.String("of", c.stream), zap.String("name", c.consumer))
		delete(s.paused, key)
	case info.Paused && info.Config.PauseUntil != nil && (!known || !told.Equal(*info.Config.PauseUntil)):
		s.log.Error("somebody has paused the consumer, what it has is not delivered: resume it",
			zap.String("of", c.stream), zap.String("name", c.consumer), zap.Time("until", *info.Config.PauseUntil),
			zap.String("with", "nats consumer resume "+key+" --force"))
		s.paused[key] = *info.Config.PauseUntil
	}
}

// ensureConsumers creates the consumers of a destination, or checks and updates existing
// ones.
func (s *store) ensureConsumers(ctx context.Context, d *destination) error {
	for _, c := range d.consumed() {
		if err := d.ensureConsumer(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// ensureConsumer creates a consumer, or checks and updates an existing one.
func (d *destination) ensureConsumer(ctx context.Context, c consumed) error {
	want := jetstream.ConsumerConfig{
		Durable: c.consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: d.current.Load().lease,
		MaxDeliver: -1, MaxAckPending: maxAckPending, FilterSubject: c.filter, MaxWaiting: 4096,
		Metadata: map[string]string{layoutKey: layout},
	}
	if c.from > 1 {
		want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, c.from
	}
	lookFor := func(ctx context.Context) (jetstream.Consumer, error) { return d.js.Consumer(ctx, c.stream, c.consumer) }
	there, err := ask(ctx, lookFor)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if n, nerr := d.countFrom(ctx, c.stream, ">", max(1, c.from)); nerr != nil {
			return fmt.Errorf("counting stream %s: %w", c.stream, nerr)
		} else if n > 0 {
			// It was removed, and a new one begins at the first event.
			want.Metadata[recheckKey] = "1"
		}
		_, err = d.js.CreateConsumer(ctx, c.stream, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil // another Caddy was faster
		}
		if err != nil {
			return fmt.Errorf("making consumer %s of stream %s: %w", c.consumer, c.stream, err)
		}
		there, err = ask(ctx, lookFor)
	}
	if err != nil {
		return fmt.Errorf("looking for consumer %s of stream %s: %w", c.consumer, c.stream, err)
	}
	have := there.CachedInfo().Config
	switch {
	case have.Metadata[layoutKey] != layout:
		return fmt.Errorf("consumer %s of stream %s was not made by the gateway; it is left as it is: remove it", c.consumer, c.stream)
	case have.FilterSubject != c.filter, have.AckPolicy != want.AckPolicy, have.MaxDeliver != -1, have.DeliverSubject != "":
		return fmt.Errorf("consumer %s of stream %s was changed: remove it, and it will be made anew", c.consumer, c.stream)
	}
	if q := d.queueNamed(d.name); c.fresh && q != nil {
		q.leaser.recheckNew.Store(have.Metadata[recheckKey] != "")
	}
	if have.AckWait == want.AckWait {
		return nil
	}
	have.AckWait = want.AckWait
	if _, err := d.js.UpdateConsumer(ctx, c.stream, have); err != nil {
		return fmt.Errorf("changing the lease of consumer %s of stream %s: %w", c.consumer, c.stream, err)
	}
	return nil
}
