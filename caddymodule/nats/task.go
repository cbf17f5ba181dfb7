package nats

import (
	"context"
	"slices"
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// member is one event of a task with its history.
type member struct {
	*stored
	history
}

// task returns the events of the task to which the id belongs, in order.
func (s *store) task(ctx context.Context, id string) ([]*member, error) {
	events, err := s.events(ctx, id)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	records, err := s.latest(ctx, s.subjects.states(), s.subjects.taskStates(id))
	if err != nil {
		return nil, err
	}
	members, err := s.members(events, records)
	if err == nil && slices.ContainsFunc(members, func(m *member) bool { return m.newer }) {
		err = errConflict
	}
	return members, err
}

// members combines events and their records.
func (s *store) members(events []*stored, records []message) ([]*member, error) {
	byID := make(map[string][]message, len(events))
	for _, m := range records {
		id := idOf(m.subject)
		byID[id] = append(byID[id], m)
	}
	members := make([]*member, len(events))
	for i, e := range events {
		h, err := s.historyOf(e, byID[e.ID])
		if err != nil {
			return nil, err
		}
		members[i] = &member{e, h}
	}
	return members, nil
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

// find returns the event with the id and its history. If the replica does not
// have it, the leader is asked.
func (s *store) find(ctx context.Context, id string) (*member, error) {
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
	e, err := decodeEvent(messages[0])
	if err != nil {
		return nil, err
	}
	records, err := s.latest(ctx, s.subjects.states(), s.subjects.statesOf(id))
	if err != nil {
		return nil, err
	}
	members, err := s.members([]*stored{e}, records)
	switch {
	case err != nil:
		return nil, err
	case members[0].newer:
		return nil, errConflict
	case members[0].kind.beingRemoved():
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
// the event was changed concurrently.
func (s *store) supersede(ctx context.Context, m *member) error {
	rec := m.rec
	rec.Event, rec.Received = m.seq, inbox.Micros(m.ReceivedAt)
	rec.By, rec.Base, rec.Due, rec.Settled = s.instance, 0, 0, s.now()
	if _, err := s.writeRecord(ctx, superseded, m.ID, rec, m.last); err != nil {
		return err
	}
	s.forgetRecords(ctx, m.others)
	return nil
}

// forgetRecords removes records that were replaced by newer ones. If it fails,
// they are removed together with the event.
func (s *store) forgetRecords(ctx context.Context, seqs []uint64) {
	ctx, cancel := context.WithTimeout(ctx, sideWorkTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, seq := range seqs {
		wg.Go(func() {
			_ = s.api(ctx, "STREAM.MSG.DELETE."+s.subjects.states(), map[string]any{"seq": seq, "no_erase": true})
		})
	}
	wg.Wait()
}

// isFinal reports whether one of the events is final.
func isFinal(events []*stored) bool {
	return slices.ContainsFunc(events, func(e *stored) bool { return e.Status.Final() })
}

// initial returns the record of an event without attempts.
func initial(e *stored) record {
	return record{Event: e.seq, Received: inbox.Micros(e.ReceivedAt)}
}
