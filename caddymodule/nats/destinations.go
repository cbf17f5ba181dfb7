package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// destination is a destination of which the streams tell, whether or not this inbox has a
// queue for it.
type destination struct {
	*store
	name string

	// from is the number of the first event that it may have by what the event says:
	// what was stored before has a record if it goes there.
	from atomic.Uint64
}

func (d *destination) isDefault() bool { return d.name == inbox.DefaultDestination }

// place is where the deliveries of events with several destinations have their records.
func (d *destination) place() place { return d.subjects.to(d.name) }

// placeOf is where the delivery of an event has its records, unless it was moved.
func (d *destination) placeOf(e *stored) place {
	if d.isDefault() && !e.several {
		return d.subjects.home()
	}
	return d.place()
}

// consumer is the name of the consumer of the stream of events.
func (d *destination) consumer() string {
	if d.isDefault() {
		return consumerName
	}
	return consumerName + "_" + d.name
}

// registration is what all Caddys know of a destination. It is made before the streams
// of the destination, and removed after them. Times are in µs since 1970.
type registration struct {
	From uint64 `json:"from"`           // as destination.from
	Used int64  `json:"used,omitempty"` // until when some Caddy has the destination in its config

	// Idle says that no Caddy had it: each event that goes there has a record, and there
	// is no consumer of the stream of events.
	Idle bool `json:"idle,omitempty"`

	// Closing is when some Caddy began to remove the streams of a destination without
	// deliveries.
	Closing int64 `json:"closing,omitempty"`
}

// usedFor is how long a destination counts as used after some Caddy said so. They say so
// with each round of maintenance.
const usedFor = 10

func (s *store) usedUntil() int64 {
	return time.Now().Add(usedFor * s.options.limits.maintenance).UnixMicro()
}

// registered returns the registration of a destination and the sequence of its message;
// nil if there is none.
func (s *store) registered(ctx context.Context, name string) (*registration, uint64, error) {
	m, err := s.last(ctx, s.subjects.states(), s.subjects.registration(name))
	if err != nil || m == nil {
		return nil, 0, err
	}
	r := new(registration)
	if err := json.Unmarshal(m.data, r); err != nil {
		return nil, 0, fmt.Errorf("registration of destination %q: %w", name, err)
	}
	return r, m.seq, nil
}

// register stores a registration if the last one still has the sequence after.
func (s *store) register(ctx context.Context, name string, r *registration, after uint64) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	subject := s.subjects.registration(name)
	_, err = s.publish(ctx, &nats.Msg{Subject: subject, Data: data}, after, subject)
	return err
}

// learn brings what is known of destinations up to date.
func (s *store) learn(ctx context.Context) error {
	_, err := s.registrations(ctx)
	return err
}

// registrations returns those of all destinations by their names, as some replica has
// them, and brings what is known of destinations up to date.
func (s *store) registrations(ctx context.Context) (map[string]*registration, error) {
	messages, err := s.latest(ctx, s.subjects.states(), s.subjects.registration(">"))
	if err != nil {
		return nil, fmt.Errorf("looking for destinations: %w", err)
	}
	there := map[string]*registration{}
	for _, m := range messages {
		name := idOf(m.subject)
		r := new(registration)
		if err := json.Unmarshal(m.data, r); err != nil || inbox.CheckDestination(name) != nil {
			s.log.Error("a registration of a destination cannot be read, it is ignored", zap.String("subject", m.subject), zap.Error(err))
			continue
		}
		if r.Closing == 0 {
			there[name] = r
			s.know(name, r.From)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.known {
		if there[name] == nil && s.queues[name] == nil {
			delete(s.known, name)
		}
	}
	return there, nil
}

// know notes that there is a destination.
func (s *store) know(name string, from uint64) *destination {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.known[name]
	if d == nil {
		d = &destination{store: s, name: name}
		if q := s.queues[name]; q != nil {
			d = q.destination
		}
		s.known[name] = d
	}
	d.from.Store(from)
	s.several.Store(true)
	return d
}

// destinations returns those that are known, in the order of their names.
func (s *store) destinations() []*destination {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*destination, 0, len(s.known))
	for _, d := range s.known {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *destination) int { return strings.Compare(a.name, b.name) })
	return all
}

// destinationNamed returns a destination, nil if there is none. If it is not known here,
// another Caddy may just have made it.
func (s *store) destinationNamed(ctx context.Context, name string) (*destination, error) {
	s.mu.Lock()
	d := s.known[name]
	s.mu.Unlock()
	if d != nil {
		return d, nil
	}
	r, _, err := s.registered(ctx, name)
	if err != nil || r == nil || r.Closing != 0 {
		return nil, err
	}
	return s.know(name, r.From), nil
}

