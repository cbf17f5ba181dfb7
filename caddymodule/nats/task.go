package nats

import (
	"context"
	"slices"
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// member is one event of a task with the history of its delivery to a destination.
type member struct {
	*stored
	history
	origin *imported // of the delivery; nil unless it was imported
	absent bool      // there is no such delivery
}

// pendingState reports whether the delivery has not ended.
func (m *member) pendingState() bool {
	return !m.absent && !m.kind.ended() && (m.kind != none || m.origin == nil || !m.origin.Kind.ended())
}

// task returns the events of the task to which the id belongs, in order, also those
// that do not go to the destination.
func (d *destination) task(ctx context.Context, id string) ([]*member, error) {
	events, err := d.events(ctx, id)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	members, err := d.members(ctx, events, func(at place) []string { return []string{at.taskStates(id)} })
	if err == nil && slices.ContainsFunc(members, func(m *member) bool { return m.newer }) {
		err = errConflict
	}
	return members, err
}

// present returns the members that go to the destination.
func present(task []*member) []*member {
	there := make([]*member, 0, len(task))
	for _, m := range task {
		if !m.absent {
			there = append(there, m)
		}
	}
	return there
}

// membersOf returns events with their deliveries to the destination.
func (d *destination) membersOf(ctx context.Context, events []*stored) ([]*member, error) {
	return d.members(ctx, events, func(at place) []string { return statesOfAll(at, events) })
}

func statesOfAll(at place, events []*stored) []string {
	subjects := make([]string, len(events))
	for i, e := range events {
		subjects[i] = at.statesOf(e.ID)
	}
	return subjects
}

// members is membersOf with the subjects that match the events' records.
func (d *destination) members(ctx context.Context, events []*stored, subjects func(place) []string) ([]*member, error) {
	members := make([]*member, len(events))
	for i, e := range events {
		members[i] = &member{stored: e, origin: e.originAt(d.name)}
	}
	rest := members
	if d.isDefault() {
		var err error
		if rest, err = d.membersAtHome(ctx, members, subjects); err != nil {
			return nil, err
		}
	}
	if len(rest) == 0 || !d.several.Load() {
		return members, nil
	}
	at := d.place()
	records, err := d.recordsByID(ctx, at, subjects(at))
	if err != nil {
		return nil, err
	}
	for _, m := range rest {
		if m.history, err = historyOf(m.stored, at, records[m.ID]); err != nil {
			return nil, err
		}
		m.absent = m.kind.beingRemoved() || m.kind == none && (!m.stored.several || !m.goesTo(d.name) || m.seq < d.from.Load())
	}
	return members, nil
}

// membersAtHome completes the members that go to the default destination alone, and
// returns the others.
func (d *destination) membersAtHome(ctx context.Context, members []*member, subjects func(place) []string) (rest []*member, err error) {
	at := d.subjects.home()
	if !slices.ContainsFunc(members, func(m *member) bool { return !m.stored.several }) {
		return members, nil
	}
	records, err := d.recordsByID(ctx, at, subjects(at))
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.stored.several {
			rest = append(rest, m)
			continue
		}
		if m.history, err = historyOf(m.stored, at, records[m.ID]); err != nil {
			return nil, err
		}
		if m.kind == moved {
			rest = append(rest, m)
		}
	}
	return rest, nil
}

// recordsByID returns the last records on the subjects by the id of their event.
func (s *store) recordsByID(ctx context.Context, at place, subjects []string) (map[string][]message, error) {
	records, err := s.latest(ctx, at.stream, subjects...)
	if err != nil {
		return nil, err
	}
	byID := make(map[string][]message, len(records))
	for _, m := range records {
		id := idOf(m.subject)
		byID[id] = append(byID[id], m)
	}
	return byID, nil
}

