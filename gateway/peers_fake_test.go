package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	zaplog "go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// cluster is an inbox in memory that several gateways share. It leases each event once,
// in any order.
type cluster struct {
	mu       sync.Mutex
	changed  chan struct{} // closed with each change
	events   []*inbox.Event
	held     inbox.Hold
	troubles []inbox.Trouble // all that were reported
	last     *inbox.Trouble
	teller   string
	watchers map[*seat]bool
	mute     bool // peers do not hear of holds
	away     bool // holds cannot be read

	watchErr, tellErr error
	tellGate          chan struct{} // if not nil, TellTrouble waits for it
	watches           int
}

func newCluster() *cluster {
	return &cluster{changed: make(chan struct{}), watchers: map[*seat]bool{}}
}

func (c *cluster) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) put(n int) {
	c.change(func() {
		for range n {
			c.events = append(c.events, &inbox.Event{ID: "id", TaskID: fmt.Sprint("task", n), ReceivedAt: time.Now()})
		}
	})
}

func (c *cluster) told() []inbox.Trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]inbox.Trouble(nil), c.troubles...)
}

// seat is one gateway's inbox.
type seat struct {
	inbox.Inbox // the rest is never called

	t       *testing.T
	name    string
	cluster *cluster
	closed  bool
	news    []func(hold func(inbox.Hold), trouble func(inbox.Trouble)) // for the watcher
}

func (m *seat) wait(ctx context.Context, ready func() bool) error {
	for {
		m.cluster.mu.Lock()
		changed, done := m.cluster.changed, m.closed || ready()
		m.cluster.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *seat) Lease(ctx context.Context, most int) (leases []*inbox.Lease, err error) {
	c := m.cluster
	err = m.wait(ctx, func() bool {
		for ; len(leases) < most && len(c.events) > 0; c.events = c.events[1:] {
			leases = append(leases, &inbox.Lease{Event: c.events[0], Attempt: 1})
		}
		return len(leases) > 0
	})
	if err == nil && leases == nil {
		err = inbox.ErrClosed
	}
	return leases, err
}

func (m *seat) Settle(_ context.Context, outcomes ...inbox.Outcome) error {
	m.cluster.change(func() {
		for _, o := range outcomes {
			if o.Verdict == inbox.Release || o.Verdict == inbox.Retry {
				m.cluster.events = append(m.cluster.events, o.Lease.Event)
			}
		}
	})
	return nil
}

func (m *seat) Hold(context.Context) (inbox.Hold, error) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if m.cluster.away {
		return inbox.Hold{}, errors.New("out of reach")
	}
	return m.cluster.held, nil
}

func (m *seat) SetHold(_ context.Context, h inbox.Hold) error {
	m.cluster.change(func() {
		m.cluster.held = h
		if !m.cluster.mute {
			m.others(func(hold func(inbox.Hold), _ func(inbox.Trouble)) { hold(h) })
		}
	})
	return nil
}

func (m *seat) others(tell func(func(inbox.Hold), func(inbox.Trouble))) {
	for other := range m.cluster.watchers {
		if other != m {
			other.news = append(other.news, tell)
		}
	}
}

func (m *seat) TellTrouble(ctx context.Context, t inbox.Trouble) error {
	if gate := m.cluster.tellGate; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if m.cluster.tellErr != nil {
		return m.cluster.tellErr
	}
	m.cluster.change(func() {
		assert.False(m.t, m.closed, "told after Close")
		m.cluster.troubles = append(m.cluster.troubles, t)
		m.cluster.last, m.cluster.teller = &t, m.name
		m.others(func(_ func(inbox.Hold), trouble func(inbox.Trouble)) { trouble(t) })
	})
	return nil
}

