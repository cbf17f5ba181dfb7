package sqlite

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// hook is an op that runs a function of the test in the writer's goroutine.
type hook struct {
	request
	f    func(t *tx) error
	grow bool
}

func (h *hook) apply(t *tx) error { return h.f(t) }
func (h *hook) grows() bool       { return h.grow }

// inWriter runs f in a transaction.
func inWriter(s *store, f func(t *tx) error) error {
	h := &hook{request: newRequest(), f: f}
	h.ctx = context.Background()
	if err := s.do(h.ctx, h); err != nil {
		return err
	}
	return h.err
}

// busy keeps the writer busy until n ops have queued, which then come in one
// batch. It returns a function that waits for that and lets the writer go on.
func busy(t *testing.T, s *store, n int) (release func()) {
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
		require.Eventually(t, func() bool { return len(s.requests) == n }, 30*time.Second, time.Millisecond)
		close(gate)
		require.NoError(t, <-done)
	}
}

// putAll puts events at once and returns the errors.
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
	return with(t, filepath.Join(t.TempDir(), "inbox.db"), l, change...)
}

func TestOpsThatQueueShareATransaction(t *testing.T) {
	s := openTest(t)
	const n = 20
	release := busy(t, s, n+1)
	wait := putAll(s, newEvents(n))
	require.Eventually(t, func() bool { return len(s.requests) == n }, 30*time.Second, time.Millisecond)
	added := make(chan int, 1)
	done := make(chan error, 1)
	go func() {
		done <- inWriter(s, func(t *tx) error {
			added <- len(t.added)
			return nil
		})
	}()
	release()
	for _, err := range wait() {
		require.NoError(t, err)
	}
	require.NoError(t, <-done)
	require.Equal(t, n, <-added)
}

func TestDuplicatesInOneTransaction(t *testing.T) {
	s := openTest(t)
	const n = 10
	e := newEvent()
	release := busy(t, s, n)
	duplicates := make(chan bool, n)
	for range n {
		go func() {
			duplicateOf, err := s.Put(context.Background(), e)
			duplicates <- duplicateOf == e.ID && err == nil
		}()
	}
	release()
	count := 0
	for range n {
		if <-duplicates {
			count++
		}
	}
	require.Equal(t, n-1, count)
}

func TestOpThatFailsFailsAlone(t *testing.T) {
	s := openTest(t)
	events := newEvents(5)
	release := busy(t, s, len(events)+1)
	wait := putAll(s, events)
	done := make(chan error, 1)
	go func() {
		done <- inWriter(s, func(t *tx) error {
			return t.c.exec(`INSERT INTO attempts VALUES (NULL, 1, 1, 1, 1, '')`)
		})
	}()
	release()
	require.ErrorContains(t, <-done, "NOT NULL")
	for _, err := range wait() {
		require.NoError(t, err)
	}
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, len(events), stats.Events[inbox.Pending])
	leases, err := s.Lease(context.Background(), 100)
	require.NoError(t, err)
	require.Len(t, leases, len(events))
}

// What the memory knows is what was committed: an op whose transaction fails
// leaves nothing behind.
func TestFailedTransactionLeavesNothing(t *testing.T) {
	s := openTest(t)
	ctx := context.Background()
	first, final := newEvent(), newEvent()
	first.Status = inbox.InProgress
	final.TaskID, final.ID = first.TaskID, inbox.NewID(first.TaskID, []byte("final"))
	_, err := s.Put(ctx, first)
	require.NoError(t, err)
	before, err := s.Stats(ctx)
	require.NoError(t, err)
	fail := func(o op) {
		t.Helper()
		err := inWriter(s, func(t *tx) error {
			if err := o.apply(t); err != nil {
				return err
			}
			return t.c.exec(`INSERT INTO attempts VALUES (NULL, 1, 1, 1, 1, '')`)
		})
		require.Error(t, err)
	}
	raw, err := inbox.ParseID(final.ID)
	require.NoError(t, err)
	fail(&put{event: final, id: raw})
	after, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, before.Events, after.Events)
	_, _, err = s.Get(ctx, final.ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)

	// The event that the failed one would have superseded can be leased.
	leases, err := s.Lease(ctx, 10)
	require.NoError(t, err)
	require.Len(t, leases, 1)
	require.Equal(t, first.ID, leases[0].Event.ID)

	// A lease whose settling failed is still held.
	o := inbox.Outcome{Lease: leases[0], Verdict: inbox.Deliver}
	fail(&settle{outcomes: []inbox.Outcome{o}})
	require.NoError(t, s.Settle(ctx, o))
	_, err = s.Put(ctx, final)
	require.NoError(t, err)
}

func TestOpsWhoseCallerHasLeftAreNotDone(t *testing.T) {
	s := openTest(t)
	ctx, cancel := context.WithCancel(context.Background())
	release := busy(t, s, 1)
	e := newEvent()
	done := make(chan error, 1)
	go func() {
		_, err := s.Put(ctx, e)
		done <- err
	}()
	require.Eventually(t, func() bool { return len(s.requests) == 1 }, 30*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	release()
	duplicateOf, err := s.Put(context.Background(), e)
	require.NoError(t, err)
	require.Empty(t, duplicateOf)
}

func TestCloseRefusesWhatHasQueued(t *testing.T) {
	s := openTest(t)
	release := busy(t, s, 5)
	wait := putAll(s, newEvents(5))
	require.Eventually(t, func() bool { return len(s.requests) == 5 }, 30*time.Second, time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	<-s.closing
	release()
	require.NoError(t, <-closed)
	for _, err := range wait() {
		if err != nil { // the writer may have begun one more batch
			require.ErrorIs(t, err, inbox.ErrClosed)
		}
	}
}
