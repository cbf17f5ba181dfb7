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

// stateWait is how long a probe waits for the stream of states if it can do without.
const stateWait = time.Second

// Probe proves that the stream of events can be written, see probe.
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
	return s.probe(ctx, there.Config.Replicas)
}

// probe finds out whether events can be stored. A server whose disk was full does not
// answer a publish. But it answers a purge, even of a subject without messages. With
// several replicas a majority of them writes that down first, as it does an event. A
// single one writes nothing for it, so a message is also stored in the stream of states,
// in place of the one before.
//
// No event needs that stream to be stored, and it may be on other servers. With several
// replicas it only counts if they refuse the message, as they would an event, and not if
// none of them answers.
func (s *store) probe(ctx context.Context, replicas int) error {
	err := s.api(ctx, "STREAM.PURGE."+s.subjects.stream, map[string]any{"filter": s.subjects.noEvent()})
	if err != nil {
		return cannotWrite(s.subjects.stream, err)
	}
	if replicas > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stateWait)
		defer cancel()
	}
	_, err = s.js.Publish(ctx, s.subjects.meta(metaOpened), []byte(s.instance))
	if err = publishError(err); err != nil && (replicas == 1 || !isUnreachable(err)) {
		return cannotWrite(s.subjects.states(), err)
	}
	return nil
}

// Interface guard
var _ inbox.Prober = (*store)(nil)
