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
	ailingPause    = time.Second

	// tellAgain is how often it is logged that events cannot be stored.
	tellAgain = time.Minute
)

// errOff says that no server has JetStream on.
var errOff = errors.New("no NATS server that can be reached has JetStream on: a server whose disk was full turns it off and leaves it off, see its log; make room there and restart that NATS server")

// condition is what is known to keep events from being stored. While there is
// such a thing nobody waits to find it out again.
type condition struct {
	mu       sync.Mutex
	err      error     // nil if nothing is known
	told     time.Time // when it was logged last
	thin     string    // the streams with too few replicas, as they were told of
	off      bool      // JetStream was off at the last look
	remake   bool      // streams that are gone are to be made anew
	look     chan struct{}
	inspects sync.Mutex // held by one look at a time
}

func (c *condition) init() { c.look = make(chan struct{}, 1) }

// known returns what keeps events from being stored, nil if nothing is known.
func (c *condition) known() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// soon has the streams looked at soon.
func (c *condition) soon() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// doubt notes that an event was not stored. What keeps it from that may keep
// all others from it too: they are refused at once until that is found out.
func (s *store) doubt(err error) {
	s.ails(err)
	s.condition.soon()
}

// ails notes and logs what keeps events from being stored, or that nothing does.
func (s *store) ails(err error) {
	c := &s.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.err
	c.err = err
	switch {
	case err == nil && before != nil:
		c.told = time.Time{}
		s.log.Info("events are stored again")
		s.wakeChores() // to find out what is gone
	case err != nil && (before == nil || before.Error() != err.Error() || time.Since(c.told) >= tellAgain):
		c.told = time.Now()
		s.log.Error("events cannot be stored, callbacks are answered 503", zap.Error(err))
	}
}

// inspections looks at the streams at each connection, now and then, and more
// often while something is wrong with them.
func (s *store) inspections() {
	select {
	case <-s.ready:
	case <-s.life.Done():
		return
	}
	for {
		up := s.link.comes()
		if s.link.isThere() {
			s.inspect()
		}
		wait := s.options.limits.inspect
		wait -= rand.N(wait/3 + 1) // Caddys that were started at once do not look at once
		if s.condition.known() != nil || s.condition.wasOff() {
			wait = ailingPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.life.Done():
			timer.Stop()
			return
		case <-up:
		case <-s.condition.look:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *condition) wasOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off
}

// inspect finds out whether events can be stored and are kept.
func (s *store) inspect() {
	s.condition.inspects.Lock()
	defer s.condition.inspects.Unlock()
	ctx, cancel := context.WithTimeout(s.life, inspectTimeout)
	defer cancel()
	s.remake()
	err := s.inspectStreams(ctx)
	if err == nil && s.condition.known() != nil {
		err = s.probe(ctx)
	}
	switch {
	case s.closed(), !s.link.isThere():
	case err == nil:
		s.isOff(nil)
		s.ails(nil)
	case errors.Is(err, inbox.ErrBroken), errors.Is(err, errResources), s.isOff(err):
		s.ails(err)
	case s.condition.known() != nil && !outOfReach(err):
		s.ails(err)
	default: // if there is no answer, callbacks wait for it as long as they may
	}
}

// isOff reports whether JetStream is off at two looks: at one it may just start.
func (s *store) isOff(err error) bool {
	c := &s.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.off
	c.off = errors.Is(err, errOff)
	return c.off && before
}

// inspectStreams reports a stream that is gone or does not keep what it takes.
func (s *store) inspectStreams(ctx context.Context) error {
	var broken, other []error
	var thin []string
	for _, want := range s.streams() {
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
			if err := fits(have, want, true); err != nil {
				broken = append(broken, err)
			}
			if have.Replicas < want.Replicas {
				thin = append(thin, fmt.Sprintf("stream %s has replicas %d and %d are configured: nats stream edit %s --replicas=%d --force, or a reload",
					want.Name, have.Replicas, want.Replicas, want.Name, want.Replicas))
			}
		}
	}
	s.tellThin(strings.Join(thin, "; "))
	if len(broken) > 0 {
		return errors.Join(broken...)
	}
	return errors.Join(other...)
}

// tellThin warns once of streams that have fewer replicas than configured.
func (s *store) tellThin(thin string) {
	c := &s.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	if thin != "" && thin != c.thin {
		s.log.Warn("events are stored with fewer copies than configured", zap.String("streams", thin))
	}
	c.thin = thin
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
	if _, err = s.js.Publish(ctx, s.subjects.meta(metaOpened), []byte(s.me)); err != nil {
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
