package nats

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// unlooked are looks at events that have failed. In an outage there are many of them.
type unlooked struct {
	mu     sync.Mutex
	logged time.Time
	more   int // since then
}

// warnUnlooked logs, rarely, that an event cannot be looked at.
func (s *store) warnUnlooked(id string, err error) {
	u := &s.looks
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.logged) < logAgain {
		u.more++
		return
	}
	s.log.Warn("an event cannot be looked at, it is tried again", zap.String("event", id), zap.Int("more", u.more), zap.Error(err))
	u.logged, u.more = time.Now(), 0
}
