package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Replay makes an ended delivery pending, and a pending one due. The new record is
// handed out.
func (s *store) Replay(ctx context.Context, id, destination string) error {
	return s.withWhole(ctx, id, func(ctx context.Context, w *whole) error {
		if destination == "" && len(w.parts) == 0 {
			return fmt.Errorf("event %s goes to no destination: %w", id, inbox.ErrState)
		}
		chosen, err := w.toReplay(destination)
		if err != nil {
			return err
		}
		if !w.spread {
			return s.replayHome(ctx, w.parts[0].member)
		}
		return s.replayParts(ctx, w, chosen)
	})
}

// toReplay returns the deliveries that a replay is about.
func (w *whole) toReplay(destination string) (chosen []*part, err error) {
	if destination != "" {
		p := w.part(destination)
		if p == nil {
			return nil, notThere(w.ID, destination)
		}
		return []*part{p}, nil
	}
	var all []*part
	for i := range w.parts {
		p := &w.parts[i]
		all = append(all, p)
		if state := p.state(); state == inbox.Pending || state == inbox.Dead {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return all, nil
	}
	return chosen, nil
}

func notThere(id, destination string) error {
	return fmt.Errorf("event %s does not go to destination %.80q: %w", id, destination, inbox.ErrNotFound)
}

// replayHome replays the only delivery of an event to the default destination.
func (s *store) replayHome(ctx context.Context, m *member) error {
	if m.kind == none && m.origin != nil {
		if err := s.home.recordOrigin(ctx, m); err != nil {
			return err
		}
		var err error
		if m, err = s.home.find(ctx, m.ID); err != nil {
			return err
		}
	}
	if !m.kind.ended() {
		return s.home.makeDue(ctx, m)
	}
	return s.home.restart(ctx, m)
}

// restart makes an ended delivery, or one that there was not, pending.
func (d *destination) restart(ctx context.Context, m *member) error {
	return d.restartAs(ctx, m, m.prior().again(d.now(), ""))
}

// prior returns the record of a delivery as it stands, the initial one if there is none.
func (m *member) prior() record {
	rec := initial(m.stored)
	switch {
	case m.absent, m.kind.beingRemoved():
		return rec
	case m.kind == none && m.origin != nil:
		rec.Attempts, rec.Log, rec.Replays = m.origin.Record.Attempts, m.origin.Record.Log, m.origin.Record.Replays
	default:
		rec.Attempts, rec.Log, rec.Replays = m.rec.Attempts, m.rec.Log, m.rec.Replays
	}
	return rec
}

// restartAs makes a delivery pending with this record. An in-progress event whose task's
// final one goes there, too, is superseded.
func (d *destination) restartAs(ctx context.Context, m *member, rec record) error {
	m.rec = rec
	if !m.Status.Final() {
		final, err := d.finalExists(ctx, m.ID)
		if err != nil {
			return err
		}
		if final {
			// If it is superseded already, the new record replaces the one
			// on the same subject.
			return d.supersede(ctx, m)
		}
	}
	m.rec.By = d.instance
	if _, err := d.writeRecord(ctx, m.at, pending, m.ID, m.rec, m.last); err != nil {
		return err
	}
	d.forgetRecords(ctx, m.at, m.others)
	d.wake()
	return nil
}

// replayParts replays deliveries of an event with several.
func (s *store) replayParts(ctx context.Context, w *whole, chosen []*part) error {
	redo := map[string]uint64{}
	for _, p := range chosen {
		if p.redo || p.state() != inbox.Pending {
			redo[p.name] = p.member.last
		}
	}
	if len(redo) > 0 {
		if err := s.reopen(ctx, w, nil, redo); err != nil {
			return err
		}
	}
	var errs []error
	for _, p := range chosen {
		if _, again := redo[p.name]; again {
			errs = append(errs, p.restart(ctx, p.member))
		} else {
			errs = append(errs, p.makeDue(ctx, p.member))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, s.conclude(ctx, w.stored))
	}
	return nil
}

// reopen writes down that an event as a whole is pending again, because the deliveries in
// redo are about to be. names are destinations that are added.
func (s *store) reopen(ctx context.Context, w *whole, names []string, redo map[string]uint64) error {
	rec := wholeRecord(w.stored, namesOf(w.stored, &record{Also: append(slices.Clone(w.sum.rec.Also), names...)}))
	rec.Redo = maps.Clone(redo)
	for name, last := range w.sum.rec.Redo {
		if p := w.part(name); p != nil && p.redo && rec.Redo[name] == 0 {
			rec.Redo[name] = last
		}
	}
	return s.writeWhole(ctx, reopened, w.stored, rec, &w.sum)
}

// Move gives an event a pending delivery to a destination, and removes that to another
// one unless that has taken it. A crash in between leaves both.
func (s *store) Move(ctx context.Context, id, from, to string) error {
	return s.withWhole(ctx, id, func(ctx context.Context, w *whole) error {
		target, err := s.destinationNamed(ctx, to)
		if err != nil {
			return err
		}
		if to == inbox.DefaultDestination {
			target = s.home.destination
		}
		source := w.part(from)
		switch {
		case target == nil:
			return fmt.Errorf("destination %.80q does not exist: %w", to, inbox.ErrNotFound)
		case from != "" && source == nil:
			return notThere(id, from)
		case source != nil && source.leasedNow():
			return wrongState(id)
		case !w.spread && to == inbox.DefaultDestination:
			return s.replayHome(ctx, w.parts[0].member)
		}
		leaves := source != nil && from != to && (source.state() == inbox.Pending || source.state() == inbox.Dead)
		if !w.spread {
			return s.spread(ctx, w, target, leaves)
		}
		if !leaves {
			source = nil
		}
		if err := s.add(ctx, w, target, source); err != nil {
			return err
		}
		if leaves {
			err = source.drop(ctx, source.member)
		}
		return errors.Join(err, s.conclude(ctx, w.stored))
	})
}

// add gives an event with several destinations a pending delivery to one. A new delivery
// takes over the attempts of another one unless that is nil.
func (s *store) add(ctx context.Context, w *whole, to *destination, leaves *part) error {
	p := w.part(to.name)
	if p != nil && !p.redo && p.state() == inbox.Pending {
		return to.makeDue(ctx, p.member)
	}
	var m *member
	if p != nil {
		m = p.member
	} else {
		members, err := to.membersOf(ctx, []*stored{w.stored})
		if err != nil {
			return err
		}
		m = members[0]
	}
	if err := s.reopen(ctx, w, []string{to.name}, map[string]uint64{to.name: m.last}); err != nil {
		return err
	}
	if p == nil && leaves != nil {
		return to.restartAs(ctx, m, leaves.prior().again(s.now(), leaves.name))
	}
	return to.restart(ctx, m)
}

// drop removes a delivery, of which a record remains so that it does not come back.
func (d *destination) drop(ctx context.Context, m *member) error {
	if m.kind == none {
		if err := d.lookUpTo(ctx, m.seq); err != nil {
			return err
		}
	}
	rec := initial(m.stored)
	rec.By, rec.Settled = d.instance, d.now()
	if _, err := d.writeRecord(ctx, m.at, purged, m.ID, rec, m.last); err != nil {
		return err
	}
	d.forgetRecords(ctx, m.at, m.others)
	if q := d.queueNamed(d.name); q != nil {
		q.leaser.drop(m.ID)
	}
	d.wakeTask(m.ID)
	return nil
}

// spread turns an event that goes to the default destination alone into one with several
// destinations, and adds one. Nobody heeds the new records before the last one is
// stored, which replaces that of the delivery.
func (s *store) spread(ctx context.Context, w *whole, to *destination, leaves bool) error {
	m := w.parts[0].member
	if w.parts[0].leasedNow() {
		return wrongState(w.ID)
	}
	if m.kind == none {
		if err := s.home.lookUpTo(ctx, m.seq); err != nil {
			return err
		}
	}
	names := []string{to.name}
	if !leaves {
		names = append(names, inbox.DefaultDestination)
		if err := s.copyHome(ctx, m); err != nil {
			return err
		}
	}
	var err error
	if w.sum, err = s.sumOf(ctx, w.stored); err != nil {
		return err
	}
	added, err := to.endAt(ctx, w.stored)
	if err != nil {
		return err
	}
	if err := s.reopen(ctx, w, names, map[string]uint64{to.name: added.last}); err != nil {
		return err
	}
	rec := initial(w.stored)
	rec.By = s.instance
	if _, err := s.writeRecord(ctx, m.at, moved, w.ID, rec, m.last); err != nil {
		if errors.Is(err, errConflict) {
			s.forgetRecords(ctx, s.subjects.all(), []uint64{w.sum.last})
		}
		return err
	}
	s.forgetRecords(ctx, m.at, m.others)
	s.home.leaser.drop(w.ID)
	s.home.wakeTask(w.ID)
	next := &member{stored: w.stored, history: history{at: to.place(), last: added.last}}
	rec = next.prior().again(s.now(), "")
	if leaves {
		rec = m.prior().again(s.now(), inbox.DefaultDestination)
	}
	if err := to.restartAs(ctx, next, rec); err != nil {
		return errors.Join(err, s.conclude(ctx, w.stored))
	}
	return nil
}

// copyHome copies the record of a delivery to the default destination to where it is if
// the event has others.
func (s *store) copyHome(ctx context.Context, m *member) error {
	rec, k := m.rec, m.kind
	if k == none && m.origin != nil {
		rec, k = m.origin.Record, m.origin.Kind
	}
	if k == none {
		k = pending
	}
	rec.Event, rec.Received, rec.By, rec.Base = m.seq, inbox.Micros(m.ReceivedAt), s.instance, 0
	had, err := s.home.endAt(ctx, m.stored)
	if err != nil {
		return err
	}
	_, err = s.writeRecord(ctx, s.home.place(), k, m.ID, rec, had.last)
	if err == nil && had.last != 0 && had.kind != k {
		s.forgetRecords(ctx, s.home.place(), []uint64{had.last})
	}
	return err
}
