package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// probeRoom is the size of the event for which Probe looks for room, in bytes, with
// its headers.
const probeRoom = 4<<10 + 1<<10

// Probe purges a subject without messages from the stream of events, which needs a
// majority as storing an event does, and stores a message in the stream of states in
// place of the one before.
func (s *store) Probe(ctx context.Context) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	for {
		if err := s.health.problem(); err != nil {
			return err
		}
		err := s.tryOnce(bounded, s.proveStoring)
		if err == nil {
			return nil
		}
		s.health.inspectSoon()
		if !errors.Is(err, errUnanswered) {
			return s.failed(ctx, err)
		}
		select {
		case <-bounded.Done():
			return s.failed(ctx, fmt.Errorf("%w: %w", bounded.Err(), err))
		case <-time.After(retryWait):
		}
	}
}

// proveStoring returns nil if an event of ordinary size can be stored.
func (s *store) proveStoring(ctx context.Context) error {
	there, err := s.info(ctx, s.subjects.stream, s.subjects.noEvent())
	if err != nil {
		return err
	}
	if limit := there.Config.MaxBytes; limit > 0 && there.State.Bytes+probeRoom > uint64(limit) {
		s.noteFull()
		return fmt.Errorf("%w: stream %s has %d of at most %d bytes", inbox.ErrFull, s.subjects.stream, there.State.Bytes, limit)
	}
	return s.probe(ctx)
}

// Interface guard
var _ inbox.Prober = (*store)(nil)
