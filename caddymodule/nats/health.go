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
	// inspectTimeout bounds one inspection of the streams, sideTimeout the look at those
	// that no event needs to be stored, and unhealthyPause is the time between two
	// inspections while something is wrong.
	inspectTimeout = 5 * time.Second
	sideTimeout    = 2 * time.Second
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
	silence         silence
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
		if s.health.problem() != nil || s.health.wasOff() || s.health.isSilent() {
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
	s.remakeStreams()
	found := s.inspectStreams()
	s.noteSilence(found.silent)
	s.judge(found)
	ctx, cancel := context.WithTimeout(s.life, inspectTimeout)
	defer cancel()
	if err := s.inspectTasks(ctx); err != nil && !isUnreachable(err) {
		s.warnUntracked(err)
	}
}

// judge records what an inspection means for events that are to be stored.
func (s *store) judge(found inspection) {
	err, problem := found.err, s.health.problem()
	if err == nil && problem != nil {
		if found.silent != nil && errors.Is(problem, inbox.ErrBroken) {
			return // it may be about a stream that cannot be looked at now
		}
		ctx, cancel := context.WithTimeout(s.life, inspectTimeout)
		defer cancel()
		err = s.probe(ctx, found.replicas)
	}
	switch {
	case s.closed(), !s.link.isUp():
	case err == nil:
		s.confirmedOff(nil)
		s.setHealth(nil)
	case errors.Is(err, inbox.ErrBroken), errors.Is(err, errResources), s.confirmedOff(err):
		s.setHealth(err)
	case problem != nil && !isUnreachable(err):
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

// inspection is what was found at the streams.
type inspection struct {
	replicas int   // of the stream of events
	err      error // why events would be lost, or that their stream cannot be looked at
	silent   error // which others cannot be looked at: no event needs them to be stored
}

// look is what was found at one stream.
type look struct {
	have   jetstream.StreamConfig
	broken error
	failed error // it cannot be looked at
}

// inspectStreams looks whether a stream is gone or would lose events. One that does not
// answer keeps none of the others from being looked at.
func (s *store) inspectStreams() (found inspection) {
	configs := s.streamConfigs()
	looks := make([]look, len(configs))
	var all sync.WaitGroup
	for i, want := range configs {
		limit := sideTimeout
		if want.Name == s.subjects.stream {
			limit = inspectTimeout
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(s.life, limit)
			defer cancel()
			looks[i] = s.lookAt(ctx, want)
		})
	}
	all.Wait()
	var broken, silent []error
	var underReplicated []string
	for i, l := range looks {
		want := &configs[i]
		switch {
		case errors.Is(l.failed, errOff):
			return inspection{err: errOff}
		case l.broken != nil:
			broken = append(broken, l.broken)
		case l.failed != nil && want.Name == s.subjects.stream:
			found.err = l.failed
		case l.failed != nil:
			silent = append(silent, silenceOf(want.Name, l.failed))
		}
		if want.Name == s.subjects.stream {
			found.replicas = l.have.Replicas
		}
		if l.failed == nil && l.have.Name != "" && l.have.Replicas < want.Replicas {
			underReplicated = append(underReplicated, fmt.Sprintf("stream %s has replicas %d and %d are configured: nats stream edit %s --replicas=%d --force, or a reload",
				want.Name, l.have.Replicas, want.Replicas, want.Name, want.Replicas))
		}
	}
	s.warnReplicas(strings.Join(underReplicated, "; "))
	if len(broken) > 0 {
		found.err = errors.Join(broken...)
	}
	found.silent = errors.Join(silent...)
	return found
}

// lookAt looks at one stream.
func (s *store) lookAt(ctx context.Context, want jetstream.StreamConfig) (l look) {
	there, err := s.led(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		gone, err := s.isGone(ctx, want.Name)
		if err != nil {
			l.failed = fmt.Errorf("looking whether stream %s was removed: %w", want.Name, err)
		}
		if gone {
			l.broken = errGone(want.Name)
		}
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		l.failed = errOff
	case err != nil:
		l.failed = fmt.Errorf("looking at stream %s: %w", want.Name, err)
	default:
		l.have = there.CachedInfo().Config
		l.broken = checkStream(l.have, want, true)
	}
	return l
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
