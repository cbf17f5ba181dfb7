package sqlite

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// eventBody is as large as a callback with a few images.
var eventBody = []byte(`{"pad":"` + strings.Repeat("x", 1100) + `"}`)

// newEvent makes an event of a task of its own.
func newEvent() *inbox.Event {
	e := inboxtest.NewEvent(rand.Text(), inbox.Completed)
	e.Body = eventBody
	return e
}

// load puts n events from several goroutines.
func load(b testing.TB, s inbox.Inbox, n, goroutines int) {
	b.Helper()
	loadTo(b, s, n, goroutines, inbox.DefaultDestination)
}

// loadTo puts n events for some destinations from several goroutines.
func loadTo(b testing.TB, s inbox.Inbox, n, goroutines int, destinations ...string) {
	b.Helper()
	loadWith(b, s, n, goroutines, func(e *inbox.Event) { e.Destinations = destinations })
}

// loadNotices puts n events in progress whose tasks are to be tracked.
func loadNotices(b testing.TB, s inbox.Inbox, n, goroutines int, at time.Time) {
	b.Helper()
	loadWith(b, s, n, goroutines, func(e *inbox.Event) { e.Status, e.Track = inbox.InProgress, at })
}

func loadWith(b testing.TB, s inbox.Inbox, n, goroutines int, change func(*inbox.Event)) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				e := newEvent()
				change(e)
				if _, err := s.Put(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// queuesOf returns the queues of some destinations.
func queuesOf(t require.TestingT, s inbox.Inbox, names ...string) []inbox.Queue {
	queues := make([]inbox.Queue, len(names))
	for i, name := range names {
		var err error
		queues[i], err = s.Queue(context.Background(), name)
		require.NoError(t, err)
	}
	return queues
}

// smallLimits are so small that tests reach each of them soon.
var smallLimits = limits{
	batch:        4,
	queue:        2,
	indexEntries: 5,
	ahead:        3,
	aheadBytes:   2000,
	leastPart:    12,
	mostParts:    4,
	filtersMost:  1024,
	fillStep:     3,
	savedEvents:  4,
	flushStep:    2,
	retireStep:   3,
	sweepStep:    3,
	sweepMin:     2,
	logFrames:    8,
	scan:         10,
	keptAttempts: 100,
	reserve:      4096,
	lockWait:     10 * time.Second,
	bigTask:      2,
	bigIDs:       1000,
	checkedSize:  1 << 20,
}

// testOptions returns the options of a test's inbox.
func testOptions(path string, l limits, change ...func(*options)) options {
	o := options{
		path: path, maxSize: defaultMaxSize, policy: inbox.Policy{Keep: time.Hour, Quarantine: 10},
		log: zap.NewNop(), now: time.Now, sleep: time.Sleep, limits: l, schema: schema,
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// openWith opens the file with the limits. It is closed when the test ends.
func openWith(t testing.TB, path string, l limits, change ...func(*options)) *store {
	t.Helper()
	s, err := open(context.Background(), testOptions(path, l, change...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// crashImage copies the file and its log, which is what a crash leaves. The log
// must not be copied into the file meanwhile.
func crashImage(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "image.db")
	copyFile(t, path, to)
	copyFile(t, path+"-wal", to+"-wal")
	return to
}

// hook is an op that calls a function of the test in the writer's goroutine.
type hook struct {
	request
	f    func(t *tx) error
	grow bool
}

func (h *hook) apply(t *tx) error { return h.f(t) }

func (h *hook) grows() bool { return h.grow }

// inWriter runs f in a transaction.
func inWriter(s *store, f func(t *tx) error) error {
	return s.submit(&hook{request: newRequest(context.Background()), f: f})
}

// holdWriter blocks the writer until n ops are waiting, which then make one
// batch. The returned function waits for that and unblocks the writer.
func holdWriter(t *testing.T, s *store, n int) (release func()) {
	t.Helper()
	entered, gate := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- inWriter(s, func(*tx) error {
			close(entered)
			<-gate
			return nil
		})
	}()
	<-entered
	return func() {
		t.Helper()
		inboxtest.Eventually(t, func() bool { return len(s.requests) == n })
		close(gate)
		require.NoError(t, <-done)
	}
}

// putAll puts events concurrently. The returned function waits and returns the
// errors.
func putAll(s *store, events []*inbox.Event) (wait func() []error) {
	errs := make([]error, len(events))
	var wg sync.WaitGroup
	for i, e := range events {
		wg.Go(func() { _, errs[i] = s.Put(context.Background(), e) })
	}
	return func() []error {
		wg.Wait()
		return errs
	}
}

func newEvents(n int) []*inbox.Event {
	events := make([]*inbox.Event, n)
	for i := range events {
		events[i] = newEvent()
	}
	return events
}

func openTest(t *testing.T, change ...func(*options)) *store {
	t.Helper()
	l := defaultLimits
	l.reserve = 4096
	return openWith(t, filepath.Join(t.TempDir(), "inbox.db"), l, change...)
}

// Most tests use one destination alone, so they call the queue's methods on the inbox.

func (s *store) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	return s.usual.Lease(ctx, max)
}

func (s *store) Pick(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	return s.usual.Pick(ctx, w)
}

func (s *store) Settle(ctx context.Context, outcomes ...inbox.Outcome) error {
	return s.usual.Settle(ctx, outcomes...)
}

func (s *store) SetHold(ctx context.Context, h inbox.Hold) error { return s.usual.SetHold(ctx, h) }

func (s *store) Hold(ctx context.Context) (inbox.Hold, error) { return s.usual.Hold(ctx) }

// fill puts events until there is no room.
func fill(t *testing.T, s *store) (n int) {
	t.Helper()
	for {
		_, err := s.Put(context.Background(), newEvent())
		if err != nil {
			require.ErrorIs(t, err, inbox.ErrFull)
			return n
		}
		n++
		require.Less(t, n, 100_000)
	}
}

// deliver delivers n events.
func deliver(t *testing.T, s *store, n int) {
	t.Helper()
	for n > 0 {
		leases, err := s.Lease(context.Background(), min(n, 100))
		require.NoError(t, err)
		outcomes := make([]inbox.Outcome, len(leases))
		for i, l := range leases {
			outcomes[i] = inboxtest.Outcome(inbox.Deliver, l)
		}
		require.NoError(t, s.Settle(context.Background(), outcomes...))
		n -= len(leases)
	}
}

// limitPages limits the size of the file, which has the effect of a full disk.
func limitPages(t *testing.T, s *store, pages string) {
	t.Helper()
	require.NoError(t, inWriter(s, func(t *tx) error {
		_, err := t.c.number(`PRAGMA max_page_count = ` + pages)
		return err
	}))
}

// clock is a time that the test sets.
type clock struct{ atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time { return time.Unix(0, c.Load()) }

func (c *clock) advance(d time.Duration) { c.Add(int64(d)) }

func number(t *testing.T, s *store, query string) (n int64) {
	t.Helper()
	require.NoError(t, s.read(context.Background(), func(c *conn) (err error) {
		n, err = c.number(query)
		return err
	}))
	return n
}

// copyFile copies a file if it exists.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	out, err := os.Create(to)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, out.Close())
}

// openErr returns the error of opening a file.
func openErr(t *testing.T, path string, change ...func(*options)) error {
	t.Helper()
	l := smallLimits
	l.lockWait = 0
	s, err := open(context.Background(), testOptions(path, l, change...))
	if err == nil {
		require.NoError(t, s.Close())
	}
	require.Error(t, err)
	return err
}

// backupOf returns the path of a new backup of the inbox.
func backupOf(t *testing.T, s *store) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	require.NoError(t, s.Backup(context.Background(), func(inbox.BackupInfo) (io.Writer, error) { return f, nil }))
	require.NoError(t, f.Close())
	return path
}
