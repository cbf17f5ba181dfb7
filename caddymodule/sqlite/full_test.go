package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestMaxSize(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	n := fill(t, s)
	require.Greater(t, n, 500)
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.InDelta(t, stats.MaxBytes, stats.Bytes, float64(stats.MaxBytes)/10)
	require.ErrorIs(t, s.Quarantine(ctx, &inbox.Suspect{Status: 400, Body: make([]byte, 10_000)}), inbox.ErrFull)

	// A repeat needs no room, and deliveries go on.
	leases, err := s.Lease(ctx, 1)
	require.NoError(t, err)
	duplicateOf, err := s.Put(ctx, leases[0].Event)
	require.NoError(t, err)
	require.NotEmpty(t, duplicateOf)
	inboxtest.Settle(t, s, inbox.Deliver, leases[0])
	deliver(t, s, n-1)

	// Retention makes room, without a restart.
	s.SetPolicy(inbox.Policy{Keep: time.Microsecond})
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(ctx, newEvent())
		return err == nil
	})
	inboxtest.Eventually(t, func() bool {
		stats, err := s.Stats(ctx)
		return err == nil && stats.Events[inbox.Delivered] == 0
	})
	info, err := os.Stat(s.path)
	require.NoError(t, err)
	require.Greater(t, fill(t, s), n/2, "freed pages are used again")
	after, err := os.Stat(s.path)
	require.NoError(t, err)
	require.LessOrEqual(t, after.Size(), info.Size()*3/2)
}

// Delivered events make room early, the oldest first, rather than that a new
// event is refused. Pending and dead ones stay.
func TestDeliveredEventsMakeRoom(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	dead, waiting := newEvent(), newEvent()
	inboxtest.Put(t, s, dead, waiting)
	leases, err := s.Lease(ctx, 2)
	require.NoError(t, err)
	require.NoError(t, s.Settle(ctx,
		inbox.Outcome{Lease: leases[0], Verdict: inbox.GiveUp},
		inbox.Outcome{Lease: leases[1], Verdict: inbox.Release, Due: time.Now().Add(time.Hour)}))

	first := newEvent()
	inboxtest.Put(t, s, first)
	deliver(t, s, 1)
	var last *inbox.Event
	for range 5000 { // several times as many as fit
		last = newEvent()
		inboxtest.Eventually(t, func() bool {
			_, err := s.Put(ctx, last)
			return err == nil
		})
		deliver(t, s, 1)
	}
	_, err = s.Get(ctx, first.ID)
	require.ErrorIs(t, err, inbox.ErrNotFound, "the oldest went first")
	_, err = s.Get(ctx, last.ID)
	require.NoError(t, err, "the newest is kept")
	for _, e := range []*inbox.Event{dead, waiting} {
		_, err = s.Get(ctx, e.ID)
		require.NoError(t, err)
	}
	info, err := os.Stat(s.path)
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(2<<20))
}

func TestMaxSizeCanBeRaised(t *testing.T) {
	s := openTest(t, func(o *options) { o.maxSize = 1 << 20 })
	fill(t, s)
	(&Inbox{MaxSize: 2 << 20}).Apply(s, inbox.Policy{Keep: time.Hour})
	inboxtest.Put(t, s, newEvent())
}

// On a full disk puts fail, alone or in a batch, deliveries are recorded, and
// the inbox recovers by itself once there is room.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	load(t, s, 30, 4)
	leases, err := s.Lease(ctx, 10)
	require.NoError(t, err)
	limitPages(t, s, "1") // no more than there are
	n := fill(t, s)       // the last page may have room
	require.Less(t, n, 10)
	_, err = s.Put(ctx, newEvent())
	require.ErrorContains(t, err, "the disk of "+s.path+" is full")

	release := holdWriter(t, s, 4)
	wait := putAll(s, newEvents(3))
	done := make(chan error, 1)
	go func() { done <- s.Settle(ctx, inbox.Outcome{Lease: leases[0], Verdict: inbox.Deliver}) }()
	release()
	require.NoError(t, <-done)
	for _, err := range wait() {
		require.ErrorIs(t, err, inbox.ErrFull)
	}
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, [...]int64{int64(30 + n - 1), 1, 0, 0, 0}, stats.Events)

	limitPages(t, s, "1000000")
	inboxtest.Put(t, s, newEvent())
}

