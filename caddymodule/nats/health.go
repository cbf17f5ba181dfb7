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
	// inspectTimeout bounds one look at the streams, and ailingPause is the time
	// between two while events cannot be stored.
	inspectTimeout = 5 * time.Second
	unhealthyPause = time.Second

	// logAgain is how often it is logged that events cannot be stored.
	logAgain = time.Minute
)

// errOff says that no server has JetStream on.
var errOff = errors.New("no NATS server that can be reached has JetStream on: a server whose disk was full turns it off and leaves it off, see its log; make room there and restart that NATS server")

// health is what is known to keep events from being stored. While there is
// such a thing nobody waits to find it out again.
type health struct {
	mu              sync.Mutex
	err             error     // nil if nothing is known
	loggedAt        time.Time // when it was logged last
	underReplicated string    // the streams with too few replicas, as they were told of
	jetStreamOff    bool      // JetStream was off at the last look
	remakeDue       bool      // streams that are gone are to be made anew
	wake            chan struct{}
	inspecting      sync.Mutex // held by one look at a time
}

func (c *health) init() { c.wake = make(chan struct{}, 1) }

// problem returns what keeps events from being stored, nil if nothing is known.
func (c *health) problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// inspectSoon has the streams looked at soon.
func (c *health) inspectSoon() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// reportFailure notes that an event was not stored. What keeps it from that may keep
// all others from it too: they are refused at once until that is found out.
func (s *store) reportFailure(err error) {
	s.setHealth(err)
	s.health.inspectSoon()
}

// setHealth notes and logs what keeps events from being stored, or that nothing does.
func (s *store) setHealth(err error) {
	c := &s.health
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.err
	c.err = err
	switch {
	case err == nil && before != nil:
		c.loggedAt = time.Time{}
		s.log.Info("events are stored again")
		s.wakeMaintenance() // to find out what is gone
	case err != nil && (before == nil || before.Error() != err.Error() || time.Since(c.loggedAt) >= logAgain):
		c.loggedAt = time.Now()
		s.log.Error("events cannot be stored, callbacks are answered 503", zap.Error(err))
	}
}

// inspectLoop looks at the streams at each connection, now and then, and more
// often while something is wrong with them.
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
		wait -= rand.N(wait/3 + 1) // Caddys that were started at once do not look at once
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

func (c *health) wasOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jetStreamOff
}

// inspect finds out whether events can be stored and are kept.
func (s *store) inspect() {
	s.health.inspecting.Lock()
	defer s.health.inspecting.Unlock()
	ctx, cancel := context.WithTimeout(s.life, inspectTimeout)
	defer cancel()
	s.remakeStreams()
	err := s.inspectStreams(ctx)
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
	default: // if there is no answer, callbacks wait for it as long as they may
	}
}

// confirmedOff reports whether JetStream is off at two looks: at one it may just start.
func (s *store) confirmedOff(err error) bool {
	c := &s.health
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.jetStreamOff
	c.jetStreamOff = errors.Is(err, errOff)
	return c.jetStreamOff && before
}

// inspectStreams reports a stream that is gone or does not keep what it takes.
func (s *store) inspectStreams(ctx context.Context) error {
	var broken, other []error
	var thin []string
	for _, want := range s.streamConfigs() {
		there, err := s.js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			broken = append(broken, fmt.Errorf("%w: stream %s is gone: restore it from a backup (nats stream restore), or have it made anew, empty, by a reload (caddy reload --force)", inbox.ErrBroken, want.Name))
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
				thin = append(thin, fmt.Sprintf("stream %s has replicas %d and %d are configured: nats stream edit %s --replicas=%d --force, or a reload",
					want.Name, have.Replicas, want.Replicas, want.Name, want.Replicas))
			}
		}
	}
	s.warnReplicas(strings.Join(thin, "; "))
	if len(broken) > 0 {
		return errors.Join(broken...)
	}
	return errors.Join(other...)
}

// warnReplicas warns once of streams that have fewer replicas than configured.
func (s *store) warnReplicas(thin string) {
	c := &s.health
	c.mu.Lock()
	defer c.mu.Unlock()
	if thin != "" && thin != c.underReplicated {
		s.log.Warn("events are stored with fewer copies than configured", zap.String("streams", thin))
	}
	c.underReplicated = thin
}

// probe finds out whether the streams can be written to. A server whose disk was
// full says nothing of it to who publishes: it does not answer. But it does if it
// is to purge, also if no message is on the subject. That needs a majority, as
// an event does.
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

// cannotWrite adds what to do to an error of a server that cannot write any more.
func cannotWrite(stream string, err error) error {
	for _, text := range []string{"no space left", "disk quota", "input/output error", "read-only file system", "permission denied", "file too large"} {
		if strings.Contains(err.Error(), text) {
			return fmt.Errorf("%w: %w: the NATS server that leads stream %s has stopped writing it (%s); make room on its disk, then restart that NATS server: it does not go on by itself",
				inbox.ErrFull, errResources, stream, text)
		}
	}
	return err
}
