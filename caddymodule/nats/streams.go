package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// layoutKey is the metadata key of the streams and consumers created by the
	// inbox. Its value is the version of their layout.
	layoutKey = "fotor_webhook"
	layout    = "1"

	// recheckKey is the metadata key of a consumer that was created anew. It
	// hands out events again that may have been settled, so each is looked up
	// first.
	recheckKey = "fotor_webhook_checked"

	consumerName = "gateway"

	// maxAckPending bounds the events that are leased, or wait for a retry or
	// for another event of their task, in all Caddys together.
	maxAckPending = 1_000_000

	// overhead is the size reserved for the headers of an event's message.
	overhead = 16 << 10
)

// setUp creates or checks the streams and consumers, and proves that it can
// store.
func (s *store) setUp(ctx context.Context) error {
	if !s.link.isUp() {
		return s.notConnected()
	}
	if err := s.checkPayload(); err != nil {
		return err
	}
	s.making.Lock() // queues that are asked for later find the streams ready
	defer s.making.Unlock()
	if err := s.ensureAll(ctx); err != nil {
		return err
	}
	for _, q := range s.openQueues() {
		if err := q.listenAll(); err != nil { //nolint:contextcheck // what arrives outlives the call
			return err
		}
	}
	if _, err := s.startTrackingLocked(ctx, false); err != nil {
		s.warnUntracked(err) // events are stored all the same
	}
	if _, err := ask(ctx, func(ctx context.Context) (*jetstream.PubAck, error) {
		return s.js.Publish(ctx, s.subjects.meta(metaOpened), []byte(s.instance))
	}); err != nil {
		return fmt.Errorf("storing in stream %s: %w", s.subjects.states(), publishError(err))
	}
	if s.current.Load().replicas == 1 {
		s.log.Warn("the stream has one replica: unless the NATS server has sync_interval: always, a power failure can lose events of the last two minutes that were answered 200")
	}
	close(s.ready)
	return nil
}

// askAgain is after how long a request without an answer is sent again: there may have
// been no server to hear it.
const askAgain = 2 * time.Second

// ask sends a request until there is an answer. It must do no harm to send it twice.
func ask[T any](ctx context.Context, request func(context.Context) (T, error)) (T, error) {
	for {
		part, cancel := context.WithTimeout(ctx, askAgain)
		answer, err := request(part)
		late := part.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return answer, err
		}
	}
}

// led returns a stream that has a leader, or errNoLeader. A server that has been up for a
// while describes a stream without a leader as it has it itself, which may be old.
func (s *store) led(ctx context.Context, name string) (jetstream.Stream, error) {
	there, err := s.js.Stream(ctx, name)
	if err == nil && there.CachedInfo().Cluster != nil && there.CachedInfo().Cluster.Leader == "" {
		return nil, fmt.Errorf("stream %s: %w", name, errNoLeader)
	}
	return there, err
}

// lookFor returns a stream.
func (s *store) lookFor(ctx context.Context, name string) (jetstream.Stream, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return s.js.Stream(ctx, name) })
}

