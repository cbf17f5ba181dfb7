package nats

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// maintenanceLoop removes what is too old, brings changed settings to the streams, and
// makes consumers anew that somebody has removed. Each Caddy looks by itself; one
// at a time removes.
func (s *store) maintenanceLoop() {
	select {
	case <-s.ready:
	case <-s.life.Done():
		return
	}
	applied := s.options.settings // what was set up with; it may have changed since
	for {
		if s.link.isUp() {
			if err := s.maintain(&applied); err != nil && !s.closed() {
				s.log.Warn("tidying up failed, it is tried again", zap.Error(err))
			}
		}
		// Caddys that were started at once do not tidy up at once.
		wait := s.options.limits.maintenance
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-s.life.Done():
			timer.Stop()
			return
		case <-s.maintenanceWake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// maintain does what is due.
func (s *store) maintain(applied *settings) error {
	ctx, cancel := context.WithTimeout(s.life, time.Minute)
	defer cancel()
	if now := *s.current.Load(); now != *applied {
		if err := s.applySettings(ctx, now); err != nil {
			return err
		}
		*applied = now
	}
	if err := s.restoreConsumers(ctx); err != nil {
		return err
	}
	if err := s.bringForward(ctx); err != nil {
		return err
	}
	if err := s.trimQuarantine(ctx); err != nil {
		return err
	}
	surplus, err := s.surplus(ctx)
	if err != nil {
		return err
	}
	if !s.clock.Trusted(time.Now()) && surplus == 0 {
		return nil // what is removed is gone for good
	}
	return s.retireAll(s.life, surplus) //nolint:contextcheck // it bounds its steps itself
}

// surplus is the number of events that have to go before they are too old, so
// that the stream has room for new ones: once it is 7/8 full, it is brought back
// to 3/4. What is remembered of repeats is worth less than a new callback.
func (s *store) surplus(ctx context.Context) (int64, error) {
	there, err := s.js.Stream(ctx, s.subjects.stream)
	if err != nil {
		return 0, err
	}
	info := there.CachedInfo()
	limit, has, messages := info.Config.MaxBytes, int64(info.State.Bytes), int64(info.State.Msgs)
	if limit <= 0 || has < limit/8*7 || messages == 0 {
		return 0, nil
	}
	return (has - limit/4*3) / max(1, has/messages), nil
}

// noteFull has the stream tidied up soon, as it refused an event.
func (s *store) noteFull() {
	last := s.fullSeen.Load()
	now := time.Now().UnixMilli()
	if now-last >= fullPause.Milliseconds() && s.fullSeen.CompareAndSwap(last, now) {
		s.wakeMaintenance()
	}
}

// fullPause is the least time between two such looks.
const fullPause = time.Second

// applySettings brings settings to the streams and consumers.
func (s *store) applySettings(ctx context.Context, now settings) error {
	if err := s.ensureAll(ctx); err != nil {
		return err
	}
	s.log.Info("settings changed", zap.Duration("lease", now.lease), zap.Int("replicas", now.replicas), zap.Int64("max_size", now.maxSize))
	return nil
}
