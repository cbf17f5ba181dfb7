package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// options are the arguments of open.
type options struct {
	name               string
	urls               []string
	stream             string
	tls                *TLS
	policy             inbox.Policy
	log                *zap.Logger
	startWithoutServer bool
	settings           settings
	limits             limits
}

// settings are what a reload can change.
type settings struct {
	replicas              int
	maxSize               int64
	lease, publishTimeout time.Duration
}

// limits bound the length of each step and the memory in use. They are fields
// so that tests can make them small.
type limits struct {
	scan        int           // events read for one page of a list
	window      int           // events read at a time
	parked      int           // events kept here while they wait for another of their task
	attempts    int           // attempts kept with an event
	expires     time.Duration // of a request for events
	unclaimed   time.Duration // after which events that nobody leased are returned
	maintenance time.Duration // between two rounds of maintenance
	inspect     time.Duration // between two inspections of the streams, approximately
	setUp       time.Duration // of one try to set the streams up later than at the start

	// grace is how long calls wait for a lost connection: within that time the
	// client usually finds another server. After it calls fail at once until
	// the connection is back.
	grace time.Duration

	// known is for how long it counts what was read of the range of events that may be
	// leased out of turn, and crowded for how long there is a backlog before there is
	// such a range.
	known, crowded time.Duration

	// find is how long the newest events are searched for the beginning of an id.
	find time.Duration
}

var defaultLimits = limits{
	scan: 1000, window: 200, parked: 1000, attempts: 100,
	expires: 2 * time.Second, unclaimed: time.Second, maintenance: 30 * time.Second, inspect: 30 * time.Second,
	setUp: 30 * time.Second,
	grace: 2 * time.Second, known: 3 * time.Second, crowded: time.Second,
	find: 2 * time.Second,
}

// store is an inbox in JetStream.
type store struct {
	options  options
	log      *zap.Logger
	instance string // identifies this inbox among those that share the streams
	subjects subjects

	current atomic.Pointer[settings]
	secrets atomic.Pointer[secrets]
	policy  atomic.Pointer[inbox.Policy]

	conn *nats.Conn
	js   jetstream.JetStream

	life            context.Context //nolint:containedctx // ends when the inbox is closed
	end             context.CancelFunc
	work            sync.WaitGroup
	maintenanceWake chan struct{} // there is something for maintenance to do
	ready           chan struct{} // closed once the streams are set up
	link            link
	setUpErr        atomic.Pointer[error]
	fullSeen        atomic.Int64  // when the stream was last found full, in ms since 1970
	loaded          atomic.Bool   // a config was loaded, and the streams were not compared with it yet
	rounds          atomic.Int64  // rounds of maintenance, for tests to wait for
	clock           inbox.Clock   // used by maintenance only
	boundedTo       time.Duration // the Policy.MaxWait that bringForward last enforced; used by maintenance only

	home   *queue     // of the default destination
	making sync.Mutex // held while queues are made
	mu     sync.Mutex
	queues map[string]*queue       // by destination
	known  map[string]*destination // of which the streams tell

	// several says that there were other destinations than the default: only then is
	// there a stream for events as wholes, and one of the default destination beside
	// that of its states.
	several atomic.Bool

	// Up to reopenedUntil, events had been reopened before the last round of maintenance,
	// and mendFrom is where the next one goes on; used by maintenance only.
	reopenedUntil, mendFrom uint64

	forgotten forgotten // used by maintenance only

	// paused are the consumers of which it was told that somebody has paused them, and
	// until when; used by maintenance only.
	paused map[string]time.Time

	tracking tracking

	endings endings
	replies replies
	health  health
	looks   unlooked
	newest  atomic.Uint64 // sequence of the last event that this inbox stored

	quarantineSlot chan struct{} // a semaphore: one suspect is stored at a time
	searching      chan struct{} // a semaphore: one search by the beginning of an id at a time

	closeOnce sync.Once
}

// open connects and sets the streams up.
func open(ctx context.Context, o options, secrets *secrets) (*store, error) {
	s := &store{
		options: o, log: o.log.With(zap.String("stream", o.stream)),
		instance: rand.Text(), subjects: subjects{o.stream},
		maintenanceWake: make(chan struct{}, 1), ready: make(chan struct{}),
		quarantineSlot: make(chan struct{}, 1), searching: make(chan struct{}, 1),
	}
	s.current.Store(&o.settings)
	s.secrets.Store(secrets)
	s.policy.Store(&o.policy)
	s.link.init(o.limits.grace)
	s.setUpErr.Store(&errNotReady)
	s.home = s.newQueue(&destination{store: s, name: inbox.DefaultDestination})
	s.queues, s.known = map[string]*queue{inbox.DefaultDestination: s.home}, map[string]*destination{}
	s.health.init()
	s.paused = map[string]time.Time{}
	s.tracking.init()
	s.life, s.end = context.WithCancel(context.Background())
	err := s.connect(ctx)
	if err == nil {
		s.js, err = jetstream.New(s.conn, jetstream.WithDefaultTimeout(o.settings.publishTimeout))
	}
	if err == nil {
		err = s.replies.listen(s.conn)
	}
	if err == nil {
		if err = s.setUp(ctx); isUnreachable(err) && !o.startWithoutServer {
			err = fmt.Errorf("%w%s", err, startHint)
		}
	}
	later := err != nil && o.startWithoutServer && isUnreachable(err)
	if err != nil && !later {
		_ = s.Close() //nolint:contextcheck // what is leased is handed back though ctx has ended
		return nil, err
	}
	if later {
		s.log.Warn("NATS is out of reach: callbacks are answered 503 until it is there", zap.Error(err))
		s.work.Go(s.setUpLater)
	}
	s.work.Go(s.maintenanceLoop)
	s.home.keepAlive()
	s.work.Go(s.inspectLoop)
	return s, nil
}

