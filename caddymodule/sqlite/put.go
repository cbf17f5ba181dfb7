package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// eventOverhead is about the size of an event in the file without its body, in
// bytes: its columns, its row in delivery, its index entries.
const eventOverhead = 250

// put is the request to store an event.
type put struct {
	request
	event       *inbox.Event
	id, former  inbox.RawID // former is zero if there is none, or if it is not made yet
	duplicateOf inbox.RawID // zero if the event is new
}

var puts = sync.Pool{New: func() any { return &put{request: request{done: make(chan struct{}, 1)}} }}

// Put stores the event.
func (s *store) Put(ctx context.Context, e *inbox.Event) (duplicateOf string, err error) {
	id, former, err := e.Check()
	if err != nil {
		return "", err
	}
	p, _ := puts.Get().(*put)
	p.ctx, p.event, p.id, p.former = ctx, e, id, former
	if err := s.do(ctx, p); err != nil {
		return "", err // the writer may still use p, so it is not put back
	}
	if p.duplicateOf != (inbox.RawID{}) {
		duplicateOf = hex.EncodeToString(p.duplicateOf[:])
	}
	err = p.err
	p.ctx, p.event = nil, nil
	puts.Put(p)
	return duplicateOf, err
}

// keyOf returns the task's key with which an id begins, as SQLite stores it.
func keyOf(id inbox.RawID) int64 {
	return int64(id.TaskKey()) //nolint:gosec // the same 64 bits
}

const (
	// traceOverhead is about the size of a trace in the file without its text.
	traceOverhead = 20

	// routeOverhead and deliveryOverhead are about the sizes in the file of where an
	// event goes, and of a delivery to one of several destinations.
	routeOverhead    = 40
	deliveryOverhead = 80
)

const (
	insertEvent = `INSERT INTO events (seq, id, task_id, type, status, received_at, body) VALUES (?, ?, ?, ?, ?, ?, ?)`
	insertTrace = `INSERT INTO traces (seq, trace_parent, trace_state) VALUES (?, ?, ?)`
)

