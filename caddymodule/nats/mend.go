package nats

import (
	"context"
	"errors"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// mendWholes completes what Caddys left that died in the middle of a replay or a move:
// deliveries that were to become pending again, and events whose deliveries have all
// ended though they are said to be pending. Each round looks at some of the events that
// had ended before.
func (s *store) mendWholes(ctx context.Context, mine *claim) error {
	if !s.several.Load() {
		return nil
	}
	at, before := s.subjects.all(), s.reopenedUntil
	var err error
	if s.reopenedUntil, err = s.lastOfAll(ctx); err != nil {
		return err
	}
	records, more, err := s.directGet(ctx, at.stream, query{Seq: s.mendFrom + 1, NextFor: at.ofKind(reopened), Batch: s.options.limits.window, MaxBytes: maxAnswer})
	if err != nil {
		return err
	}
	s.mendFrom = 0
	var events []*stored
	for _, m := range records {
		if m.seq > before {
			break // whoever wrote it may still be at it
		}
		if more > 0 {
			s.mendFrom = m.seq
		}
		e, err := s.event(ctx, idOf(m.subject))
		switch {
		case errors.Is(err, inbox.ErrNotFound): // it is being removed, or was lost
		case err != nil:
			return err
		default:
			events = append(events, e)
		}
	}
	if len(events) == 0 {
		return nil
	}
	if ok, err := s.claim(ctx, mine); err != nil || !ok {
		return err
	}
	found, err := s.wholes(ctx, events)
	if err != nil {
		return err
	}
	for _, w := range found {
		if err := s.mendWhole(ctx, w); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	return nil
}

func (s *store) mendWhole(ctx context.Context, w *whole) error {
	if w.newer() {
		return nil
	}
	if !w.spread { // it was to get another destination, and then was changed by another Caddy
		sum, err := s.sumOf(ctx, w.stored)
		if err == nil && sum.kind == reopened {
			s.forgetRecords(ctx, s.subjects.all(), sum.others)
		}
		return err
	}
	isPending := false
	for _, p := range w.parts {
		if p.redo {
			if err := p.restart(ctx, p.member); err != nil {
				return err
			}
		}
		isPending = isPending || p.state() == inbox.Pending
	}
	if isPending {
		return nil
	}
	return s.conclude(ctx, w.stored)
}
