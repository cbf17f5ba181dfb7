package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// openQuarantine opens an inbox whose quarantine has no limit but that of its bytes.
func openQuarantine(t *testing.T, maxSize int64) *store {
	t.Helper()
	return openTest(t, func(o *options) { o.maxSize, o.policy.Quarantine = maxSize, 1_000_000 })
}

// newSuspect makes the suspect with that number.
func newSuspect(i, size int) *inbox.Suspect {
	q := &inbox.Suspect{ReceivedAt: time.Unix(int64(i), 0).UTC(), Status: 422, Problems: []byte(`[]`), Body: make([]byte, size)}
	copy(q.Body, fmt.Sprint(i, " "))
	return q
}

// quarantineMany stores n suspects of that size.
func quarantineMany(t *testing.T, s *store, n, size int) (list []*inbox.Suspect) {
	t.Helper()
	for i := range n {
		list = append(list, newSuspect(i, size))
		require.NoError(t, s.Quarantine(context.Background(), list[i]))
		require.NotZero(t, list[i].ID)
	}
	return list
}

// requireSuspects requires that just these are in quarantine, last arrivals first, and that
// their size is known.
func requireSuspects(t *testing.T, s *store, want ...*inbox.Suspect) {
	t.Helper()
	var ids, got []int64
	size := int64(0)
	for _, q := range want {
		ids, size = append(ids, q.ID), size+suspectSize(q)
	}
	var page inbox.Page
	for more := true; more; more = page.Cursor != "" {
		list, next, err := s.Suspects(context.Background(), page)
		require.NoError(t, err)
		for _, q := range list {
			got = append(got, q.ID)
		}
		page.Cursor = next
	}
	require.Equal(t, ids, got)
	require.Equal(t, size, bytesInQuarantine(t, s))
}

// bytesInQuarantine returns the size that the writer knows.
func bytesInQuarantine(t *testing.T, s *store) (size int64) {
	t.Helper()
	require.NoError(t, inWriter(s, func(x *tx) error {
		size = x.suspectBytes
		return nil
	}))
	return size
}

// However many there may be, they leave most of the inbox to events.
func TestTheQuarantineHasAShareOfTheInbox(t *testing.T) {
	s := openQuarantine(t, 4<<20)
	list := quarantineMany(t, s, 12, 100_000) // a tenth of 4 MiB has room for four
	requireSuspects(t, s, list[11], list[10], list[9], list[8])

	again := newSuspect(8, 100_000)
	require.NoError(t, s.Quarantine(context.Background(), again))
	require.EqualValues(t, 2, again.Count)
	more := newSuspect(12, 100_000)
	require.NoError(t, s.Quarantine(context.Background(), more))
	requireSuspects(t, s, more, list[8], list[11], list[10])

	require.Greater(t, fill(t, s), 1300)
}

// Most of the inbox is left also if what comes is of many sizes.
func TestALargeSuspectTakesThePlaceOfManySmallOnes(t *testing.T) {
	s := openQuarantine(t, 4<<20)
	quarantineMany(t, s, 1500, 20)
	large := newSuspect(-1, 400_000)
	require.NoError(t, s.Quarantine(context.Background(), large))
	inboxtest.Eventually(t, func() bool { return bytesInQuarantine(t, s) <= s.maxQuarantine() })
	_, err := s.Suspect(context.Background(), large.ID)
	require.NoError(t, err)
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	require.Greater(t, stats.Quarantined, int64(1))
}

func TestASuspectLargerThanTheQuarantineIsRefused(t *testing.T) {
	s := openQuarantine(t, 4<<20)
	list := quarantineMany(t, s, 2, 100_000)
	err := s.Quarantine(context.Background(), newSuspect(2, 4<<20/quarantineShare))
	require.ErrorIs(t, err, inbox.ErrTooLarge)
	require.EqualError(t, err, "too large for the quarantine: it takes 419532 bytes, "+
		"and all callbacks in quarantine may take 419430, a tenth of the limit of "+s.path)
	requireSuspects(t, s, list[1], list[0])
}

// In an inbox full of events, a new suspect takes the place of older ones, but not that of
// events, and a repeat needs none.
func TestAFullInboxKeepsTheLatestSuspects(t *testing.T) {
	ctx := context.Background()
	s := openQuarantine(t, 2<<20)
	list := quarantineMany(t, s, 5, 10_000)
	n := fill(t, s)
	more := newSuspect(5, 15_000)
	require.NoError(t, s.Quarantine(ctx, more))
	requireSuspects(t, s, more, list[4], list[3], list[2])
	require.NoError(t, s.Quarantine(ctx, newSuspect(3, 10_000)))
	requireSuspects(t, s, list[3], more, list[4], list[2])

	require.ErrorIs(t, s.Quarantine(ctx, newSuspect(6, 100_000)), inbox.ErrFull)
	requireSuspects(t, s, list[3], more, list[4], list[2])

	s.maxSize.Add(-50_000) // there is more than may be
	last := newSuspect(7, 10_000)
	require.NoError(t, inWriter(s, func(x *tx) error {
		r, before := &quarantine{request: newRequest(ctx), suspect: last}, x.room()
		err := r.apply(x)
		last.ID = r.kept.ID
		require.GreaterOrEqual(t, x.room(), before, "others in the same transaction have no less room")
		return errors.Join(err, r.err)
	}))
	requireSuspects(t, s, last, list[3], more, list[4])
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, n, stats.Events[inbox.Pending])
}

