package nats

import (
	"context"
	"sync"
	"time"
)

// link is what is known of the connection.
type link struct {
	grace     time.Duration
	mu        sync.Mutex
	up        bool
	nextUp    chan struct{}   // closed when the connection comes the next time
	ctx       context.Context //nolint:containedctx // ends with the connection
	cancel    context.CancelFunc
	downSince time.Time // when the connection went last
}

func (l *link) init(gap time.Duration) {
	l.grace = gap
	l.nextUp = make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// next returns what is closed when the connection comes the next time.
func (l *link) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nextUp
}

// isUp reports whether there is a connection. The client itself is not asked:
// while it tries to connect, that would wait for it.
func (l *link) isUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// graceLeft returns for how long it is worth waiting for the connection.
func (l *link) graceLeft() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.downSince.Add(l.grace))
}

// bound returns a context that ends with the connection too, or after a limit.
func (l *link) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(l.ctx, cancel)
	return bounded, func() { stop(); cancel() }
}

// setConnected notes that the connection is there or gone.
func (s *store) setConnected(there bool) {
	l := &s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = there
	if !there {
		l.downSince = time.Now()
		l.cancel()
		l.ctx, l.cancel = context.WithCancel(context.Background())
		return
	}
	// Whoever waits for the connection looks again; requests for events that
	// the server has forgotten are made again.
	close(l.nextUp)
	l.nextUp = make(chan struct{})
	s.leaser.forgetRequests()
}

// awaitConnection returns once there is a connection, or an error if there has
// been none for a while.
func (s *store) awaitConnection(ctx context.Context) error {
	for {
		up, wait := s.link.next(), s.link.graceLeft()
		if s.link.isUp() {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-up:
			timer.Stop()
		case <-timer.C:
			return errDisconnected
		case <-ctx.Done():
			timer.Stop()
			return errDisconnected
		}
	}
}
