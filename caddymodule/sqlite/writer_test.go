package sqlite

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestOpsThatQueueShareATransaction(t *testing.T) {
	s := openTest(t)
	const n = 20
	release := holdWriter(t, s, n+1)
	wait := putAll(s, newEvents(n))
	inboxtest.Eventually(t, func() bool { return len(s.requests) == n })
	added := countAdded(s)
	release()
	for _, err := range wait() {
		require.NoError(t, err)
	}
	require.Equal(t, n, <-added)
}

// countAdded queues an op that tells how many events are stored before it in its transaction.
func countAdded(s *store) <-chan int {
	added := make(chan int, 2)
	go func() {
		err := inWriter(s, func(t *tx) error {
			added <- len(t.added)
			return nil
		})
		if err != nil {
			added <- -1
		}
	}()
	return added
}

// held queues so many events while the writer is held, and releases it.
func held(t *testing.T, s *store, n int) (wait func() []error) {
	t.Helper()
	release := holdWriter(t, s, n)
	wait = putAll(s, newEvents(n))
	release()
	return wait
}

func TestManyOpsWaitForThoseThatAreOnTheirWay(t *testing.T) {
	pausing, awake := make(chan time.Duration), make(chan struct{})
	s := openTest(t, func(o *options) {
		o.sleep = func(d time.Duration) {
			pausing <- d
			<-awake
		}
	})
	first := held(t, s, manyOps)
	require.Equal(t, gatherPause, <-pausing)
	const late = manyOps - 2
	second := putAll(s, newEvents(late))
	inboxtest.Eventually(t, func() bool { return len(s.requests) == late })
	added := countAdded(s)
	inboxtest.Eventually(t, func() bool { return len(s.requests) == late+1 })
	close(awake)
	for _, err := range append(first(), second()...) {
		require.NoError(t, err)
	}
	require.Equal(t, manyOps+late, <-added)
}

func TestABatchThatIsSmallOrLargeWaitsForNobody(t *testing.T) {
	var pauses atomic.Int32
	s := openTest(t, func(o *options) { o.sleep = func(time.Duration) { pauses.Add(1) } })
	for _, c := range []struct {
		n    int
		want int32
	}{{1, 0}, {manyOps - 1, 0}, {manyOps, 1}, {enoughOps - 1, 2}, {enoughOps, 2}} {
		for _, err := range held(t, s, c.n)() {
			require.NoError(t, err)
		}
		require.Equal(t, c.want, pauses.Load(), c.n)
	}
}

func TestDuplicatesInOneTransaction(t *testing.T) {
	s := openTest(t)
	const n = 10
	e := newEvent()
	release := holdWriter(t, s, n)
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
	release := holdWriter(t, s, len(events)+1)
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

// The state in memory is what was committed: an op whose transaction fails
// leaves no trace.
func TestFailedTransactionLeavesNothing(t *testing.T) {
	s := openTest(t)
	ctx := context.Background()
	first, final := newEvent(), newEvent()
	first.Status = inbox.InProgress
	final.TaskID, final.ID = first.TaskID, inbox.NewID(first.TaskID, []byte("final"))
	inboxtest.Put(t, s, first)
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
	_, err = s.Get(ctx, final.ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)

	// The event that the failed op would have superseded can be leased.
	leases, err := s.Lease(ctx, 10)
	require.NoError(t, err)
	require.Len(t, leases, 1)
	require.Equal(t, first.ID, leases[0].Event.ID)

	// A lease that could not be settled is still held.
	o := inbox.Outcome{Lease: leases[0], Verdict: inbox.Deliver}
	fail(&settle{queue: s.usual, outcomes: []inbox.Outcome{o}})
	require.NoError(t, s.Settle(ctx, o))
	inboxtest.Put(t, s, final)
}

func TestOpsWhoseCallerHasLeftAreNotDone(t *testing.T) {
	s := openTest(t)
	ctx, cancel := context.WithCancel(context.Background())
	release := holdWriter(t, s, 1)
	e := newEvent()
	done := make(chan error, 1)
	go func() {
		_, err := s.Put(ctx, e)
		done <- err
	}()
	inboxtest.Eventually(t, func() bool { return len(s.requests) == 1 })
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	release()
	duplicateOf, err := s.Put(context.Background(), e)
	require.NoError(t, err)
	require.Empty(t, duplicateOf)
}

func TestCloseRefusesWhatHasQueued(t *testing.T) {
	s := openTest(t)
	release := holdWriter(t, s, 5)
	wait := putAll(s, newEvents(5))
	inboxtest.Eventually(t, func() bool { return len(s.requests) == 5 })
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
