package nats

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// drainAtOnce is how many events are taken from a consumer at a time that no Caddy reads.
const drainAtOnce = 64

// tendDestinations says that the destinations of this inbox are used, and sees to those
// that no Caddy uses any more: their deliveries get records, so that they are counted and
// can be replayed elsewhere or purged, and without deliveries they are removed.
func (s *store) tendDestinations(ctx context.Context, mine *claim) error {
	there, err := s.registrations(ctx)
	if err != nil {
		return err
	}
	for _, d := range s.destinations() {
		r, q := there[d.name], s.queueNamed(d.name)
		used := q != nil && (q != s.home || s.home.used.Load())
		if r != nil && !r.toTend(used, s.usedUntil()) {
			continue
		}
		r, seq, err := s.registered(ctx, d.name) // it may have changed
		switch {
		case err != nil:
			return err
		case used:
			err = s.keepUsed(ctx, q, r, seq)
		case r != nil && r.Closing == 0 && r.toTend(used, s.usedUntil()):
			err = s.tendUnused(ctx, d, r, seq, mine)
		}
		if err != nil && !errors.Is(err, errConflict) { // else another Caddy does it
			return err
		}
	}
	return s.listenSpread() //nolint:contextcheck // what arrives outlives the call
}

// listenSpread makes the queue of the default destination get what has several, if there
// is that now.
func (s *store) listenSpread() error {
	if !s.several.Load() {
		return nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	return s.home.listenAll()
}

// toTend reports whether there is something to do about a destination. One that is used
// is said to be so until a time, again when half of that has passed.
func (r *registration) toTend(used bool, until int64) bool {
	now := time.Now().UnixMicro()
	if used {
		return r.Idle || r.Used < now+(until-now)/2
	}
	return r.Used < now
}

// keepUsed says that a destination is used.
func (s *store) keepUsed(ctx context.Context, q *queue, r *registration, seq uint64) error {
	switch {
	case r == nil || r.Closing != 0:
		s.log.Warn("a destination was removed though it is in use here, as all gateways were away for long; it is made again", zap.String("destination", q.name))
		s.making.Lock()
		defer s.making.Unlock()
		return s.makeQueue(ctx, q)
	case r.toTend(true, s.usedUntil()):
		return s.register(ctx, q.name, &registration{From: r.From, Used: s.usedUntil()}, seq)
	}
	return nil
}

// tendUnused sees to a destination that no Caddy uses.
func (s *store) tendUnused(ctx context.Context, d *destination, r *registration, seq uint64, mine *claim) error {
	if r.Idle && d.isDefault() {
		return nil
	}
	if ok, err := s.claim(ctx, mine); err != nil || !ok {
		return err
	}
	if !r.Idle {
		left, err := d.drain(ctx)
		if err != nil || left {
			return err
		}
		s.log.Warn("no config names a destination any more; what is left there can be replayed to another one or purged", zap.String("destination", d.name))
		return s.register(ctx, d.name, &registration{From: r.From, Used: r.Used, Idle: true}, seq)
	}
	there, err := s.led(ctx, d.place().stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil || there.CachedInfo().State.Msgs > 0:
		return err
	}
	closing := registration{From: r.From, Idle: true, Closing: time.Now().UnixMicro()}
	if err := s.register(ctx, d.name, &closing, seq); err != nil {
		return err
	}
	_, seq, err = s.registered(ctx, d.name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, closingFor/2)
	defer cancel()
	if err := s.closeDestination(ctx, d.name, seq); err != nil {
		return err
	}
	s.log.Info("destination without deliveries removed", zap.String("destination", d.name))
	return s.learn(ctx)
}

// drain gives the events that wait for their first attempt at the destination records. It
// reports whether there may be more.
func (d *destination) drain(ctx context.Context) (left bool, err error) {
	consumer, err := d.js.Consumer(ctx, d.subjects.stream, d.consumer())
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if err = d.ensureConsumer(ctx, d.consumed()[0]); err == nil {
			consumer, err = d.js.Consumer(ctx, d.subjects.stream, d.consumer())
		}
	}
	if err != nil {
		return false, err
	}
	for end := time.Now().Add(d.options.limits.maintenance); time.Now().Before(end); {
		batch, err := consumer.FetchNoWait(drainAtOnce)
		if err != nil {
			return false, err
		}
		var jobs errgroup.Group
		n := 0
		for m := range batch.Messages() {
			n++
			jobs.Go(func() error { return d.drainOne(ctx, m) })
		}
		if err := errors.Join(jobs.Wait(), batch.Error()); err != nil {
			return false, err
		}
		if n > 0 {
			continue
		}
		info, err := consumer.Info(ctx)
		if err != nil || info.NumPending > 0 || info.NumAckPending > 0 {
			return true, err
		}
		return false, d.endLeases(ctx)
	}
	return true, nil
}

// drainOne gives one event a pending record if it goes to the destination and has none,
// and acknowledges its message.
func (d *destination) drainOne(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	e, err := decodeEvent(message{m.Subject(), meta.Sequence.Stream, m.Headers(), m.Data()})
	if err != nil {
		d.log.Error("a message in the stream is no event, it is left alone", zap.Uint64("message", meta.Sequence.Stream), zap.Error(err))
		return m.Term()
	}
	switch {
	case e.goesTo(d.name):
		if err := d.drainEvent(ctx, e); err != nil {
			return errors.Join(err, m.Nak())
		}
	case len(e.to) == 0 && d.isDefault():
		if err := d.conclude(ctx, e); err != nil {
			return errors.Join(err, m.Nak())
		}
	}
	return m.Ack()
}

func (d *destination) drainEvent(ctx context.Context, e *stored) error {
	at := d.placeOf(e)
	last, err := d.last(ctx, at.stream, at.statesOf(e.ID))
	if err != nil {
		return err
	}
	after := uint64(0)
	if last != nil {
		h, err := historyOf(e, at, []message{*last})
		if err != nil {
			return err
		}
		if h.kind != none {
			return d.endLease(ctx, at, *last)
		}
		after = last.seq
	}
	if origin := e.originAt(d.name); origin != nil {
		return d.recordOrigin(ctx, &member{stored: e, origin: origin, history: history{at: at, last: after}})
	}
	rec := initial(e)
	rec.By = d.instance
	_, err = d.writeRecord(ctx, at, pending, e.ID, rec, after)
	return err
}

// endLeases makes what Caddys had leased that use the destination no more pending.
func (d *destination) endLeases(ctx context.Context) error {
	for _, c := range d.consumed()[1:] {
		at := d.placeIn(c.stream)
		records, err := d.all(ctx, at.stream, at.ofKind(leased))
		if err != nil {
			return err
		}
		for _, m := range records {
			if err := d.endLease(ctx, at, m); err != nil && !errors.Is(err, errConflict) && !errors.Is(err, inbox.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// endLease makes a delivery pending if its last record is that of a lease. If the lease was
// given back meanwhile, and has left no record, it returns errConflict.
func (d *destination) endLease(ctx context.Context, at place, last message) error {
	if at.kindIn(last.subject) != leased {
		return nil
	}
	m, err := d.find(ctx, idOf(last.subject))
	switch {
	case err != nil:
		return err
	case m.kind == none:
		return errConflict
	case m.kind != leased:
		return nil
	}
	return d.writePending(ctx, m, time.Time{})
}
