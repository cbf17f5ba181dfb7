package nats

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// findWindow is how many of the newest events are searched at first, as a multiple of
	// limits.scan. The steps after it are each findWider times as long.
	findWindow = 20
	findWider  = 2

	// findBatch is how many messages are requested at a time.
	findBatch = 1000

	// findLeft is how long the consumer of a search stays after a Caddy has died.
	findLeft = 10 * time.Second
)

// Find returns the events with the prefix. The key of a task is a part of the subjects
// of its events. For less than the key, which servers cannot look up, the stream is
// searched: first the records of dead events, which are few, and then the newest events
// for a limited time.
func (s *store) Find(ctx context.Context, p inbox.Prefix, limit int) (inbox.Found, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return inbox.Found{}, err
	}
	defer cancel()
	x := &search{store: s, prefix: p, keys: map[string]uint64{}}
	if first, last := p.TaskKeys(); first == last {
		x.keys[p.String()[:keyLength]] = 0
	} else if err := x.run(bounded, limit); err != nil {
		return inbox.Found{}, s.failed(ctx, err)
	}
	f, err := x.found(bounded, limit)
	return f, s.failed(ctx, err)
}

// search looks for events by the beginning of their ids.
type search struct {
	*store
	prefix inbox.Prefix
	keys   map[string]uint64 // keys of their tasks, with the sequence of an event; 0 if unknown
	since  time.Time         // as inbox.Found.Since
}

// take adds the event of a subject if it has the prefix.
func (x *search) take(subject string, seq uint64) {
	if id := idOf(subject); x.prefix.Matches(id) {
		x.keys[id[:keyLength]] = max(x.keys[id[:keyLength]], seq)
	}
}

// certain reports whether the only task was found that can have such events.
func (x *search) certain() bool { return x.prefix.Long() && len(x.keys) > 0 }

func (x *search) run(ctx context.Context, limit int) error {
	select { // it is one at a time, so that many do not keep the servers busy
	case x.searching <- struct{}{}:
		defer func() { <-x.searching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := x.dead(ctx); err != nil || x.certain() {
		return err
	}
	first, last, err := x.bounds(ctx, x.store.subjects.stream)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, min(x.options.limits.find, x.publishTimeout()/2))
	defer cancel()
	x.since = time.Now()
	width := findWindow * uint64(x.options.limits.scan)
	for past := last + 1; past > first; width *= findWider {
		low := max(first, past-min(past, width))
		received, err := x.window(timed, low, past)
		if err != nil && ctx.Err() == nil && timed.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !received.IsZero() {
			x.since = received
		}
		if past = low; x.certain() || past > first && len(x.keys) > limit {
			return nil
		}
	}
	x.since = time.Time{}
	return nil
}

// window searches the events with sequences from low to past, excluding past, and returns
// when the first of them arrived; zero if there are none. It reads no bodies.
func (x *search) window(ctx context.Context, low, past uint64) (received time.Time, err error) {
	stream := x.store.subjects.stream
	consumer, err := x.js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: low, FilterSubject: x.store.subjects.allEvents(),
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, Replicas: 1, MemoryStorage: true, InactiveThreshold: findLeft,
	})
	if err != nil {
		return received, err
	}
	info := consumer.CachedInfo()
	defer x.forgetConsumer(ctx, stream, info.Name)
	if info.NumPending == 0 {
		return received, nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(findBatch))
	if err != nil {
		return received, err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return received, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return received, err
		}
		if meta.Sequence.Stream < past {
			x.take(m.Subject(), meta.Sequence.Stream)
			if received.IsZero() {
				// a message that is not of the gateway has none, which others report
				received, _ = time.Parse(receivedFormat, m.Headers().Get(headerReceived))
			}
		}
		if meta.Sequence.Stream+1 >= past || meta.NumPending == 0 || x.certain() {
			return received, nil
		}
	}
}

// forgetConsumer removes a consumer that would go by itself after a while.
func (s *store) forgetConsumer(ctx context.Context, stream, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sideWorkTimeout)
	defer cancel()
	_ = s.js.DeleteConsumer(ctx, stream, name)
}

// dead finds the events that are dead somewhere: by the subjects of their records, so
// that none is read.
func (x *search) dead(ctx context.Context) error {
	destinations := x.destinations()
	places := make([]place, 0, 1+len(destinations))
	places = append(places, x.store.subjects.home())
	for _, d := range destinations {
		places = append(places, d.place())
	}
	for _, at := range places {
		var answer struct {
			apiAnswer
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
		}
		err := x.apiRequest(ctx, "STREAM.INFO."+at.stream, map[string]any{"subjects_filter": at.ofKind(dead)}, &answer)
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) { // it goes with the last delivery there
			return err
		}
		for subject := range answer.State.Subjects {
			x.take(subject, 0)
		}
	}
	return nil
}

// found returns the events of the tasks that were found.
func (x *search) found(ctx context.Context, limit int) (f inbox.Found, err error) {
	keys := slices.SortedFunc(maps.Keys(x.keys), func(a, b string) int { return cmp.Compare(x.keys[b], x.keys[a]) })
	subjects := make([]string, 0, limit+1)
	for _, key := range keys[:min(len(keys), limit+1)] {
		subjects = append(subjects, x.store.subjects.task(key))
	}
	if len(subjects) == 0 {
		return inbox.Found{Since: x.since}, nil
	}
	messages, err := x.latest(ctx, x.store.subjects.stream, subjects...)
	if err != nil {
		return f, err
	}
	messages = slices.DeleteFunc(messages, func(m message) bool { return !x.prefix.Matches(idOf(m.subject)) })
	slices.Reverse(messages)
	// A pager leaves out events that are being removed.
	p := &pager{store: x.store, limit: limit + 1, now: time.Now()}
	for len(messages) > 0 && !p.full {
		n := min(len(messages), x.options.limits.window)
		if err := p.add(ctx, messages[:n]); err != nil {
			return f, err
		}
		messages = messages[n:]
	}
	f.More = len(p.records) > limit || p.full && len(messages) > 0
	f.Records = p.records[:min(len(p.records), limit)]
	if len(f.Records) == 0 || !x.prefix.Long() {
		f.Since = x.since
	}
	return f, nil
}
