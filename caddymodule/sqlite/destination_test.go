package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// eventFor makes an event that goes to these destinations.
func eventFor(destinations ...string) *inbox.Event {
	e := newEvent()
	e.Destinations = append([]string{}, destinations...)
	return e
}

// known returns the names of the destinations in the summary.
func known(t *testing.T, s *store) (names []string) {
	t.Helper()
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	for _, d := range stats.Destinations {
		names = append(names, d.Name)
	}
	return names
}

func slotTables(t *testing.T, s *store) int64 {
	t.Helper()
	return number(t, s, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB '*_[0-9]*'`)
}

// A destination for which nobody asks is there while anything is left of it. Its tables
// and its hold go a while after the inbox was opened, so that a hold of one that never
// had an event outlasts a restart.
func TestDestinationsAreForgotten(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	c := newClock()
	reopen := func(s *store) *store {
		if s != nil {
			require.NoError(t, s.Close())
		}
		return openWith(t, path, smallLimits, func(o *options) { o.now = c.now })
	}
	s := reopen(nil)
	queues := queuesOf(t, s, "empty", "full", "held")
	held := inbox.Hold{Since: time.Unix(1_800_000_000, 0).UTC(), Reason: "why"}
	require.NoError(t, queues[0].SetHold(ctx, held))
	require.NoError(t, queues[2].SetHold(ctx, held))
	e := eventFor("full")
	inboxtest.Put(t, s, e)
	require.Equal(t, []string{"default", "empty", "full", "held"}, known(t, s))

	s = reopen(s)
	require.Equal(t, []string{"default", "full"}, known(t, s), "nothing is left of the others")
	_, err := s.Put(ctx, eventFor("empty"))
	require.ErrorIs(t, err, inbox.ErrNotFound)
	inboxtest.Put(t, s, eventFor("full"))
	h, err := queuesOf(t, s, "held")[0].Hold(ctx)
	require.NoError(t, err)
	require.Equal(t, held, h)
	require.EqualValues(t, 9, slotTables(t, s))

	c.advance(2 * forgetAfter)
	load(t, s, 1, 1)
	inboxtest.Eventually(t, func() bool { return slotTables(t, s) == 6 })
	require.Equal(t, []string{"default", "full", "held"}, known(t, s))
	h, err = queuesOf(t, s, "empty")[0].Hold(ctx)
	require.NoError(t, err)
	require.Zero(t, h, "it is another one of that name")

	s = reopen(s)
	records, _, err := s.List(ctx, inbox.Filter{Destination: "full"}, inbox.Page{})
	require.NoError(t, err)
	require.Len(t, records, 2)
	for _, r := range records {
		require.Equal(t, []string{"default", "full"}, known(t, s))
		require.NoError(t, s.Purge(ctx, r.Event.ID, "full"))
	}
	require.Equal(t, []string{"default"}, known(t, s))
	c.advance(2 * forgetAfter)
	load(t, s, 1, 1)
	inboxtest.Eventually(t, func() bool { return slotTables(t, s) == 0 })
	require.Zero(t, number(t, s, `SELECT count(*) FROM destinations`))
}

// When all slots are taken, those are given away of which nothing is left. If there are
// none, the error says what to do.
func TestSlotsAreBounded(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	var names []string
	for i := range maxSlots - 1 {
		names = append(names, fmt.Sprintf("d%02d", i))
	}
	queuesOf(t, s, names...)
	_, err := s.Queue(ctx, "more")
	require.ErrorContains(t, err, `no room for the destination "more": the inbox has 64 destinations already, the most that it keeps; restart Caddy`)
	last := names[len(names)-1]
	var ofD07 *inbox.Event
	for _, name := range names {
		e := eventFor(name)
		inboxtest.Put(t, s, e)
		if name == "d07" {
			ofD07 = e
		}
	}
	leases := inboxtest.Lease(t, queuesOf(t, s, last)[0], 1)
	require.Equal(t, 1, leases[0].Attempt, "the last bit of a set is like the others")
	require.NoError(t, s.Close())

	s = openWith(t, path, smallLimits)
	_, err = s.Queue(ctx, "more")
	require.ErrorContains(t, err, "purge or replay elsewhere what is left of those that no config names any more, such as d00, d01, d02, d03, d04")
	require.NoError(t, s.Purge(ctx, ofD07.ID, "d07"))
	more := eventFor("more")
	queuesOf(t, s, "more")
	inboxtest.Put(t, s, more)
	require.NoError(t, s.Close())

	s = openWith(t, path, smallLimits)
	r, err := s.Get(ctx, more.ID)
	require.NoError(t, err)
	require.Equal(t, "more", r.Deliveries[0].Destination)
	require.NotContains(t, known(t, s), "d07")
	require.Len(t, known(t, s), maxSlots)
}

// A queue whose tables could not be made is not there, and one whose tables could not be
// dropped still is.
func TestQueueOfAFailedTransaction(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	queuesOf(t, s, "old")
	require.NoError(t, s.Close())
	s = openWith(t, path, smallLimits)
	fail := func(f func(t *tx) error) {
		t.Helper()
		require.Error(t, inWriter(s, func(t *tx) error {
			if err := f(t); err != nil {
				return err
			}
			return t.c.exec(`INSERT INTO attempts VALUES (NULL, 1, 1, 1, 1, '')`)
		}))
	}
	fail(func(t *tx) error { return (&makeQueue{name: "new"}).apply(t) })
	require.Nil(t, s.queues.find("new"))
	fail(func(t *tx) error {
		_, err := t.drop(s.queues.find("old"))
		return err
	})
	require.NotNil(t, s.queues.find("old"))
	queuesOf(t, s, "new", "old")
	e := eventFor("new", "old")
	inboxtest.Put(t, s, e)
	require.NoError(t, s.Purge(ctx, e.ID, ""))
}

// Callers that ask for a new destination at the same time get the same queue.
func TestQueueIsMadeOnce(t *testing.T) {
	s := openTest(t)
	const n = 10
	release := holdWriter(t, s, n)
	made := make(chan inbox.Queue, n)
	for range n {
		go func() {
			q, _ := s.Queue(context.Background(), "new")
			made <- q
		}()
	}
	release()
	first := <-made
	require.NotNil(t, first)
	for range n - 1 {
		require.Same(t, first, <-made)
	}
}

// Old events are removed in the order of arrival, wherever they go, and nothing of them
// is left in any table.
func TestRetirementOfDestinations(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits, func(o *options) { o.now = c.now })
	queues := queuesOf(t, s, "default", "a", "b")
	for i := range 40 {
		e := eventFor([][]string{{"default"}, {"default", "a"}, {"a", "b"}, {}}[i%4]...)
		inboxtest.Put(t, s, e)
	}
	for i, n := range []int{20, 20, 10} {
		leases := inboxtest.Lease(t, queues[i], n)
		inboxtest.Settle(t, queues[i], inbox.Retry, leases...)
		leases = inboxtest.Lease(t, queues[i], n)
		inboxtest.Settle(t, queues[i], inbox.Deliver, leases...)
	}
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, [...]int64{0, 30, 0, 0, 10}, stats.Events)
	c.advance(2 * time.Hour)
	s.SetPolicy(inbox.Policy{Keep: time.Hour})
	inboxtest.Eventually(t, func() bool {
		stats, err = s.Stats(ctx)
		return err == nil && stats.Events == [5]int64{}
	})
	for _, d := range stats.Destinations {
		require.Zero(t, d.Deliveries, d.Name)
	}
	for _, table := range []string{"events", "routes", "delivery", "delivery_1", "delivery_2", "attempts", "attempts_1", "attempts_2"} {
		require.Zero(t, number(t, s, `SELECT count(*) FROM `+table), table)
	}
	require.Zero(t, number(t, s, `SELECT routed FROM meta`))
}

// While the inbox is nearly full, the oldest make room first, wherever they went.
func TestTheOldestMakeRoomWhereverTheyWent(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	queues := queuesOf(t, s, "default", "a")
	var events []*inbox.Event
	for i := range 300 {
		events = append(events, eventFor([]string{"default", "a"}[i%2]))
	}
	inboxtest.Put(t, s, events...)
	for _, q := range queues {
		inboxtest.Settle(t, q, inbox.Deliver, inboxtest.Lease(t, q, 150)...)
	}
	gone := func() (n int) {
		for _, e := range events {
			if _, err := s.Get(ctx, e.ID); err != nil {
				require.ErrorIs(t, err, inbox.ErrNotFound)
				n++
			}
		}
		return n
	}
	inboxtest.Eventually(t, func() bool {
		inboxtest.Put(t, s, eventFor("a"))
		return gone() > 0
	})
	n := gone()
	for i, e := range events[:n] {
		_, err := s.Get(ctx, e.ID)
		require.ErrorIs(t, err, inbox.ErrNotFound, i)
	}
}

// Every destination has the order of a task with many events, and what is superseded at
// several of them is counted once.
func TestBigTaskAtSeveralDestinations(t *testing.T) {
	ctx := context.Background()
	const n = 150
	s := openTest(t)
	queues := queuesOf(t, s, "default", "a", "b")
	put := func(status inbox.Status, from, to int, destinations ...string) {
		for i := from; i < to; i++ {
			e := noticeOf("task", status, i)
			e.Destinations = destinations
			inboxtest.Put(t, s, e)
		}
	}
	put(inbox.InProgress, 0, n, "a", "b")
	put(inbox.InProgress, n, 2*n, "a", "default")
	first := inboxtest.Lease(t, queues[1], 1)
	require.Equal(t, noticeOf("task", inbox.InProgress, 0).ID, first[0].Event.ID)
	atDefault := inboxtest.Lease(t, queues[0], 1)
	require.Equal(t, noticeOf("task", inbox.InProgress, n).ID, atDefault[0].Event.ID)
	stats := func() inbox.Stats {
		stats, err := s.Stats(ctx)
		require.NoError(t, err)
		return stats
	}
	require.Equal(t, [...]int64{2 * n, 0, 0, 0, 0}, stats().Events)

	put(inbox.Completed, 0, 1, "a", "default")
	require.Equal(t, [...]int64{n + 2, 0, n - 1, 0, 0}, stats().Events, "those for a and b are pending at b")
	for i, want := range [][5]int64{{2*n - (2*n - 1) + 1, 0, 2*n - 1}, {n}, {2, 0, n - 1}} {
		require.Equal(t, want, stats().Destinations[i].Deliveries, stats().Destinations[i].Name)
	}
	put(inbox.Completed, 1, 2, "b")
	require.Equal(t, [...]int64{4, 0, 2*n - 2, 0, 0}, stats().Events)
	inboxtest.Settle(t, queues[1], inbox.Deliver, first...)
	inboxtest.Settle(t, queues[0], inbox.GiveUp, atDefault...)
	require.Equal(t, [...]int64{2, 1, 2*n - 2, 1, 0}, stats().Events)
	for i, want := range []int{0, 0, 1} {
		leases := inboxtest.Lease(t, queues[i], 1)
		require.Equal(t, noticeOf("task", inbox.Completed, want).ID, leases[0].Event.ID)
		inboxtest.Settle(t, queues[i], inbox.Deliver, leases...)
	}
	require.Equal(t, [...]int64{0, 3, 2*n - 2, 1, 0}, stats().Events)
}

// Deliveries to any destination are recorded although the disk is full.
func TestDestinationsOnAFullDisk(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	queues := queuesOf(t, s, "a", "b")
	limitPages(t, s, "1")
	var n int
	for ; ; n++ {
		if _, err := s.Put(ctx, eventFor("a", "b")); err != nil {
			require.ErrorIs(t, err, inbox.ErrFull)
			break
		}
	}
	_, err := s.Queue(ctx, "c")
	require.ErrorIs(t, err, inbox.ErrFull)
	hold := longHold("x")
	require.NoError(t, queues[0].SetHold(ctx, hold))
	h, err := queues[0].Hold(ctx)
	require.NoError(t, err)
	require.Equal(t, hold, h)
	limitPages(t, s, "1000000")
	for _, q := range queues {
		for left := n; left > 0; {
			leases, err := q.Lease(ctx, 50)
			require.NoError(t, err)
			inboxtest.Settle(t, q, inbox.Deliver, leases...)
			left -= len(leases)
		}
	}
}

// A backup has the destinations, and is checked.
func TestBackupHasTheDestinations(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	queuesOf(t, s, "a", "b")
	events := []*inbox.Event{eventFor("a", "b"), eventFor("default"), eventFor()}
	inboxtest.Put(t, s, events...)
	path := backupOf(t, s)
	n, err := new(Inbox).Verify(ctx, path)
	require.NoError(t, err)
	require.EqualValues(t, len(events), n)
	restored := openWith(t, path, smallLimits)
	require.Equal(t, []string{"a", "b", "default"}, known(t, restored))
	for _, e := range events {
		r, err := restored.Get(ctx, e.ID)
		require.NoError(t, err)
		var names []string
		for _, d := range r.Deliveries {
			names = append(names, d.Destination)
		}
		slices.Sort(e.Destinations)
		require.Equal(t, e.Destinations, append([]string{}, names...))
	}
}
