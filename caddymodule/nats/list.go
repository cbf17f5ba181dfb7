package nats

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Get returns an event and its attempts.
func (s *store) Get(ctx context.Context, id string) (r *inbox.Record, err error) {
	err = s.withWhole(ctx, id, func(_ context.Context, w *whole) error {
		r = w.public("", s.policy.Load(), time.Now())
		return nil
	})
	return r, err
}

// pager collects one page of a list of events.
type pager struct {
	*store
	f       inbox.Filter
	limit   int
	now     time.Time
	records []*inbox.Record
	last    uint64 // sequence of the last event looked at
	step    int    // events read last time
	bytes   int
	full    bool
}

// List returns a page of the events that match.
func (s *store) List(ctx context.Context, f inbox.Filter, page inbox.Page) (records []*inbox.Record, next string, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, "", err
	}
	defer cancel()
	past, limit, err := page.Start()
	if err != nil {
		return nil, "", err
	}
	start := uint64(past)
	p := &pager{store: s, f: f, limit: limit, now: time.Now()}
	var more bool
	switch {
	case f.TaskID != "":
		more, err = p.listTask(bounded, start, page.OldestFirst)
	case page.OldestFirst:
		more, err = p.listUp(bounded, start)
	default:
		more, err = p.listDown(bounded, start)
	}
	if err != nil {
		return nil, "", s.failed(ctx, err)
	}
	if more {
		next = page.Next(int64(p.last))
	}
	return p.records, next, nil
}

// matches reports whether an event matches the filter, apart from its state.
func (p *pager) matches(e *stored) bool {
	return (p.f.TaskID == "" || p.f.TaskID == e.TaskID) && (p.f.Type == "" || p.f.Type == e.Type) &&
		(p.f.Since.IsZero() || !e.ReceivedAt.Before(p.f.Since)) && (p.f.Until.IsZero() || e.ReceivedAt.Before(p.f.Until))
}

// add adds the events that match to the page, in the given order.
func (p *pager) add(ctx context.Context, messages []message) error {
	var matching []*stored
	end := uint64(0)
	for _, m := range messages {
		e, err := decodeEvent(m)
		if err != nil {
			return err
		}
		end = e.seq
		if p.matches(e) {
			matching = append(matching, e)
		}
	}
	var found []*whole
	if len(matching) > 0 {
		var err error
		if found, err = p.wholes(ctx, matching); err != nil {
			return err
		}
	}
	for _, w := range found {
		p.last = w.seq
		if w.removed() || w.newer() || p.f.Destination != "" && w.part(p.f.Destination) == nil {
			continue
		}
		r := w.public(p.f.Destination, p.policy.Load(), p.now)
		if !p.f.HasState(r.State) {
			continue
		}
		for i := range r.Deliveries {
			r.Deliveries[i].Log = nil
		}
		p.records = append(p.records, r)
		p.bytes += len(r.Event.Body)
		if p.full = len(p.records) == p.limit || p.bytes >= inbox.MaxPageBytes; p.full {
			return nil
		}
	}
	if len(messages) > 0 {
		p.last = end
	}
	return nil
}

// window returns the number of events to read next: as many as the page has
// room for, and twice as many as last time if too few matched.
func (p *pager) window() int {
	p.step = max(p.limit-len(p.records), 2*p.step)
	return min(p.step, p.options.limits.window)
}

// listUp lists the events past a sequence, oldest first.
func (p *pager) listUp(ctx context.Context, past uint64) (more bool, err error) {
	p.last = past
	for seen := 0; seen < p.options.limits.scan; {
		messages, more, err := p.directGet(ctx, p.store.subjects.stream, query{Seq: p.last + 1, Batch: p.window(), MaxBytes: maxAnswer})
		if err != nil || len(messages) == 0 {
			return false, err
		}
		seen += len(messages)
		end := messages[len(messages)-1].seq
		if err := p.add(ctx, messages); err != nil {
			return false, err
		}
		if p.full {
			return more > 0 || p.last < end, nil
		}
		if more == 0 {
			return false, nil
		}
	}
	return true, nil
}

// listDown lists the events before a sequence, newest first. A stream can only
// be read upwards, so one range of sequences is read after the other.
func (p *pager) listDown(ctx context.Context, past uint64) (more bool, err error) {
	first, last, err := p.bounds(ctx, p.store.subjects.stream)
	if err != nil {
		return false, err
	}
	p.last = min(past, last+1)
	width := uint64(p.window())
	for seen := 0; seen < p.options.limits.scan && p.last > first; seen++ {
		low := max(first, p.last-min(p.last, width))
		messages, all, err := p.between(ctx, p.store.subjects.stream, low, p.last)
		if err != nil {
			return false, err
		}
		if !all && width > 1 {
			width = narrower(p.last-low, messages)
			continue
		}
		seen += len(messages)
		slices.Reverse(messages)
		if err := p.add(ctx, messages); err != nil {
			return false, err
		}
		if p.full {
			return p.last > first, nil
		}
		p.last = low
		if len(messages) == 0 {
			width = min(2*width, 1<<40) // a gap: longer steps
		} else {
			width = min(2*width, uint64(p.window()))
		}
	}
	return p.last > first, nil
}

// bounds returns the first and the last sequence of a stream.
func (s *store) bounds(ctx context.Context, stream string) (first, last uint64, err error) {
	there, err := s.led(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	state := there.CachedInfo().State
	return max(1, state.FirstSeq), state.LastSeq, nil
}

// between returns the messages with sequences from low to past, excluding past.
// If they are more than a window or a page can have, all is false, and the
// range has to be narrower.
func (s *store) between(ctx context.Context, stream string, low, past uint64) (messages []message, all bool, err error) {
	size := 0
	for low < past {
		batch := int(min(past-low, uint64(s.options.limits.window)))
		part, more, err := s.directGet(ctx, stream, query{Seq: low, Batch: batch, MaxBytes: maxAnswer})
		if err != nil {
			return nil, false, err
		}
		for _, m := range part {
			if m.seq >= past {
				return messages, true, nil
			}
			messages = append(messages, m)
			size += len(m.data)
			low = m.seq + 1
		}
		if more == 0 || len(part) == 0 {
			return messages, true, nil
		}
		if low < past && (len(messages) >= s.options.limits.window || size >= inbox.MaxPageBytes) {
			return messages, false, nil
		}
	}
	return messages, true, nil
}

// narrower returns the width of a narrower range than one that was not read as
// a whole.
func narrower(width uint64, read []message) uint64 {
	return max(1, min(width/2, uint64(len(read))))
}

// listTask lists the events of a task.
func (p *pager) listTask(ctx context.Context, past uint64, oldestFirst bool) (more bool, err error) {
	id := fmt.Sprintf("%016x", inbox.TaskKey(p.f.TaskID))
	messages, err := p.latest(ctx, p.store.subjects.stream, p.store.subjects.task(id))
	if err != nil {
		return false, err
	}
	messages = slices.DeleteFunc(messages, func(m message) bool {
		return oldestFirst && m.seq <= past || !oldestFirst && m.seq >= past
	})
	if !oldestFirst {
		slices.Reverse(messages)
	}
	for seen := 0; len(messages) > 0; {
		n := min(len(messages), p.options.limits.window)
		end := messages[n-1].seq
		if err := p.add(ctx, messages[:n]); err != nil {
			return false, err
		}
		messages = messages[n:]
		if seen += n; p.full || seen >= p.options.limits.scan {
			return len(messages) > 0 || p.last != end, nil
		}
	}
	return false, nil
}
