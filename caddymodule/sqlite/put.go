package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// eventOverhead is about what an event takes in the file beside its body, in
// bytes: its columns, its row in delivery, its entries in indexes.
const eventOverhead = 250

// put is the request to store an event.
type put struct {
	request
	event       *inbox.Event
	id, former  inbox.RawID // the former one is zero if there is none
	duplicateOf inbox.RawID // zero if it is none
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
		return "", err // the writer may still hold p
	}
	if p.duplicateOf != (inbox.RawID{}) {
		duplicateOf = hex.EncodeToString(p.duplicateOf[:])
	}
	err = p.err
	p.ctx, p.event = nil, nil
	puts.Put(p)
	return duplicateOf, err
}

// keyOf returns the task's key with which an id begins.
func keyOf(id inbox.RawID) int64 {
	return int64(id.TaskKey()) //nolint:gosec // the same 64 bits
}

// traceOverhead is about what a trace takes in the file beside its text.
const traceOverhead = 20

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
	if big != nil {
		return p.applyBig(t, big)
	}
	for _, e := range events {
		if e.id == p.id || e.id == p.former {
			p.duplicateOf = e.id
			return nil
		}
	}
	seq, err := p.insert(t)
	if err != nil || seq == 0 || len(events) == 0 {
		return err
	}
	return t.order(key, append(events, taskEvent{seq: seq, id: p.id, final: p.event.Status.Final(), fresh: true}))
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
	if !t.bigHasRoom(&p.request, b) {
		return nil
	}
	seq, err := p.insert(t)
	if err != nil || seq == 0 {
		return err
	}
	t.addBig(b, seq, p.id, p.event.Status.Final())
	return t.orderBig(b)
}

// insert stores the event as one that may be leased; seq is 0 if there is no
// room.
func (p *put) insert(t *tx) (seq int64, err error) {
	if !t.indexHasRoom(&p.request) || !t.hasRoom(&p.request, eventSize(p.event)) {
		return 0, nil
	}
	seq = t.meta.nextSeq
	err = t.c.exec(insertEvent, seq, p.id[:], p.event.TaskID, p.event.Type,
		int64(p.event.Status), p.event.ReceivedAt.UnixMicro(), nonNil(p.event.Body))
	if err != nil {
		return 0, err
	}
	if hasTrace(p.event) {
		if err := t.c.exec(insertTrace, seq, p.event.TraceParent, p.event.TraceState); err != nil {
			return 0, err
		}
	}
	t.meta.nextSeq++
	t.added = append(t.added, entry{keyOf(p.id), seq})
	t.count(ready, true, +1)
	t.wake = true
	return seq, nil
}

func (p *put) grows() bool { return true }

func hasTrace(e *inbox.Event) bool { return e.TraceParent != "" || e.TraceState != "" }

// eventSize is about what the event takes in the file, in bytes.
func eventSize(e *inbox.Event) int {
	size := len(e.Body) + eventOverhead
	if hasTrace(e) {
		size += len(e.TraceParent) + len(e.TraceState) + traceOverhead
	}
	return size
}

// indexHasRoom reports whether one more entry may gather in memory until the
// index can be written, and refuses the request if not.
func (t *tx) indexHasRoom(r *request) bool {
	if _, gathered := t.w.index.pending(); gathered > maxGathered*t.w.limits.indexEntries {
		r.err = fmt.Errorf("the index of tasks cannot be written: %w", errors.Join(t.w.maintenance.err, errIndexFull))
		return false
	}
	return true
}

// nonNil makes an empty slice of nil, which would be NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