// events returns the events of the task to which the id belongs, in order,
// without their records.
func (s *store) events(ctx context.Context, id string) ([]*stored, error) {
	messages, err := s.latest(ctx, s.subjects.stream, s.subjects.task(id))
	if err != nil {
		return nil, err
	}
	events := make([]*stored, len(messages))
	for i, m := range messages {
		if events[i], err = decodeEvent(m); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// event returns the event with the id. If the replica does not have it, the leader is
// asked.
func (s *store) event(ctx context.Context, id string) (*stored, error) {
	messages, err := s.latest(ctx, s.subjects.stream, s.subjects.event(id))
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		m, err := s.last(ctx, s.subjects.stream, s.subjects.event(id))
		if err != nil {
			return nil, err
		}
		if m == nil {
			return nil, notFound(id)
		}
		messages = []message{*m}
	}
	return decodeEvent(messages[0])
}

// find returns the event with the id and its delivery to the destination.
func (d *destination) find(ctx context.Context, id string) (*member, error) {
	e, err := d.event(ctx, id)
	if err != nil {
		return nil, err
	}
	members, err := d.membersOf(ctx, []*stored{e})
	switch {
	case err != nil:
		return nil, err
	case members[0].newer:
		return nil, errConflict
	case members[0].absent, members[0].kind.beingRemoved():
		return nil, notFound(id)
	}
	return members[0], nil
}

// arrange applies the order of a task to one of its events. outdated are the
// other waiting in-progress events that a final one supersedes; gone says that
// the event itself is superseded, waits that it waits for another one.
func arrange(task []*member, id string) (outdated []*member, gone, waits bool) {
	final := slices.ContainsFunc(task, func(m *member) bool { return m.Status.Final() })
	before := true
	for _, m := range task {
		switch {
		case m.ID == id:
			gone, before = final && !m.Status.Final(), false
		case m.kind.ended(), m.kind == none && m.origin != nil && m.origin.Kind.ended():
		case final && !m.Status.Final() && m.kind != leased:
			outdated = append(outdated, m)
		case before || m.kind == leased:
			waits = true
		}
	}
	return outdated, gone, waits
}

// supersede ends an in-progress event as superseded. It returns errConflict if
// the event was changed concurrently. The records that it replaces go last: if it fails
// before, the event is handed out again, and who gets it completes this.
func (d *destination) supersede(ctx context.Context, m *member) error {
	rec := m.rec
	rec.Event, rec.Received = m.seq, inbox.Micros(m.ReceivedAt)
	rec.By, rec.Base, rec.Due, rec.Settled = d.instance, 0, 0, d.now()
	if _, err := d.writeRecord(ctx, m.at, superseded, m.ID, rec, m.last); err != nil {
		return err
	}
	if err := d.concludeMember(ctx, m); err != nil {
		return err
	}
	d.forgetRecords(ctx, m.at, m.others)
	return nil
}

// forgetRecords removes records that were replaced by newer ones. If it fails,
// they are removed together with the event.
func (s *store) forgetRecords(ctx context.Context, at place, seqs []uint64) {
	ctx, cancel := context.WithTimeout(ctx, sideWorkTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, seq := range seqs {
		wg.Go(func() {
			_ = s.api(ctx, "STREAM.MSG.DELETE."+at.stream, map[string]any{"seq": seq, "no_erase": true})
		})
	}
	wg.Wait()
}

// finalExists reports whether a final event of the task goes to the destination.
func (d *destination) finalExists(ctx context.Context, id string) (bool, error) {
	events, err := d.events(ctx, id)
	if err != nil || !slices.ContainsFunc(events, func(e *stored) bool { return e.Status.Final() }) {
		return false, err
	}
	if d.isDefault() && !d.several.Load() {
		return true, nil
	}
	task, err := d.task(ctx, id)
	return slices.ContainsFunc(task, func(m *member) bool { return !m.absent && m.Status.Final() }), err
}

// initial returns the record of an event without attempts.
func initial(e *stored) record {
	return record{Event: e.seq, Received: inbox.Micros(e.ReceivedAt)}
}