// ensureAll creates missing streams and consumers, and applies the settings to
// existing ones.
func (s *store) ensureAll(ctx context.Context) error {
	for _, config := range s.coreConfigs() {
		if err := s.ensureStream(ctx, config); err != nil {
			return err
		}
	}
	if err := s.learn(ctx); err != nil {
		return err
	}
	if err := s.ensureConsumers(ctx, s.home.destination); err != nil {
		return err
	}
	configs := s.placeConfigs()
	if s.tracking.on.Load() {
		configs = append(configs, s.tasksConfig())
	}
	for _, config := range configs {
		if err := s.ensureStream(ctx, config); err != nil {
			return err
		}
	}
	for _, q := range s.openQueues() {
		if q != s.home {
			if err := s.makeQueue(ctx, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPayload fails if the servers would not accept the largest event.
func (s *store) checkPayload() error {
	most, has := s.policy.Load().MaxEvent, s.conn.MaxPayload()
	if most == 0 || int64(most)+overhead <= has {
		return nil
	}
	return fmt.Errorf("the server takes messages of at most %d bytes (max_payload), and an event may have %d, up to twice its callback, with its headers: set max_payload of the NATS servers to %d or more, or lower max_body of the handler",
		has, int64(most)+overhead, int64(most)+overhead)
}

func (s *store) baseConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: s.current.Load().replicas,
		AllowDirect: true, Metadata: map[string]string{layoutKey: layout},
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, Duplicates: time.Second,
	}
}

// streamConfigs returns the required configs of the streams.
func (s *store) streamConfigs() []jetstream.StreamConfig {
	return append(s.coreConfigs(), s.placeConfigs()...)
}

// placeConfigs returns those of the streams that an inbox with several destinations has.
func (s *store) placeConfigs() (configs []jetstream.StreamConfig) {
	for _, d := range s.destinations() {
		configs = append(configs, s.placeConfig(d.place()))
	}
	if len(configs) > 0 {
		configs = append(configs, s.placeConfig(s.subjects.all()))
	}
	return configs
}

// coreConfigs returns those of the streams that every inbox has.
func (s *store) coreConfigs() []jetstream.StreamConfig {
	now, base := s.current.Load(), s.baseConfig()
	events, states, suspects := base, base, base
	events.Name, events.Subjects = s.subjects.stream, []string{s.subjects.allEvents()}
	events.Description = "Events of the Fotor webhook gateway in order of arrival"
	// An id is stored once because each publish demands it, not because of a
	// limit of one message per subject. With that limit, the server goes
	// through all subjects of the stream for each batch that is read from its
	// middle.
	events.MaxBytes, events.Discard = now.maxSize, jetstream.DiscardNew

	states.Name, states.Subjects = s.subjects.states(), []string{s.subjects.home().everything(), s.subjects.allMeta()}
	states.Description = "What became of the events of the Fotor webhook gateway"
	states.MaxMsgsPerSubject = 1

	suspects.Name, suspects.Subjects = s.subjects.quarantine(), []string{s.subjects.oldSuspects(), s.subjects.suspects()}
	suspects.AllowRollup = true
	suspects.Description = "Quarantine of the Fotor webhook gateway"
	suspects.MaxMsgs = maxSuspects(s.policy.Load())
	return []jetstream.StreamConfig{events, states, suspects}
}

// ensureStream creates a stream, or checks and updates an existing one.
func (s *store) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	there, err := s.lookFor(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = s.makeStream(ctx, want); err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("making stream %s with %d replicas: %w", want.Name, want.Replicas, err)
		}
		there, err = s.lookFor(ctx, want.Name) // another Caddy was faster
	}
	if err != nil {
		return fmt.Errorf("looking for stream %s: %w", want.Name, err)
	}
	have := there.CachedInfo().Config
	older := slices.Equal(have.Subjects, want.Subjects[:1]) && // made by a release that did not
		(want.AllowRollup && !have.AllowRollup || // merge equal callbacks,
			want.Name == s.subjects.tasks()) // or share the rate of the questions
	if older {
		have.Subjects, have.AllowRollup = slices.Clone(want.Subjects), want.AllowRollup
	}
	if err := checkStream(have, want, false); err != nil {
		return err
	}
	if !older && limitsEqual(have, want) {
		return nil
	}
	return s.updateStream(ctx, have, want)
}

// updateStream sets the limits and replicas of an existing stream.
func (s *store) updateStream(ctx context.Context, have, want jetstream.StreamConfig) error {
	update := have
	update.Replicas, update.MaxBytes, update.MaxMsgs = want.Replicas, want.MaxBytes, want.MaxMsgs
	if _, err := s.js.UpdateStream(ctx, update); err != nil {
		return fmt.Errorf("stream %s has %d replicas and the limit of %d bytes, and cannot be given %d and %d: %w",
			want.Name, have.Replicas, have.MaxBytes, want.Replicas, want.MaxBytes, err)
	}
	s.log.Info("stream changed", zap.String("name", want.Name), zap.Int("replicas", want.Replicas), zap.Int64("max_size", want.MaxBytes))
	return nil
}

// restoreLimits sets limits and replicas again that somebody has changed. Streams
// that are missing or cannot be used are left to the inspection.
func (s *store) restoreLimits(ctx context.Context) error {
	for _, want := range append(s.streamConfigs(), s.tasksConfig()) {
		there, err := s.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		have := there.CachedInfo().Config
		if limitsEqual(have, want) || checkStream(have, want, false) != nil {
			continue
		}
		if err := s.updateStream(ctx, have, want); err != nil {
			return err
		}
	}
	return nil
}

func limitsEqual(a, b jetstream.StreamConfig) bool {
	return a.Replicas == b.Replicas && a.MaxBytes == b.MaxBytes && a.MaxMsgs == b.MaxMsgs
}
