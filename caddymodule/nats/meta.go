package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// What all Caddys share besides events, by the last token of its subject.
const (
	metaHold        = "hold"
	metaTrouble     = "trouble"
	metaMaintenance = "chores" // as the first release called it
	metaOpened      = "opened"
	metaLedger      = "ledger"
	metaErased      = "erased"
	metaNewest      = "newest"
	metaDestination = "destination"
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

// setMeta stores a value that all Caddys share.
func (s *store) setMeta(ctx context.Context, subject string, value any) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if _, err := s.js.Publish(bounded, subject, data); err != nil {
		return s.failed(ctx, publishError(err))
	}
	return nil
}

// SetHold stores a hold.
func (q *queue) SetHold(ctx context.Context, h inbox.Hold) error {
	return q.setMeta(ctx, q.subjects.metaOf(metaHold, q.name), holdRecord{q.instance, inbox.Micros(h.Since), inbox.Micros(h.Until), inbox.Micros(h.Ended), clip.Text(h.Reason, inbox.MaxReason)})
}

// Hold returns the hold that any Caddy stored last.
func (q *queue) Hold(ctx context.Context) (inbox.Hold, error) {
	bounded, cancel, err := q.call(ctx)
	if err != nil {
		return inbox.Hold{}, err
	}
	defer cancel()
	m, err := q.last(bounded, q.subjects.states(), q.subjects.metaOf(metaHold, q.name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		q.health.inspectSoon()
		return inbox.Hold{}, errGone(q.subjects.states())
	}
	if err != nil || m == nil {
		return inbox.Hold{}, q.failed(ctx, err)
	}
	var r holdRecord
	if err := json.Unmarshal(m.data, &r); err != nil {
		return inbox.Hold{}, fmt.Errorf("the hold by hand: %w", err)
	}
	return r.public(), nil
}

// TellTrouble reports the state of the destination to the other Caddys.
func (q *queue) TellTrouble(ctx context.Context, t inbox.Trouble) error {
	return q.setMeta(ctx, q.subjects.metaOf(metaTrouble, q.name), troubleRecord{q.instance, inbox.Micros(t.Until), clip.Text(t.Reason, inbox.MaxReason)})
}

// watchPause is how long Watch waits before it watches again.
const watchPause = 250 * time.Millisecond

// Watch reports the changes made by other Caddys.
func (q *queue) Watch(ctx context.Context, hold func(inbox.Hold), trouble func(inbox.Trouble)) error {
	if err := q.awaitReady(ctx); err != nil && (q.closed() || ctx.Err() != nil) {
		return err
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.life, cancel)() //nolint:contextcheck // it ends with the inbox too
	tell := func(m jetstream.Msg) { q.deliverMeta(m, hold, trouble) }
	for {
		if err := q.watch(life, tell); err != nil && life.Err() == nil {
			q.log.Debug("what other gateways say cannot be heard, it is tried again")
		}
		select {
		case <-life.Done():
			if q.closed() {
				return errClosed()
			}
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}

// watch reports what is stored and what comes, until it fails.
func (q *queue) watch(ctx context.Context, tell func(jetstream.Msg)) error {
	select {
	case <-q.ready:
	default:
		return errNotReady
	}
	consumer, err := q.js.OrderedConsumer(ctx, q.subjects.states(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{q.subjects.metaOf(metaHold, q.name), q.subjects.metaOf(metaTrouble, q.name)},
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
func (q *queue) deliverMeta(m jetstream.Msg, hold func(inbox.Hold), trouble func(inbox.Trouble)) {
	switch m.Subject() {
	case q.subjects.metaOf(metaHold, q.name):
		var r holdRecord
		if json.Unmarshal(m.Data(), &r) == nil && r.By != q.instance {
			hold(r.public())
		}
	case q.subjects.metaOf(metaTrouble, q.name):
		var r troubleRecord
		if json.Unmarshal(m.Data(), &r) == nil && r.By != q.instance {
			trouble(inbox.Trouble{Until: inbox.FromMicros(r.Until), Reason: r.Reason})
		}
	}
}
