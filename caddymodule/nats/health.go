package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// inspectTimeout bounds one inspection of the streams, and unhealthyPause
	// is the time between two while events cannot be stored.
	inspectTimeout = 5 * time.Second
	unhealthyPause = time.Second

	// logAgain is how often the log repeats that events cannot be stored.
	logAgain = time.Minute
)

// errOff says that no server has JetStream on.
var errOff = errors.New("no NATS server that can be reached has JetStream on: a server whose disk was full turns it off and leaves it off, see its log; make room there and restart that NATS server")

// health is what is known to keep events from being stored. While something is
// known, calls fail at once instead of finding it out again.
type health struct {
	mu              sync.Mutex
	err             error     // nil if nothing is known
	loggedAt        time.Time // when it was last logged
	underReplicated string    // the streams with too few replicas, as last logged
	jetStreamOff    bool      // JetStream was off at the last inspection
	remakeDue       bool      // removed streams are to be created again
	wake            chan struct{}
	inspecting      sync.Mutex // held during an inspection
}

func (h *health) init() { h.wake = make(chan struct{}, 1) }

// problem returns what keeps events from being stored, or nil.
func (h *health) problem() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// inspectSoon makes the streams be inspected soon.
func (h *health) inspectSoon() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// reportFailure records that an event was not stored. The reason may affect all
// events, so they are refused at once until an inspection shows otherwise.
func (s *store) reportFailure(err error) {
	s.setHealth(err)
	s.health.inspectSoon()
}

// setHealth records and logs what keeps events from being stored; nil if
// nothing does.
func (s *store) setHealth(err error) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.err
	h.err = err
	switch {
	case err == nil && before != nil:
		h.loggedAt = time.Time{}
		s.log.Info("events are stored again")
		s.wakeMaintenance() // to find events that were lost
	case err != nil && (before == nil || before.Error() != err.Error() || time.Since(h.loggedAt) >= logAgain):
		h.loggedAt = time.Now()
		s.log.Error("events cannot be stored, callbacks are answered 503", zap.Error(err))
	}
}

// inspectLoop inspects the streams after each connect and from time to time,
// more often while something is wrong.
func (s *store) inspectLoop() {
	select {
	case <-s.ready:
	case <-s.life.Done():
		return
	}
	for {
		up := s.link.next()
		if s.link.isUp() {
			s.inspect()
		}
		wait := s.options.limits.inspect
		wait -= rand.N(wait/3 + 1) // Caddys started at the same moment do not inspect at the same moment
		if s.health.problem() != nil || s.health.wasOff() {
			wait = unhealthyPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.life.Done():
			timer.Stop()
			return
		case <-up:
		case <-s.health.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (h *health) wasOff() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jetStreamOff
}

// inspect finds out whether events can be stored and are kept.
func (s *store) inspect() {
	s.health.inspecting.Lock()
	defer s.health.inspecting.Unlock()
	ctx, cancel := context.WithTimeout(s.life, inspectTimeout)
	defer cancel()
	s.remakeStreams()
	err := s.inspectStreams(ctx)
	if terr := s.inspectTasks(ctx); terr != nil && !isUnreachable(terr) {
		s.warnUntracked(terr)
	}
	if err == nil && s.health.problem() != nil {
		err = s.probe(ctx)
	}
	switch {
	case s.closed(), !s.link.isUp():
	case err == nil:
		s.confirmedOff(nil)
		s.setHealth(nil)
	case errors.Is(err, inbox.ErrBroken), errors.Is(err, errResources), s.confirmedOff(err):
		s.setHealth(err)
	case s.health.problem() != nil && !isUnreachable(err):
		s.setHealth(err)
	default: // without an answer, callbacks wait as long as they may
	}
}

// confirmedOff reports whether JetStream was off at two inspections in a row:
// at one it may just be starting.
func (s *store) confirmedOff(err error) bool {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.jetStreamOff
	h.jetStreamOff = errors.Is(err, errOff)
	return h.jetStreamOff && before
}

// inspectStreams returns an error if a stream is gone or would lose events.
func (s *store) inspectStreams(ctx context.Context) error {
	var broken, other []error
	var underReplicated []string
	for _, want := range s.streamConfigs() {
		there, err := s.js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			gone, err := s.isGone(ctx, want.Name)
			if err != nil {
				other = append(other, fmt.Errorf("looking whether stream %s was removed: %w", want.Name, err))
			}
			if gone {
				broken = append(broken, errGone(want.Name))
			}
		case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
			return errOff
		case err != nil:
			other = append(other, fmt.Errorf("looking at stream %s: %w", want.Name, err))
		default:
			have := there.CachedInfo().Config
			if err := checkStream(have, want, true); err != nil {
				broken = append(broken, err)
			}
			if have.Replicas < want.Replicas {
				underReplicated = append(underReplicated, fmt.Sprintf("stream %s has replicas %d and %d are configured: nats stream edit %s --replicas=%d --force, or a reload",
					want.Name, have.Replicas, want.Replicas, want.Name, want.Replicas))
			}
		}
	}
	s.warnReplicas(strings.Join(underReplicated, "; "))
	if len(broken) > 0 {
		return errors.Join(broken...)
	}
	return errors.Join(other...)
}

// errGone says that somebody has removed a stream.
func errGone(stream string) error {
	return fmt.Errorf("%w: stream %s is gone: restore it from a backup (nats stream restore), or have it made anew, empty, by a reload (caddy reload --force)", inbox.ErrBroken, stream)
}

// warnReplicas logs once that streams have fewer replicas than configured.
func (s *store) warnReplicas(underReplicated string) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if underReplicated != "" && underReplicated != h.underReplicated {
		s.log.Warn("events are stored with fewer copies than configured", zap.String("streams", underReplicated))
	}
	h.underReplicated = underReplicated
}

// probe finds out whether the streams can be written. A server whose disk was
// full does not answer a publish. But it answers a purge, even of a subject
// without messages, and that needs a majority as an event does.
func (s *store) probe(ctx context.Context) error {
	err := s.api(ctx, "STREAM.PURGE."+s.subjects.stream, map[string]any{"filter": s.subjects.noEvent()})
	if err != nil {
		return cannotWrite(s.subjects.stream, err)
	}
	if _, err = s.js.Publish(ctx, s.subjects.meta(metaOpened), []byte(s.instance)); err != nil {
		return cannotWrite(s.subjects.states(), publishError(err))
	}
	return nil
}

// cannotWrite adds advice to the error of a server that has stopped writing.
func cannotWrite(stream string, err error) error {
	for _, text := range []string{"no space left", "disk quota", "input/output error", "read-only file system", "permission denied", "file too large"} {
		if strings.Contains(err.Error(), text) {
			return fmt.Errorf("%w: %w: the NATS server that leads stream %s has stopped writing it (%s); make room on its disk, then restart that NATS server: it does not go on by itself",
				inbox.ErrFull, errResources, stream, text)
		}
	}
	return err
}
