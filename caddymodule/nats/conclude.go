package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// The deliveries of an event with several destinations are recorded each in the stream of
// its destination. What that means for the event as a whole is written down by whoever
// ends the last of them, before the message of that delivery is acknowledged: if it dies
// in between, whoever is handed the message next does so. Each looks at the others after
// it has recorded its own end, and asks the leaders of their streams, so at least one
// sees that all have ended.
//
// That record is conditional on the one before. A delivery that has ended becomes pending
// again only after a record of kind open was stored, so that an end which was seen
// before cannot be written down after.

// end is how a delivery stands according to its last record.
type end struct {
	kind    kind
	settled int64
	last    uint64 // sequence of the record, 0 if there is none
	absent  bool   // there is no such delivery
}

func (n end) ended() bool { return n.absent || n.kind.ended() }

// endAt returns how the delivery of an event to a destination stands.
func (d *destination) endAt(ctx context.Context, e *stored) (n end, err error) {
	at := d.place()
	m, err := d.last(ctx, at.stream, at.statesOf(e.ID))
	if err != nil {
		return n, err
	}
	if m != nil {
		var r record
		if err := json.Unmarshal(m.data, &r); err != nil {
			return n, fmt.Errorf("record %d of event %s at destination %s: %w", m.seq, e.ID, d.name, err)
		}
		n.last = m.seq
		if r.Event == e.seq {
			n.kind, n.settled = at.kindIn(m.subject), r.Settled
		}
	}
	n.absent = n.kind.beingRemoved() || n.kind == none && (!e.several || !e.goesTo(d.name) || e.seq < d.from.Load())
	return n, nil
}

// concludeMember writes down what the end of one delivery means for its event.
func (d *destination) concludeMember(ctx context.Context, m *member) error {
	if m.at == d.subjects.home() {
		return nil // it is the event's only delivery
	}
	if !m.stored.several || m.absent || !m.kind.ended() {
		return d.conclude(ctx, m.stored)
	}
	return d.concludeAll(ctx, []*member{m})
}

// concludeLost looks at an event of which a lease does not hold any more: those who ended its
// other deliveries here have left it to that lease to look whether these were the last.
func (q *queue) concludeLost(ctx context.Context, h *heldLease) error {
	h.blind.Store(true)
	if !q.several.Load() {
		return nil
	}
	e, err := q.event(ctx, h.id)
	if errors.Is(err, inbox.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = q.conclude(ctx, e)
	}
	return err
}

// wholeRecord returns a record of an event as a whole.
func wholeRecord(e *stored, names []string) record {
	rec := initial(e)
	rec.Also, rec.Moved = names, !e.several
	return rec
}

// summarize returns the kind of an event with these deliveries, and sets when it ended.
func summarize(ends []end, rec *record) kind {
	var deliveries []inbox.Delivery
	rec.Settled = 0
	for _, n := range ends {
		if n.absent {
			continue
		}
		deliveries = append(deliveries, inbox.Delivery{Progress: inbox.Progress{State: n.kind.public()}})
		rec.Settled = max(rec.Settled, n.settled)
	}
	return kindOf(inbox.Summarize(deliveries).State)
}

// conclude brings the record of an event as a whole up to date with its deliveries. It
// does nothing if the event goes to the default destination alone.
func (s *store) conclude(ctx context.Context, e *stored) error {
	for wait := conflictWait; ; wait = min(2*wait, 50*time.Millisecond) {
		err := s.tryToConclude(ctx, e)
		if !errors.Is(err, errConflict) {
			return err
		}
		if !sleep.For(ctx, wait) {
			return ctx.Err()
		}
	}
}

func (s *store) tryToConclude(ctx context.Context, e *stored) error {
	if spread, err := s.isSpread(ctx, e); err != nil || !spread {
		return err
	}
	sum, err := s.sumOf(ctx, e)
	if err != nil || sum.kind.beingRemoved() {
		return err
	}
	names := namesOf(e, &sum.rec)
	var ends []end
	erased := false
	for _, name := range names {
		d, err := s.destinationNamed(ctx, name)
		if err != nil {
			return err
		}
		if d == nil {
			continue
		}
		n, err := d.endAt(ctx, e)
		if err != nil {
			return err
		}
		if last, redo := sum.rec.Redo[name]; redo && n.last <= last {
			n.kind, n.absent = pending, false
		}
		erased = erased || n.kind == purged
		if !n.absent {
			ends = append(ends, n)
		}
	}
	if len(ends) == 0 && len(names) > 0 {
		if !erased {
			return nil // none of its destinations exists any more
		}
		return s.removeWhole(ctx, e, &sum, names)
	}
	rec := wholeRecord(e, names)
	k := summarize(ends, &rec)
	switch {
	case k == pending && !sum.kind.ended():
		return nil
	case k == pending:
		k, rec.Redo = reopened, sum.rec.Redo
	case k == skipped:
		rec.Settled = s.now()
		if sum.kind == skipped {
			return nil
		}
	case k == sum.kind && rec.Settled == sum.rec.Settled:
		return nil
	}
	return s.writeWhole(ctx, k, e, rec, &sum)
}

// writeWhole replaces the record of an event as a whole.
func (s *store) writeWhole(ctx context.Context, k kind, e *stored, rec record, sum *history) error {
	rec.By = s.instance
	seq, err := s.writeRecord(ctx, s.subjects.all(), k, e.ID, rec, sum.last)
	if err != nil {
		return err
	}
	if k != sum.kind { // else the new one is on the same subject
		s.forgetRecords(ctx, s.subjects.all(), sum.others)
	}
	sum.kind, sum.rec, sum.last, sum.others = k, rec, seq, []uint64{seq}
	return nil
}

// isSpread reports whether an event has its deliveries in the streams of their
// destinations.
func (s *store) isSpread(ctx context.Context, e *stored) (bool, error) {
	if e.several {
		return true, nil
	}
	home := s.subjects.home()
	m, err := s.last(ctx, home.stream, home.statesOf(e.ID))
	if err != nil || m == nil || home.kindIn(m.subject) != moved {
		return false, err
	}
	h, err := historyOf(e, home, []message{*m})
	return h.kind == moved, err
}

// sumOf returns the last record of an event as a whole.
func (s *store) sumOf(ctx context.Context, e *stored) (history, error) {
	all := s.subjects.all()
	m, err := s.last(ctx, all.stream, all.statesOf(e.ID))
	if err != nil {
		return history{}, err
	}
	var messages []message
	if m != nil {
		messages = append(messages, *m)
	}
	return historyOf(e, all, messages)
}

// namesOf returns the names of the destinations at which there may be deliveries of an
// event, in order.
func namesOf(e *stored, sum *record) []string {
	names := append(slices.Clone(e.to), sum.Also...)
	slices.Sort(names)
	return slices.Compact(names)
}
