package nats

import (
	"context"
	"sync/atomic"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// queue leases the deliveries of one destination.
type queue struct {
	*destination
	leaser leaser
	pick   newest
	used   atomic.Bool // something was leased from it, or could have been
	made   atomic.Bool // its streams and consumers are set up
}

func (s *store) newQueue(d *destination) *queue {
	q := &queue{destination: d}
	q.leaser.init()
	q.pick.known = s.options.limits.known
	return q
}

// Queue returns the queue of a destination, and makes it if there is none.
func (s *store) Queue(ctx context.Context, name string) (inbox.Queue, error) {
	if name == inbox.DefaultDestination {
		if s.closed() {
			return nil, errClosed()
		}
		return s.home, nil
	}
	if err := inbox.CheckDestination(name); err != nil {
		return nil, err
	}
	s.making.Lock()
	defer s.making.Unlock()
	if s.closed() {
		return nil, errClosed()
	}
	if q := s.queueNamed(name); q != nil && q.made.Load() {
		return q, nil
	}
	select {
	case <-s.ready:
	default:
		if !s.options.startWithoutServer {
			return nil, *s.setUpErr.Load()
		}
		return s.addQueue(name), nil // it is made when the streams are set up
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	q := s.addQueue(name)
	if err := s.makeQueue(bounded, q); err != nil {
		return nil, s.failed(ctx, err)
	}
	return q, nil
}

// addQueue returns a queue that may not be made yet.
func (s *store) addQueue(name string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		d := s.known[name]
		if d == nil {
			d = &destination{store: s, name: name}
		}
		q = s.newQueue(d)
		s.queues[name] = q
		q.keepAlive()
	}
	return q
}

// makeQueue sets up the streams and consumers of a queue.
func (s *store) makeQueue(ctx context.Context, q *queue) error {
	if err := s.makePlaces(ctx); err != nil {
		return err
	}
	if _, err := s.ensureDestination(ctx, q.name); err != nil {
		return err
	}
	if err := q.listenAll(); err != nil { //nolint:contextcheck // what arrives outlives the call
		return err
	}
	q.made.Store(true)
	return nil
}

// makePlaces makes what inboxes with several destinations have beside the streams of
// others: the stream for events as wholes, and that for the default destination.
func (s *store) makePlaces(ctx context.Context) error {
	if err := s.ensureStream(ctx, s.placeConfig(s.subjects.all())); err != nil {
		return err
	}
	if _, err := s.ensureDestination(ctx, inbox.DefaultDestination); err != nil {
		return err
	}
	return s.home.listenAll() //nolint:contextcheck // as above
}

// keepAlive extends what is handed out to the queue until the inbox is closed.
func (q *queue) keepAlive() { q.work.Go(q.keepLeases) }

// queueNamed returns the queue of a destination, nil if it was not asked for.
func (s *store) queueNamed(name string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[name]
}

// openQueues returns all queues that were asked for, and that of the default destination.
func (s *store) openQueues() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*queue, 0, len(s.queues))
	for _, q := range s.queues {
		all = append(all, q)
	}
	return all
}

// Interface guards
var (
	_ inbox.Queue  = (*queue)(nil)
	_ inbox.Shared = (*queue)(nil)
	_ inbox.Picker = (*queue)(nil)
)