// Nothing is given up for a suspect that the disk has no room for.
func TestAFullDiskLeavesTheQuarantineAsItIs(t *testing.T) {
	s := openQuarantine(t, 4<<20)
	list := quarantineMany(t, s, 4, 100_000)
	require.NoError(t, inWriter(s, func(x *tx) error {
		x.w.reserve.spent, x.w.reserve.tried = true, x.w.now()
		return nil
	}))
	require.ErrorContains(t, s.Quarantine(context.Background(), newSuspect(4, 100_000)), "no room left on the disk")
	requireSuspects(t, s, list[3], list[2], list[1], list[0])
}

// A smaller max_size holds for what is there, after a reload and in a file of before.
func TestASmallerInboxHasASmallerQuarantine(t *testing.T) {
	s := openQuarantine(t, 40<<20)
	list := quarantineMany(t, s, 40, 100_000)
	(&Inbox{MaxSize: 20 << 20}).Apply(s, inbox.Policy{Keep: time.Hour, Quarantine: 1000})
	inboxtest.Eventually(t, func() bool { return bytesInQuarantine(t, s) <= 2<<20 })
	var left []*inbox.Suspect
	for i := range 20 {
		left = append(left, list[39-i])
	}
	requireSuspects(t, s, left...)
	require.NoError(t, s.Close())

	s = openWith(t, s.path, smallLimits, func(o *options) { o.maxSize, o.policy.Quarantine = 10<<20, 1000 })
	inboxtest.Eventually(t, func() bool { return bytesInQuarantine(t, s) <= 1<<20 })
	requireSuspects(t, s, left[:10]...)
}

// What is removed in one step is bounded, also in bytes.
func TestTheQuarantineIsTrimmedStepByStep(t *testing.T) {
	s := openQuarantine(t, 1<<30)
	quarantineMany(t, s, 12, 1<<20)
	quarantineMany(t, s, 30, 10)
	for _, want := range []int64{38, 34, 30, 14} {
		require.NoError(t, inWriter(s, func(x *tx) error {
			x.w.policy.Store(&inbox.Policy{Keep: time.Hour})
			err := x.trimQuarantine()
			x.w.policy.Store(&inbox.Policy{Keep: time.Hour, Quarantine: 1000})
			require.Equal(t, want, x.meta.quarantined)
			return err
		}))
	}
}

// The size is right whatever became of suspects.
func TestTheSizeOfTheQuarantineIsKnown(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	list := quarantineMany(t, s, 5, 1000)
	require.NoError(t, s.Unquarantine(ctx, list[1].ID))
	require.ErrorIs(t, s.Unquarantine(ctx, list[1].ID), inbox.ErrNotFound)
	requireSuspects(t, s, list[4], list[3], list[2], list[0])

	again := newSuspect(2, 1000)
	again.ReceivedAt, again.Problems = time.Unix(99, 0), []byte(`[{"detail":"another release says more"}]`)
	list[2].Problems = again.Problems
	require.NoError(t, s.Quarantine(ctx, again))
	requireSuspects(t, s, list[2], list[4], list[3], list[0])

	broken := errors.New("broken")
	for _, o := range []op{
		&quarantine{request: newRequest(ctx), suspect: newSuspect(7, 1000)},
		&quarantine{request: newRequest(ctx), suspect: newSuspect(3, 1000)},
		&unquarantine{request: newRequest(ctx), id: list[4].ID},
	} {
		require.ErrorIs(t, inWriter(s, func(x *tx) error { return errors.Join(o.apply(x), broken) }), broken)
		requireSuspects(t, s, list[2], list[4], list[3], list[0])
	}
	require.NoError(t, s.Close())
	requireSuspects(t, openWith(t, path, smallLimits), list[2], list[4], list[3], list[0])
}

// Somebody who removes them with another program does not keep maintenance busy.
func TestSuspectsThatAnotherProgramHasRemovedDoNotCount(t *testing.T) {
	s := openQuarantine(t, 4<<20)
	quarantineMany(t, s, 4, 100_000)
	require.NoError(t, inWriter(s, func(x *tx) error {
		return errors.Join(x.c.exec(`DELETE FROM quarantine`), x.c.exec(`DELETE FROM arrivals`))
	}))
	(&Inbox{MaxSize: 1 << 20}).Apply(s, inbox.Policy{Keep: time.Hour, Quarantine: 1000})
	inboxtest.Eventually(t, func() bool { return bytesInQuarantine(t, s) == 0 })
	requireSuspects(t, s, quarantineMany(t, s, 1, 1000)...)
}