func (m *seat) Watch(ctx context.Context, hold func(inbox.Hold), trouble func(inbox.Trouble)) error {
	c := m.cluster
	var err error
	c.change(func() {
		c.watches++
		if err = c.watchErr; err != nil {
			return
		}
		c.watchers[m] = true
		now, last := c.held, c.last
		m.news = append(m.news, func(hold func(inbox.Hold), trouble func(inbox.Trouble)) {
			hold(now)
			if last != nil && c.teller != m.name {
				trouble(*last)
			}
		})
	})
	if err != nil {
		return err
	}
	defer c.change(func() { delete(c.watchers, m) })
	for {
		var news []func(func(inbox.Hold), func(inbox.Trouble))
		err := m.wait(ctx, func() bool {
			news, m.news = m.news, nil
			return len(news) > 0 || c.watchErr != nil
		})
		for _, tell := range news {
			tell(hold, trouble)
		}
		c.mu.Lock()
		err = errors.Join(err, c.watchErr)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (m *seat) Stats(context.Context) (inbox.Stats, error) { return inbox.Stats{}, nil }

func (m *seat) SetPolicy(inbox.Policy) {}

func (m *seat) Queue(context.Context, string) (inbox.Queue, error) { return m, nil }

func (m *seat) Close() error {
	m.cluster.change(func() {
		assert.NotContains(m.t, m.cluster.watchers, m, "closed while it is watched")
		m.closed = true
	})
	return nil
}

// edge is one gateway of a cluster.
type edge struct {
	t       *testing.T
	name    string
	cluster *cluster
	logs    *zaplog.ObservedLogs
	down    bool                            // guarded by cluster.mu
	answer  func(visit int) dispatch.Result // if it is not down; nil: 204
	visits  int
	newest  *Attachment
	lenient bool // it starts without the storage
}

// StartsWithoutStorage implements LenientStorage.
func (e *edge) StartsWithoutStorage() bool { return e.lenient }

// Open and Apply implement Storage.
func (e *edge) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return &seat{t: e.t, name: e.name, cluster: e.cluster}, nil
}

func (e *edge) Apply(inbox.Inbox, inbox.Policy) {}

func (e *edge) attempt(context.Context, *inbox.Lease) dispatch.Result {
	e.cluster.mu.Lock()
	e.visits++
	visit, down, answer := e.visits, e.down, e.answer
	e.cluster.mu.Unlock()
	switch {
	case down:
		return dispatch.Result{Unreachable: true, Reason: "connection refused"}
	case answer != nil:
		return answer(visit)
	default:
		return dispatch.Result{Status: 204}
	}
}

// fakeMetrics remembers which destinations have metrics, and counts events that could
// not be judged.
type fakeMetrics struct {
	mu            sync.Mutex
	dropped       int64
	failed        int
	confirmations []Confirmation
	kept          map[string]bool
}

func (m *fakeMetrics) Destination(name string) DestinationMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = make(map[string]bool)
	}
	m.kept[name] = true
	return m
}

func (m *fakeMetrics) Forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, name)
}

func (*fakeMetrics) Attempted(inbox.Verdict, time.Duration, time.Duration) {}

func (m *fakeMetrics) MatchFailed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed++
}

func (m *fakeMetrics) Confirmation(c Confirmation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirmations = append(m.confirmations, c)
}

func (m *fakeMetrics) NoticesDropped(n int64) { m.dropped += n }

func dispatchSettings(attempt func(context.Context, *inbox.Lease) dispatch.Result) dispatch.Settings {
	return dispatch.Settings{
		Attempt: attempt, Concurrency: 32, Timeout: 30 * time.Second,
		First: 5 * time.Second, Max: time.Hour, GiveUp: 72 * time.Hour,
	}
}

// toDefault is the config of the default destination alone.
func toDefault(attempt func(context.Context, *inbox.Lease) dispatch.Result) []Destination {
	return []Destination{{Name: inbox.DefaultDestination, Dispatch: dispatchSettings(attempt)}}
}

// startEdge starts a gateway that is stopped at the test's end.
func startEdge(t *testing.T, c *cluster, name string) *edge {
	t.Helper()
	e := &edge{t: t, name: t.Name() + name, cluster: c}
	e.load()
	t.Cleanup(e.stop)
	return e
}

// load attaches a config, and detaches the one before as a reload does.
func (e *edge) load() {
	e.t.Helper()
	core, logs := zaplog.New(zap.InfoLevel)
	c := &Config{
		Name: e.name, Key: "cluster:" + e.name, Storage: e, Destinations: toDefault(e.attempt),
		Grace: time.Second, Logger: zap.New(core), Metrics: new(fakeMetrics),
	}
	ref := NewRef(e.name)
	ref.journal.running++ // so that no Caddy events are made
	att, err := Attach(context.Background(), c, ref)
	if !e.lenient && e.cluster.away {
		require.ErrorContains(e.t, err, "reading whether deliveries are held by hand: out of reach")
		return
	}
	require.NoError(e.t, err)
	e.stop()
	e.newest, e.logs = att, logs
}

func (e *edge) stop() {
	if e.newest == nil {
		return
	}
	e.newest.Detach()
	require.NoError(e.t, e.newest.Release())
	e.newest.refs[0].Close()
	e.newest = nil
}

// operator returns the gateway as an operator has it.
func (e *edge) operator() *operated {
	return &operated{e.newest.gateway, e.newest.config, e.newest.journal, e.newest.since}
}

func (e *edge) lane() *lane { return e.newest.gateway.lane(inbox.DefaultDestination) }

func (e *edge) holds() []dispatch.Holding { return e.lane().dispatcher.Holds() }

func (e *edge) visited() int {
	e.cluster.mu.Lock()
	defer e.cluster.mu.Unlock()
	return e.visits
}

// lines counts the log lines with that text.
func (e *edge) lines(text string) int { return e.logs.FilterMessage(text).Len() }

// pass lets time go by, and waits until nothing more happens.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
