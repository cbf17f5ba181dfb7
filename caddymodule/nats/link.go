package nats

import (
	"context"
	"sync"
	"time"
)

// link is the state of the connection.
type link struct {
	grace     time.Duration
	mu        sync.Mutex
	up        bool
	reached   bool            // it has been up
	nextUp    chan struct{}   // closed when the connection next comes up
	ctx       context.Context //nolint:containedctx // ends with the connection
	cancel    context.CancelFunc
	downSince time.Time // when the connection was last lost
}

func (l *link) init(gap time.Duration) {
	l.grace = gap
	l.nextUp = make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// next returns a channel that is closed when the connection next comes up.
func (l *link) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nextUp
}

// isUp reports whether the connection is up. Asking the client would block
// while it reconnects.
func (l *link) isUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// wasUp reports whether the connection has ever been up.
func (l *link) wasUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached
}

// graceLeft returns how long it is still worth waiting for the connection.
func (l *link) graceLeft() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.downSince.Add(l.grace))
}

// bound returns a context that also ends with the connection, or after a limit.
func (l *link) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(l.ctx, cancel)
	return bounded, func() { stop(); cancel() }
}

// setConnected records that the connection has come up or was lost.
func (s *store) setConnected(up bool) {
	l := &s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.reached = up, l.reached || up
	if !up {
		l.downSince = time.Now()
		l.cancel()
		l.ctx, l.cancel = context.WithCancel(context.Background())
		return
	}
	// Calls that wait for the connection go on, and requests for events are
	// made again, because the server has forgotten them.
	close(l.nextUp)
	l.nextUp = make(chan struct{})
	for _, q := range s.openQueues() {
		q.leaser.forgetRequests()
	}
}

// awaitConnection waits until the connection is up. It fails if the connection
// has been down for a while.
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