// ensureDestination makes a destination with its stream and consumers, or what is missing
// of it.
func (s *store) ensureDestination(ctx context.Context, name string) (*destination, error) {
	var r *registration
	for {
		var after uint64
		var err error
		if r, after, err = s.registered(ctx, name); err != nil {
			return nil, fmt.Errorf("looking for destination %s: %w", name, err)
		}
		if r != nil && r.Closing != 0 {
			if err := s.awaitClosed(ctx, name, r, after); err != nil {
				return nil, err
			}
			continue
		}
		next := registration{Used: s.usedUntil()}
		if r != nil {
			next.From = r.From
		} else {
			// Others may look for the stream as soon as it is registered.
			if err := s.ensureStream(ctx, s.placeConfig(s.subjects.to(name))); err != nil {
				return nil, err
			}
			if next.From, err = s.firstFor(ctx, name); err != nil {
				return nil, err
			}
		}
		if err = s.register(ctx, name, &next, after); err == nil {
			r = &next
			break
		}
		if !errors.Is(err, errConflict) {
			return nil, fmt.Errorf("noting destination %s: %w", name, err)
		}
	}
	d := s.know(name, r.From)
	if err := s.ensureStream(ctx, s.placeConfig(d.place())); err != nil {
		return nil, err
	}
	return d, s.ensureConsumers(ctx, d)
}

// registerFound registers the destinations that have a stream, because the stream with the
// registrations is new. Mostly there are none.
func (s *store) registerFound(ctx context.Context) error {
	prefix := s.subjects.to("").stream
	names := s.js.StreamNames(ctx, jetstream.WithStreamListSubject(s.subjects.to("*").everything()))
	for stream := range names.Name() {
		name := strings.TrimPrefix(stream, prefix)
		if name == stream || inbox.CheckDestination(name) != nil {
			continue
		}
		if err := s.register(ctx, name, new(registration), 0); err != nil && !errors.Is(err, errConflict) {
			return err
		}
		s.know(name, 0)
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("looking for the streams of destinations: %w", err)
	}
	return nil
}

// closingFor is how long the removal of a destination's streams takes at most. If it takes
// longer, the Caddy that did so has died, and another one goes on.
const closingFor = 30 * time.Second

// awaitClosed waits until the streams of a destination are removed.
func (s *store) awaitClosed(ctx context.Context, name string, r *registration, seq uint64) error {
	if time.Since(inbox.FromMicros(r.Closing)) > closingFor {
		return s.closeDestination(ctx, name, seq)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("destination %s is just being removed by another Caddy: %w", name, ctx.Err())
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

// closeDestination removes the streams of a destination, and its registration with the
// sequence seq.
func (s *store) closeDestination(ctx context.Context, name string, seq uint64) error {
	d := destination{store: s, name: name}
	if err := s.js.DeleteConsumer(ctx, s.subjects.stream, d.consumer()); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	if err := s.js.DeleteStream(ctx, d.place().stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return s.api(ctx, "STREAM.PURGE."+s.subjects.states(), map[string]any{"filter": s.subjects.registration(name), "seq": seq + 1})
}

// isGone reports whether somebody has removed a stream that was not found. A Caddy removes
// that of a destination without deliveries, and one may have made it anew since: it is gone
// if it is not found while the registration stays as it is.
func (s *store) isGone(ctx context.Context, stream string) (bool, error) {
	name, ok := strings.CutPrefix(stream, s.subjects.to("").stream)
	if !ok || !inbox.ValidName(name) {
		return true, nil
	}
	before, seq, err := s.registered(ctx, name)
	if err != nil || before == nil || before.Closing != 0 {
		return false, err
	}
	_, err = s.js.Stream(ctx, stream)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, err
	}
	after, now, err := s.registered(ctx, name)
	return after != nil && now == seq, err
}

// firstFor returns the number of the first event that a destination can have which is
// not registered.
func (s *store) firstFor(ctx context.Context, name string) (uint64, error) {
	if name == inbox.DefaultDestination {
		return 0, nil
	}
	s.mu.Lock()
	known, count := s.known[name], len(s.known)
	s.mu.Unlock()
	if known != nil { // its registration was removed, but events were stored for it since
		return known.from.Load(), nil
	}
	if count > 2*inbox.MaxDestinations {
		return 0, fmt.Errorf("stream %s has %d destinations already, and destination %s would be one too many; replay or purge what is left of those that no config names any more",
			s.subjects.stream, count, name)
	}
	state, err := s.eventState(ctx)
	if err != nil {
		return 0, fmt.Errorf("looking at stream %s: %w", s.subjects.stream, err)
	}
	return state.LastSeq + 1, nil
}

// placeConfig returns the config of a stream for records.
func (s *store) placeConfig(at place) jetstream.StreamConfig {
	config := s.baseConfig()
	config.Name, config.Subjects = at.stream, []string{at.everything()}
	config.Description = "What became of the events of the Fotor webhook gateway with several destinations"
	config.MaxMsgsPerSubject = 1
	return config
}