// firstRetry and lastRetry bound the time until the streams are set up again.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// setUpLater sets the streams up once a server can be reached, and tries at once with
// each connection.
func (s *store) setUpLater() {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		up := s.link.next()
		err := s.tryToSetUp()
		if err == nil {
			s.log.Info("NATS was reached, the inbox works")
			return
		}
		s.setUpErr.Store(&err)
		if s.link.isUp() {
			s.log.Error("the inbox does not work yet", zap.Error(err))
		} else {
			wait = min(wait, time.Second)
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.life.Done():
			timer.Stop()
			return
		case <-up:
			wait = firstRetry / 2
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tryToSetUp sets the streams up, for as long as the connection lasts.
func (s *store) tryToSetUp() error {
	if !s.link.isUp() {
		return s.notConnected()
	}
	if now := *s.setUpErr.Load(); errors.Is(now, errNotReady) || errors.Is(now, errDisconnected) {
		s.setUpErr.Store(&errUnanswering)
	}
	ctx, cancel := s.link.bound(s.life, s.options.limits.setUp)
	defer cancel()
	err := s.setUp(ctx)
	if err != nil && !s.link.isUp() {
		return s.notConnected()
	}
	return err
}

// notConnected says that there is no connection, and whether there was one before.
func (s *store) notConnected() error {
	if s.link.wasUp() {
		return errDisconnected
	}
	return errNotReady
}

func (s *store) publishTimeout() time.Duration { return s.current.Load().publishTimeout }

// apply replaces the settings.
func (s *store) apply(n settings, secrets *secrets) {
	s.current.Store(&n)
	if secrets != nil {
		s.secrets.Store(secrets)
	}
	s.loaded.Store(true)
	s.requestRemake()
	s.wakeMaintenance()
}

// SetPolicy replaces the policy.
func (s *store) SetPolicy(p inbox.Policy) {
	if before := s.policy.Swap(&p); before.MaxEvent != p.MaxEvent && s.link.isUp() {
		if err := s.checkPayload(); err != nil {
			s.log.Error("the largest callbacks cannot be stored any more", zap.Error(err))
		}
	}
	s.wakeMaintenance()
}

func (s *store) wakeMaintenance() {
	select {
	case s.maintenanceWake <- struct{}{}:
	default:
	}
}

func (s *store) closed() bool { return s.life.Err() != nil }

// call begins a call: it returns a context that ends after the publish timeout
// or with the inbox. It fails at once if there has been no connection for a
// while.
func (s *store) call(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.closed() {
		return nil, nil, errClosed()
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	select {
	case <-s.ready:
	default:
		return nil, nil, *s.setUpErr.Load()
	}
	bounded, cancel := s.bound(ctx)
	if err := s.awaitConnection(bounded); err != nil {
		cancel()
		return nil, nil, s.failed(ctx, err)
	}
	return bounded, cancel, nil
}

// bound returns a context that ends after the publish timeout or with the inbox.
func (s *store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	bounded, cancel := context.WithTimeout(ctx, s.publishTimeout())
	stop := context.AfterFunc(s.life, cancel)
	return bounded, func() { stop(); cancel() }
}

// closeWait is how long Close waits for the server.
const closeWait = time.Second

// Close returns every lease and closes the connection.
func (s *store) Close() error {
	s.closeOnce.Do(func() {
		s.end()
		s.making.Lock()   // what makes a queue has ended then
		s.making.Unlock() //nolint:staticcheck // as above
		if s.conn == nil {
			return
		}
		s.work.Wait()
		if s.conn.IsConnected() {
			s.releaseAll()
			s.releaseTasks()
			_ = s.conn.FlushTimeout(closeWait)
		}
		s.conn.Close()
	})
	return nil
}

// releaseAll returns what is leased and what was handed out to all queues.
func (s *store) releaseAll() {
	var wg sync.WaitGroup
	for _, q := range s.openQueues() {
		wg.Go(func() {
			q.withdraw(context.Background(), q.leaser.early())
			q.leaser.releaseAll(s.conn)
		})
	}
	wg.Wait()
}

// Interface guards
var (
	_ inbox.Inbox    = (*store)(nil)
	_ inbox.Importer = (*store)(nil)
	_ inbox.Finder   = (*store)(nil)
)
