package nats

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// A pending delivery has a message that a consumer has yet to hand out, or that was handed
// out and not acknowledged. If it has none, because of a fault of a server or of the
// gateway, it would wait for ever: it is forgotten. That shows in the counts, as more
// events are pending than there are such messages and pending records, and in pending
// records whose message was acknowledged.

// forgotten is how far the search for forgotten deliveries is.
type forgotten struct {
	suspected bool   // the counts did not agree in the last round
	searching bool   // they did not agree twice
	from      uint64 // the last event that was looked at
	found     bool   // this search has found one

	took      time.Duration // that this search has taken so far
	notBefore time.Time     // of the next search: the last has found none
}

// A search in vain is followed by a rest of restFactor times as long as it took, but of no
// more than longestRest: in a large inbox that is always busy, the counts often disagree
// though nothing is forgotten.
const (
	restFactor  = 20
	longestRest = time.Hour
)

func restAfter(took, round time.Duration) time.Duration {
	return min(max(restFactor*took, round), longestRest)
}

// served returns the destinations to which there may be deliveries.
func (s *store) served() []*destination {
	if all := s.destinations(); len(all) > 0 {
		return all
	}
	return []*destination{s.home.destination}
}

// remindAll makes deliveries due whose pending records were acknowledged, and removes such
// records that were replaced: they would be counted as pending.
func (s *store) remindAll(ctx context.Context, mine *claim) error {
	for _, d := range s.served() {
		for _, c := range d.consumed()[1:] {
			if err := d.remindRecords(ctx, c, mine); err != nil {
				return err
			}
		}
	}
	return nil
}

// findForgotten makes forgotten deliveries due again that have no record.
func (s *store) findForgotten(ctx context.Context, mine *claim) error {
	all := s.served()
	f := &s.forgotten
	if time.Now().Before(f.notBefore) {
		return nil
	}
	if !f.searching {
		missing, err := s.unaccounted(ctx, all)
		if err != nil {
			return err
		}
		f.searching, f.suspected = f.suspected && missing > 0, missing > 0
		if !f.searching {
			return nil
		}
	}
	if ok, err := s.claim(ctx, mine); err != nil || !ok {
		return err
	}
	return s.search(ctx, all)
}

// remindRecords makes deliveries due whose pending record was acknowledged. The first
// records of that kind are those.
func (d *destination) remindRecords(ctx context.Context, c consumed, mine *claim) error {
	there, err := d.js.Consumer(ctx, c.stream, c.consumer)
	if err != nil {
		return err
	}
	at, floor := d.placeIn(c.stream), there.CachedInfo().AckFloor.Stream
	for range d.options.limits.scan {
		m, err := d.next(ctx, at.stream, at.ofKind(pending), 1)
		if err != nil || m == nil || m.seq > floor {
			return err
		}
		if ok, err := d.claim(ctx, mine); err != nil || !ok {
			return err
		}
		id := idOf(m.subject)
		if len(id) != inbox.IDLength {
			return nil // the gateway did not write it
		}
		found, err := d.find(ctx, id)
		switch {
		case errors.Is(err, inbox.ErrNotFound), err == nil && (found.at != at || found.last != m.seq || found.kind != pending):
			d.forgetRecords(ctx, at, []uint64{m.seq})
			if m, err := d.next(ctx, at.stream, at.ofKind(pending), m.seq); err == nil && m != nil && idOf(m.subject) == id {
				return nil // it cannot be removed now
			}
		case err == nil:
			err = d.writePending(ctx, found, inbox.FromMicros(found.rec.Due))
			if err == nil {
				d.log.Warn("a delivery that waited had been forgotten by NATS, it goes on", zap.String("destination", d.name), zap.String("event", id))
			}
		}
		if err != nil && !errors.Is(err, inbox.ErrNotFound) {
			if errors.Is(err, errConflict) {
				err = nil // it is just being changed
			}
			return err
		}
	}
	return nil
}

// placeIn returns where the records in a stream are.
func (d *destination) placeIn(stream string) place {
	if at := d.place(); stream == at.stream {
		return at
	}
	return d.subjects.home()
}

