package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// readFromFile makes the queue read its fresh events from the file.
func readFromFile(q *queue) {
	q.leases.mu.Lock()
	defer q.leases.mu.Unlock()
	q.leases.ahead = ahead{end: q.leases.ahead.low()}
}

// knownOf returns the numbers of the events that the queue need not read.
func knownOf(q *queue) (known []int64) {
	events, _ := q.leases.known()
	for _, h := range events {
		known = append(known, h.seq())
	}
	return known
}

func TestStoredEventIsLeasedWithoutReadingTheFile(t *testing.T) {
	s := openTest(t)
	other := queuesOf(t, s, "other")[0]
	e := newEvent()
	e.Destinations = []string{inbox.DefaultDestination, "other"}
	inboxtest.Put(t, s, e)
	for i, q := range []inbox.Queue{s.usual, other} {
		statements := len(s.scanners[i].conn.stmts)
		leases, err := q.Lease(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, e.ID, leases[0].Event.ID)
		require.Len(t, s.scanners[i].conn.stmts, statements)
	}
}

func TestStoredEventIsLeasedAsItIsInTheFile(t *testing.T) {
	s := openTest(t)
	e := newEvent()
	e.ReceivedAt = time.Date(2026, 11, 28, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	e.Body, e.Track = []byte(`{}`), time.Now()
	e.FormerID, e.Destinations = inbox.NewID(e.TaskID, []byte("former")), []string{inbox.DefaultDestination}
	e.TraceParent, e.TraceState = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=b"
	e.Origin, e.Outcome, e.Revision = inbox.FromAPI, inbox.OutcomeKey{1}, 1
	before := *e
	inboxtest.Put(t, s, e)
	fromMemory := inboxtest.Lease(t, s, 1)
	require.Equal(t, before, *e, "the caller's event does not change")
	require.NoError(t, s.Close())

	s = openWith(t, s.path, smallLimits)
	fromFile := inboxtest.Lease(t, s, 1)
	require.Equal(t, fromFile, fromMemory)
}

func TestEventsBeyondThoseInMemoryAreReadInOrder(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits)
	events := newEvents(20) // with large bodies, of which few may be kept
	inboxtest.Put(t, s, events...)
	require.Len(t, knownOf(s.usual), 2)
	for i, e := range events {
		require.Equal(t, e.ID, inboxtest.Lease(t, s, 1)[0].Event.ID, i)
		require.LessOrEqual(t, len(knownOf(s.usual)), 2)
	}
	inboxtest.Put(t, s, newEvent())
	require.Len(t, knownOf(s.usual), 1, "what is stored is known again")
}

func TestKnownEventThatIsPurgedOrMovedIsNotLeased(t *testing.T) {
	s := openTest(t)
	other := queuesOf(t, s, "other")[0]
	for _, fromFile := range []bool{false, true} {
		events := newEvents(4)
		inboxtest.Put(t, s, events...)
		if fromFile { // they are read with the first one
			readFromFile(s.usual)
		}
		first := inboxtest.Lease(t, s, 1)
		require.Len(t, knownOf(s.usual), 3)
		require.NoError(t, s.Purge(t.Context(), events[1].ID, ""))
		require.NoError(t, s.Move(t.Context(), events[2].ID, inbox.DefaultDestination, "other"))
		require.Len(t, knownOf(s.usual), 1)
		last := inboxtest.Lease(t, s, 1)
		require.Equal(t, events[3].ID, last[0].Event.ID)
		moved, err := other.Lease(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, moved, 1)
		require.NoError(t, s.Settle(t.Context(), inboxtest.Outcomes(inbox.Deliver, append(first, last...)...)...))
		require.NoError(t, other.Settle(t.Context(), inboxtest.Outcomes(inbox.Deliver, moved...)...))
		require.Empty(t, knownOf(s.usual))
	}
}

func TestKnownEventIsLeasedOnceAlsoOutOfTurn(t *testing.T) {
	c := newClock()
	s := openTest(t, func(o *options) { o.now = c.now })
	events := newEvents(4)
	inboxtest.Put(t, s, events...)
	c.advance(time.Minute) // they have waited
	newest, err := s.Pick(context.Background(), inbox.Want{Max: 1, Newest: 1})
	require.NoError(t, err)
	require.Equal(t, events[3].ID, newest[0].Event.ID)
	require.NoError(t, s.Settle(t.Context(), inboxtest.Outcomes(inbox.Deliver, newest...)...))
	require.Len(t, inboxtest.Lease(t, s, 3), 3)
	require.Empty(t, knownOf(s.usual))
}

func TestRolledBackChangeLeavesWhatIsKnown(t *testing.T) {
	s := openTest(t)
	e := newEvent()
	inboxtest.Put(t, s, e)
	require.ErrorContains(t, inWriter(s, func(tx *tx) error {
		found, err := tx.findEdited(mustParse(t, e.ID))
		require.NoError(t, err)
		require.True(t, tx.revoke(s.usual, found.seq))
		require.NoError(t, tx.purge(s.usualOnly, found))
		return context.Canceled
	}), context.Canceled.Error())
	require.Equal(t, e.ID, inboxtest.Lease(t, s, 1)[0].Event.ID)
}

func mustParse(t *testing.T, id string) inbox.RawID {
	t.Helper()
	raw, err := inbox.ParseID(id)
	require.NoError(t, err)
	return raw
}

func TestEventThatChangedWhileItWasReadIsNotKnown(t *testing.T) {
	l := newLeases(1)
	l.beginScan()
	q := &queue{store: &store{limits: defaultLimits}}
	require.True(t, l.revoke(2))
	l.follow(&change{queue: q, left: []int64{2}}, 5, 5)
	l.endBatch(nil)
	l.keep([]*heldLease{hold(2), hold(3)})
	require.Empty(t, l.endScan([]*heldLease{hold(2)}, 5))
	events, end := l.known()
	require.EqualValues(t, 5, end)
	require.Len(t, events, 1)
	require.EqualValues(t, 3, events[0].seq())

	l.beginScan()
	require.Equal(t, []int64{3}, seqs(l.endScan(events, 5)))
	require.EqualValues(t, 5, l.ahead.low())
}
