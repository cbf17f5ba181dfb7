package nats

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// maintenanceLoop removes old events, applies changed settings to the streams,
// and restores consumers that were removed. Each Caddy does so, but only one at
// a time removes events.
func (s *store) maintenanceLoop() {
	select {
	case <-s.ready:
	case <-s.life.Done():
		return
	}
	applied := s.options.settings // those used by setUp; they may have changed since
	for {
		if s.link.isUp() {
			if err := s.maintain(&applied); err != nil && !s.closed() {
				s.log.Warn("tidying up failed, it is tried again", zap.Error(err))
			}
			s.rounds.Add(1)
		}
		// Caddys started at the same moment do not run at the same moment.
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

// maintain does one round of maintenance.
func (s *store) maintain(applied *settings) error {
	ctx, cancel := context.WithTimeout(s.life, time.Minute)
	defer cancel()
	if now := *s.current.Load(); now != *applied {
		if err := s.applySettings(ctx, now); err != nil {
			return err
		}
		*applied = now
	}
	if s.loaded.Swap(false) {
		if err := s.restoreLimits(ctx); err != nil {
			s.loaded.Store(true)
			return err
		}
	}
	if err := s.restoreConsumers(ctx); err != nil {
		return err
	}
	if err := s.bringForward(ctx); err != nil {
		return err
	}
	if err := s.tendAll(); err != nil {
		return err
	}
	if err := s.trimQuarantine(ctx); err != nil {
		return err
	}
	s.tendTasks(ctx)
	surplus, err := s.surplus(ctx)
	if err != nil {
		return err
	}
	if !s.clock.Trusted(time.Now()) && surplus == 0 {
		return nil // removal is final
	}
	return s.retireAll(s.life, surplus) //nolint:contextcheck // it bounds its own steps
}

// surplus returns the number of events that must be removed early so that there
// is room for new ones: a stream that is more than 7/8 full is reduced to 3/4.
// Recognizing repeats is worth less than a new callback.
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

// noteFull starts maintenance because the stream has refused an event.
func (s *store) noteFull() {
	last := s.fullSeen.Load()
	now := time.Now().UnixMilli()
	if now-last >= fullPause.Milliseconds() && s.fullSeen.CompareAndSwap(last, now) {
		s.wakeMaintenance()
	}
}

// fullPause is the least time between two such starts.
const fullPause = time.Second

// applySettings applies the settings to the streams and consumers.
func (s *store) applySettings(ctx context.Context, now settings) error {
	s.making.Lock()
	defer s.making.Unlock()
	if err := s.ensureAll(ctx); err != nil {
		return err
	}
	s.log.Info("settings changed", zap.Duration("lease", now.lease), zap.Int("replicas", now.replicas), zap.Int64("max_size", now.maxSize))
	return nil
}

// searchEvery is in which rounds of maintenance events are looked for that nobody sees to.
const searchEvery = 4

// tendAll sees to destinations and to events that are not as they should be.
func (s *store) tendAll() error {
	ctx, cancel := context.WithTimeout(s.life, 4*retireTimeout)
	defer cancel()
	var mine claim
	defer s.releaseClaim(ctx, &mine)
	if err := s.tendDestinations(ctx, &mine); err != nil {
		return err
	}
	if err := s.forgetStale(ctx); err != nil {
		return err
	}
	if err := s.remindAll(ctx, &mine); err != nil {
		return err
	}
	if s.rounds.Load()%searchEvery != 0 {
		return nil
	}
	if err := s.mendWholes(ctx, &mine); err != nil {
		return err
	}
	return s.findForgotten(ctx, &mine)
}