// unaccounted returns how many more events are pending than there are deliveries that
// go on.
func (s *store) unaccounted(ctx context.Context, all []*destination) (int64, error) {
	before, err := s.tallyEvents(ctx)
	if err != nil {
		return 0, err
	}
	accounted := uint64(0)
	for _, d := range all {
		there, err := s.js.Consumer(ctx, s.subjects.stream, d.consumer())
		if err != nil {
			return 0, err
		}
		info := there.CachedInfo()
		accounted += info.NumPending + uint64(info.NumAckPending) //nolint:gosec // it is not negative
		for _, c := range d.consumed()[1:] {
			at := d.placeIn(c.stream)
			for _, k := range []kind{pending, leased} {
				n, err := s.count(ctx, at.stream, at.ofKind(k))
				if err != nil {
					return 0, err
				}
				accounted += n
			}
		}
	}
	after, err := s.tallyEvents(ctx)
	if err != nil {
		return 0, err
	}
	return min(before.byState()[inbox.Pending], after.byState()[inbox.Pending]) - int64(accounted), nil //nolint:gosec // as many as there can be messages
}

// search goes through the events for a while, and on in the next round.
func (s *store) search(ctx context.Context, all []*destination) error {
	f, began := &s.forgotten, time.Now()
	done, err := s.searchSome(ctx, all)
	f.took += time.Since(began)
	if !done {
		return err
	}
	next := forgotten{}
	if !f.found {
		next.notBefore = time.Now().Add(restAfter(f.took, s.options.limits.maintenance))
	}
	*f = next
	return nil
}

// searchSome reports whether the search has come to its end.
func (s *store) searchSome(ctx context.Context, all []*destination) (done bool, err error) {
	f := &s.forgotten
	floors := make(map[string]uint64, len(all))
	last := uint64(0)
	for _, d := range all {
		there, err := s.js.Consumer(ctx, s.subjects.stream, d.consumer())
		if err != nil {
			return false, err
		}
		floors[d.name] = there.CachedInfo().AckFloor.Stream
		last = max(last, floors[d.name])
	}
	for end := time.Now().Add(s.options.limits.maintenance / 2); time.Now().Before(end); {
		messages, more, err := s.directGet(ctx, s.subjects.stream, query{Seq: f.from + 1, Batch: s.options.limits.window, MaxBytes: maxAnswer})
		if err != nil {
			return false, err
		}
		var events []*stored
		for _, m := range messages {
			if e, err := decodeEvent(m); err == nil {
				events = append(events, e)
			}
			f.from = m.seq
		}
		found, err := s.wholes(ctx, events)
		if err != nil {
			return false, err
		}
		for _, w := range found {
			if err := s.remind(ctx, w, floors); err != nil && !errors.Is(err, errConflict) {
				return false, err
			}
		}
		if more == 0 || len(messages) == 0 || f.from > last {
			return true, nil
		}
	}
	return false, nil
}

// remind makes forgotten deliveries of an event due. Those are the ones without a record
// whose message was acknowledged, which is so up to the floor of their consumer.
func (s *store) remind(ctx context.Context, w *whole, floors map[string]uint64) error {
	if w.removed() || w.newer() {
		return nil
	}
	ended := true
	for _, p := range w.parts {
		floor, known := floors[p.name]
		ended = ended && p.state() != inbox.Pending
		if !known || w.seq > floor || p.kind != none || p.redo {
			continue
		}
		m, err := p.find(ctx, w.ID)
		if err != nil || m.kind != none {
			return err
		}
		if m.origin != nil {
			err = p.recordOrigin(ctx, m)
		} else {
			err = p.writePending(ctx, m, time.Time{})
		}
		if err != nil {
			return err
		}
		s.forgotten.found = true
		s.log.Warn("an event had been forgotten by NATS before it was delivered, it goes on", zap.String("destination", p.name), zap.String("event", w.ID))
	}
	if w.spread && ended && !w.sum.kind.ended() {
		s.forgotten.found = true
		return s.conclude(ctx, w.stored)
	}
	return nil
}