func (p *put) apply(t *tx) error {
	p.duplicateOf, p.err = inbox.RawID{}, nil
	key := keyOf(p.id)
	events, big, err := t.task(key, p.event.TaskID)
	if err != nil {
		return err
	}
	if (big != nil || len(events) > 0) && !p.makeFormer() {
		return nil
	}
	if big != nil {
		return p.applyBig(t, big)
	}
	for _, e := range events {
		if e.id == p.id || e.id == p.former {
			p.duplicateOf = e.id
			return nil
		}
	}
	if !p.event.Outcome.IsZero() {
		told, err := t.told(events)
		if err != nil {
			return err
		}
		if store, err := p.compare(told); err != nil || !store {
			return err
		}
	}
	to, seq, err := p.insert(t)
	if err != nil || seq == 0 {
		return err
	}
	if err := p.follow(t, events, nil); err != nil || len(events) == 0 {
		return err
	}
	for _, q := range to {
		there, err := t.allAt(q, events)
		if err == nil && len(there) > 0 {
			err = t.order(q, key, append(there, taskEvent{seq: seq, id: p.id, final: p.event.Status.Final(), fresh: true}))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeFormer makes the former id, unless it is made. If that is no id, it refuses the
// request.
func (p *put) makeFormer() (ok bool) {
	if p.event.MakeFormerID != nil {
		p.former, p.err = p.event.Former()
	}
	return p.err == nil
}

// applyBig is apply for a task with many events.
func (p *put) applyBig(t *tx, b *bigTask) error {
	for _, id := range []inbox.RawID{p.id, p.former} {
		e, ok, err := t.findBig(b, id)
		if err != nil {
			return err
		}
		if ok {
			p.duplicateOf = e.id
			return nil
		}
	}
	if !p.event.Outcome.IsZero() {
		told, err := t.toldBig(b)
		if err != nil {
			return err
		}
		if store, err := p.compare(told); err != nil || !store {
			return err
		}
	}
	if !t.bigHasRoom(&p.request, b) {
		return nil
	}
	to, seq, err := p.insert(t)
	if err != nil || seq == 0 {
		return err
	}
	if err := p.follow(t, nil, b); err != nil {
		return err
	}
	t.addBig(b, seq, p.id, p.event.Status.Final(), to)
	for _, q := range to {
		if err := t.orderBig(q, b); err != nil {
			return err
		}
	}
	return nil
}

// follow ends the tracking of a final event's task, or begins that of one in progress.
// The events of the task before are in b if they are many.
func (p *put) follow(t *tx, events []taskEvent, b *bigTask) error {
	if p.event.Status.Final() {
		return t.untrackFinal(p.event.TaskID)
	}
	task, ok := p.event.Tracked()
	if !ok {
		return nil
	}
	h := hashOf(task.ID)
	if t.numberOf(h) != 0 {
		return nil
	}
	if final, err := t.anyFinal(events, b); err != nil || final {
		return err
	}
	if err := t.track(h, &task); err != nil {
		return err
	}
	return t.dropOldest(trimStep)
}

// insert stores the event as ready to be leased at its destinations. seq is 0 if the
// request was refused.
func (p *put) insert(t *tx) (to []*queue, seq int64, err error) {
	to, set, ok := t.destinations(&p.request, p.event)
	if !ok || !t.indexHasRoom(&p.request) || !t.hasRoom(&p.request, eventSize(p.event, set)) {
		return nil, 0, nil
	}
	seq = t.meta.nextSeq
	err = t.c.exec(insertEvent, seq, p.id[:], p.event.TaskID, p.event.Type,
		int64(p.event.Status), p.event.ReceivedAt.UnixMicro(), nonNil(p.event.Body))
	if err != nil {
		return nil, 0, err
	}
	if hasTrace(p.event) {
		if err := t.c.exec(insertTrace, seq, p.event.TraceParent, p.event.TraceState); err != nil {
			return nil, 0, err
		}
	}
	if hasOutcome(p.event) {
		if err := t.insertOutcome(seq, p.event); err != nil {
			return nil, 0, err
		}
	}
	if err := t.send(seq, to, set); err != nil {
		return nil, 0, err
	}
	for _, q := range to {
		t.of(q).stored = append(t.of(q).stored, storedEvent{seq, p.id, p.event})
	}
	t.meta.nextSeq++
	t.added = append(t.added, entry{keyOf(p.id), seq})
	return to, seq, nil
}

// send gives a new event a delivery to each of its destinations. None of them has a row
// yet: where the event goes is in routes, unless it goes to the default alone.
func (t *tx) send(seq int64, to []*queue, set slots) error {
	state := inbox.Pending
	if set == 0 {
		state = inbox.Skipped
	}
	t.meta.events[state]++
	for _, q := range to {
		c := t.of(q)
		if c.counters.fresh == 0 {
			c.counters.lowSeq = seq
		}
		c.counters.fresh++
		c.wake = true
	}
	if set == defaultOnly {
		return nil
	}
	r := route{to: set, open: set}
	if set == 0 {
		r.settledAt = t.now
	}
	t.meta.routed++
	return t.writeRoute(insertRoute, seq, r)
}

func (p *put) grows() bool { return true }

func hasTrace(e *inbox.Event) bool { return e.TraceParent != "" || e.TraceState != "" }

// eventSize returns about the size in the file, in bytes, of an event that goes to these
// destinations.
func eventSize(e *inbox.Event, set slots) int {
	size := len(e.Body) + eventOverhead
	if hasTrace(e) {
		size += len(e.TraceParent) + len(e.TraceState) + traceOverhead
	}
	if hasOutcome(e) {
		size += len(e.Outcome) + outcomeOverhead
	}
	if task, ok := e.Tracked(); ok {
		size += taskSize(&task)
	}
	if set != defaultOnly {
		size += routeOverhead + bits.OnesCount64(uint64(set))*deliveryOverhead //nolint:gosec // the same bits
	}
	return size
}

// indexHasRoom reports whether one more entry may wait in memory until the
// index can be written. If not, it refuses the request.
func (t *tx) indexHasRoom(r *request) bool {
	if t.w.index.isFull() {
		r.err = fmt.Errorf("the index of tasks cannot be written: %w", errors.Join(t.w.maintenance.err, errIndexFull))
		return false
	}
	return true
}

// nonNil turns nil, which would be NULL, into an empty slice.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
