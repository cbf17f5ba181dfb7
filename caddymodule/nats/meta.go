package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// What all Caddys share besides events, by the last token of its subject.
const (
	metaHold        = "hold"
	metaTrouble     = "trouble"
	metaMaintenance = "chores" // as the first release called it
	metaOpened      = "opened"
	metaLedger      = "ledger"
	metaErased      = "erased"
)

// holdRecord is a stored hold. Times are in µs since 1970.
type holdRecord struct {
	By     string `json:"by"` // the inbox that stored it
	Since  int64  `json:"since,omitempty"`
	Until  int64  `json:"until,omitempty"`
	Ended  int64  `json:"ended,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (r *holdRecord) public() inbox.Hold {
	return inbox.Hold{Since: inbox.FromMicros(r.Since), Until: inbox.FromMicros(r.Until), Ended: inbox.FromMicros(r.Ended), Reason: r.Reason}
}

// troubleRecord is the state of the destination.
type troubleRecord struct {
	By     string `json:"by"`
	Until  int64  `json:"until,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// setMeta stores a value that all Caddys share under a name.
func (s *store) setMeta(ctx context.Context, name string, value any) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if _, err := s.js.Publish(bounded, s.subjects.meta(name), data); err != nil {
		return s.failed(ctx, publishError(err))
	}
	return nil
}

// SetHold stores a hold.
func (s *store) SetHold(ctx context.Context, h inbox.Hold) error {
	return s.setMeta(ctx, metaHold, holdRecord{s.instance, inbox.Micros(h.Since), inbox.Micros(h.Until), inbox.Micros(h.Ended), cutReason(h.Reason)})
}

// Hold returns the hold that any Caddy stored last.
func (s *store) Hold(ctx context.Context) (inbox.Hold, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return inbox.Hold{}, err
	}
	defer cancel()
	m, err := s.last(bounded, s.subjects.states(), s.subjects.meta(metaHold))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.health.inspectSoon()
		return inbox.Hold{}, errGone(s.subjects.states())
	}
	if err != nil || m == nil {
		return inbox.Hold{}, s.failed(ctx, err)
	}
	var r holdRecord
	if err := json.Unmarshal(m.data, &r); err != nil {
		return inbox.Hold{}, fmt.Errorf("the hold by hand: %w", err)
	}
	return r.public(), nil
}

// TellTrouble reports the state of the destination to the other Caddys.
func (s *store) TellTrouble(ctx context.Context, t inbox.Trouble) error {
	return s.setMeta(ctx, metaTrouble, troubleRecord{s.instance, inbox.Micros(t.Until), cutReason(t.Reason)})
}

// watchPause is how long Watch waits before it watches again.
const watchPause = 250 * time.Millisecond

// Watch reports the changes made by other Caddys.
func (s *store) Watch(ctx context.Context, hold func(inbox.Hold), trouble func(inbox.Trouble)) error {
	if err := s.awaitReady(ctx); err != nil && !errors.Is(err, *s.setUpErr.Load()) {
		return err
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)() //nolint:contextcheck // it ends with the inbox too
	tell := func(m jetstream.Msg) { s.deliverMeta(m, hold, trouble) }
	for {
		if err := s.watch(life, tell); err != nil && life.Err() == nil {
			s.log.Debug("what other gateways say cannot be heard, it is tried again")
		}
		select {
		case <-life.Done():
			if s.closed() {
				return errClosed()
			}
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}

// watch reports what is stored and what comes, until it fails.
func (s *store) watch(ctx context.Context, tell func(jetstream.Msg)) error {
	select {
	case <-s.ready:
	default:
		return errNotReady
	}
	consumer, err := s.js.OrderedConsumer(ctx, s.subjects.states(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{s.subjects.meta(metaHold), s.subjects.meta(metaTrouble)},
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		tell(m)
	}
}

// deliverMeta passes a message to the function for it, unless this inbox sent
// it.
func (s *store) deliverMeta(m jetstream.Msg, hold func(inbox.Hold), trouble func(inbox.Trouble)) {
	switch m.Subject() {
	case s.subjects.meta(metaHold):
		var r holdRecord
		if json.Unmarshal(m.Data(), &r) == nil && r.By != s.instance {
			hold(r.public())
		}
	case s.subjects.meta(metaTrouble):
		var r troubleRecord
		if json.Unmarshal(m.Data(), &r) == nil && r.By != s.instance {
			trouble(inbox.Trouble{Until: inbox.FromMicros(r.Until), Reason: r.Reason})
		}
	}
}