// An outcome that still finds no room gets that of the reserve. Events are
// taken again once the reserve is restored.
func TestReserve(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	s := openTest(t, func(o *options) { o.now = c.now })
	require.FileExists(t, s.path+".reserve")
	e := newEvent()
	inboxtest.Put(t, s, e)
	failures := 0
	require.NoError(t, inWriter(s, func(t *tx) error {
		if failures++; failures < 3 { // at first, and when the ops that need no room are retried
			_, err := t.c.number(`PRAGMA max_page_count = 1`)
			if err != nil {
				return err
			}
			return t.c.exec(`CREATE TABLE too_much AS SELECT zeroblob(100000)`)
		}
		_, err := t.c.number(`PRAGMA max_page_count = 1000000`)
		return err
	}))
	require.Equal(t, 3, failures)
	require.NoFileExists(t, s.path+".reserve")
	_, err := s.Put(ctx, newEvent())
	require.ErrorIs(t, err, inbox.ErrFull)
	duplicateOf, err := s.Put(ctx, e)
	require.NoError(t, err)
	require.NotEmpty(t, duplicateOf)
	deliver(t, s, 1)
	require.NoError(t, os.Mkdir(s.path+".reserve", 0o700)) // so that it cannot be restored
	c.advance(time.Minute)
	_, err = s.Put(ctx, newEvent())
	require.ErrorIs(t, err, inbox.ErrFull)
	require.NoError(t, os.Remove(s.path+".reserve"))
	c.advance(time.Minute)
	inboxtest.Put(t, s, newEvent())
	require.FileExists(t, s.path+".reserve")
}

func TestOpenRestoresTheReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	require.NoError(t, openWith(t, path, smallLimits).Close())
	require.NoError(t, os.Truncate(path+".reserve", 5))
	openWith(t, path, smallLimits)
	info, err := os.Stat(path + ".reserve")
	require.NoError(t, err)
	require.Equal(t, smallLimits.reserve, info.Size())
}

// The log stays short even if somebody reads all the time.
func TestLogStaysShort(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, _, err := s.List(ctx, inbox.Filter{}, inbox.Page{}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	load(t, s, 1000, 8)
	cancel()
	<-done
	info, err := os.Stat(s.path + "-wal")
	require.NoError(t, err)
	// With the small limits a batch and a step of maintenance write far fewer
	// than 100 pages.
	require.Less(t, info.Size(), (logOverrun*smallLimits.logFrames+100)*pageSize, fmt.Sprint(info.Size()/pageSize, " pages"))
	require.NoError(t, s.Close())
	require.NoFileExists(t, s.path+"-wal")
}

// The log takes no room from events if the checkpointer is behind.
func TestTheWriterWaitsForACheckpointThatIsBehind(t *testing.T) {
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	endWhenWaitedFor(t, s)
	require.Greater(t, fill(t, s), 500)
	require.LessOrEqual(t, logSize(s), int64(2<<20/logShare*logKept))
}

// Also if the inbox has much room: the disk may have less.
func TestALogThatGrowsFasterThanItIsCopiedIsWaitedFor(t *testing.T) {
	s := openTest(t, func(o *options) { o.limits.logFrames = 8 })
	endWhenWaitedFor(t, s)
	load(t, s, 500, 1)
	require.Less(t, logSize(s), int64(2*logOverrun*8*pageSize))
}

// endWhenWaitedFor begins a checkpoint that does not get on until the writer waits for it.
func endWhenWaitedFor(t *testing.T, s *store) {
	t.Helper()
	ended := make(chan struct{})
	require.NoError(t, inWriter(s, func(x *tx) error {
		k := x.w.checkpoint
		k.ended = ended
		k.state.Store(logCopying)
		return nil
	}))
	go func() {
		defer close(ended)
		for waits := 0; waits < 50 && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
			if waits++; len(s.requests) == 0 {
				waits = 0
			}
		}
		s.checkpoint.state.Store(logCopied)
	}()
}

// While somebody reads for long, the log grows, and the writer does not try to copy it with
// each transaction.
func TestALogThatCannotBeCopiedIsWaitedForNowAndThen(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.limits.logFrames = 8 })
	reader, err := connect(ctx, s.path)
	require.NoError(t, err)
	require.NoError(t, reader.exec(`BEGIN`))
	_, err = reader.number(`SELECT count(*) FROM events`)
	require.NoError(t, err)
	waited := make(map[int64]bool)
	for range 300 {
		_, err := s.Put(ctx, newEvent())
		require.NoError(t, err)
		require.NoError(t, inWriter(s, func(x *tx) error {
			waited[x.w.size.waited] = true
			return nil
		}))
	}
	require.Greater(t, len(waited), 2)
	require.LessOrEqual(t, len(waited), 1+int(logSize(s)/(logOverrun*8*pageSize)))
	require.NoError(t, reader.close())
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(ctx, newEvent())
		return err == nil && logSize(s) <= 2*logKept*8*pageSize
	})
}

// A log that grew while somebody read does not keep the inbox full once it was copied.
func TestALongLogMakesRoomByItself(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	reader, err := connect(ctx, s.path)
	require.NoError(t, err)
	require.NoError(t, reader.exec(`BEGIN`))
	_, err = reader.number(`SELECT count(*) FROM events`)
	require.NoError(t, err)
	n := fill(t, s)
	require.Greater(t, logSize(s), int64(1<<20))
	require.NoError(t, reader.close())
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(ctx, newEvent())
		return err == nil
	})
	require.Greater(t, fill(t, s), n)
}

func logSize(s *store) int64 {
	info, err := os.Stat(s.path + walSuffix)
	if err != nil {
		return 0
	}
	return info.Size()
}
