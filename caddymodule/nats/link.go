package nats

import (
	"context"
	"sync"
	"time"
)

// link is what is known of the connection.
type link struct {
	gap   time.Duration
	mu    sync.Mutex
	there bool
	up    chan struct{}   // closed when the connection comes the next time
	alive context.Context //nolint:containedctx // ends with the connection
	die   context.CancelFunc
	lost  time.Time // when the connection went last
}

func (l *link) init(gap time.Duration) {
	l.gap = gap
	l.up = make(chan struct{})
	l.alive, l.die = context.WithCancel(context.Background())
}

// comes returns what is closed when the connection comes the next time.
func (l *link) comes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// isThere reports whether there is a connection. The client itself is not asked:
// while it tries to connect, that would wait for it.
func (l *link) isThere() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.there
}

// waits returns for how long it is worth waiting for the connection.
func (l *link) waits() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.lost.Add(l.gap))
}

// until returns a context that ends with the connection too, or after a limit.
func (l *link) until(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(l.alive, cancel)
	return bounded, func() { stop(); cancel() }
}

// connected notes that the connection is there or gone.
func (s *store) connected(there bool) {
	l := &s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.there = there
	if !there {
		l.lost = time.Now()
		l.die()
		l.alive, l.die = context.WithCancel(context.Background())
		return
	}
	// Whoever waits for the connection looks again; requests for events that
	// the server has forgotten are made again.
	close(l.up)
	l.up = make(chan struct{})
	s.leaser.forgetRequests()
}

// awaitConnection returns once there is a connection, or an error if there has
// been none for a while.
func (s *store) awaitConnection(ctx context.Context) error {
	for {
		up, wait := s.link.comes(), s.link.waits()
		if s.link.isThere() {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-up:
			timer.Stop()
		case <-timer.C:
			return errAway
		case <-ctx.Done():
			timer.Stop()
			return errAway
		}
	}
}
