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

// Events that are too old are removed in steps, past those that stay.
func TestRetirement(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits, func(o *options) {
		o.now, o.policy.Keep = c.now, time.Hour
	})
	load(t, s, 40, 4)
	leases, err := s.Lease(ctx, 40)
	require.NoError(t, err)
	settle := func(v inbox.Verdict, leases ...*inbox.Lease) {
		t.Helper()
		for _, l := range leases {
			require.NoError(t, s.Settle(ctx, inbox.Outcome{Lease: l, Verdict: v, Due: c.now().Add(24 * time.Hour), Attempt: inbox.Attempt{At: c.now(), Status: 500}}))
		}
	}
	settle(inbox.GiveUp, leases[:5]...)
	settle(inbox.Retry, leases[5:10]...)
	settle(inbox.Deliver, leases[10:20]...)
	c.advance(30 * time.Minute)
	settle(inbox.Deliver, leases[20:30]...)
	delivered := func() int64 {
		stats, err := s.Stats(ctx)
		require.NoError(t, err)
		return stats.Events[inbox.Delivered]
	}
	require.EqualValues(t, 20, delivered())
	c.advance(31 * time.Minute) // the first ten are too old
	s.SetPolicy(inbox.Policy{Keep: time.Hour})
	inboxtest.Eventually(t, func() bool { return delivered() == 10 })
	for i, l := range leases {
		_, err := s.Get(ctx, l.Event.ID)
		if i >= 10 && i < 20 {
			require.ErrorIs(t, err, inbox.ErrNotFound)
		} else {
			require.NoError(t, err)
		}
	}
	settle(inbox.Release, leases[30:]...)
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, [...]int64{15, 10, 0, 5, 0}, stats.Events)
}

// With small steps the index is written to its table while events arrive.
// Events are found there when they are no longer in memory, also after a
// restart.
func TestIndexIsWrittenAndRead(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	events := newEvents(200)
	inboxtest.Put(t, s, events...)
	check := func() {
		t.Helper()
		inboxtest.Eventually(t, func() bool { frozen, _ := s.index.pending(); return !frozen })
		_, gathered := s.index.pending()
		require.Less(t, gathered, smallLimits.indexEntries)
		require.GreaterOrEqual(t, number(t, s, `SELECT count(*) FROM `+allEntries), int64(200-gathered))
		for _, e := range events {
			duplicateOf, err := s.Put(ctx, e)
			require.NoError(t, err)
			require.NotEmpty(t, duplicateOf)
			_, err = s.Get(ctx, e.ID)
			require.NoError(t, err)
			records, _, err := s.List(ctx, inbox.Filter{TaskID: e.TaskID}, inbox.Page{})
			require.NoError(t, err)
			require.Len(t, records, 1)
		}
	}
	check()
	require.NoError(t, s.Close())
	s = openWith(t, path, smallLimits)
	check()
}

// Rows of the index whose events are gone are removed.
func TestIndexIsSwept(t *testing.T) {
	ctx := context.Background()
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits)
	events := newEvents(100)
	inboxtest.Put(t, s, events...)
	for _, e := range events[:90] {
		require.NoError(t, s.Purge(ctx, e.ID, ""))
	}
	gone := `SELECT count(*) FROM ` + allEntries + ` WHERE seq NOT IN (SELECT seq FROM events)`
	inboxtest.Eventually(t, func() bool {
		return number(t, s, gone) <= smallLimits.sweepMin+3 && number(t, s, `SELECT stale FROM meta`) <= smallLimits.sweepMin+3
	})
	for i, e := range events {
		duplicateOf, err := s.Put(ctx, e)
		require.NoError(t, err)
		require.Equal(t, i >= 90, duplicateOf == e.ID)
	}
}

// A count of stale rows that is too high is corrected once the whole table was
// read. Otherwise the table would be swept for ever.
func TestSweepCorrectsTheCount(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits)
	load(t, s, 50, 2)
	require.NoError(t, inWriter(s, func(t *tx) error {
		t.meta.stale += 1000
		return nil
	}))
	inboxtest.Eventually(t, func() bool { return number(t, s, `SELECT stale FROM meta`) == 0 })
	require.NoError(t, inWriter(s, func(tx *tx) error {
		require.False(t, tx.w.maintenance.sweepDue(tx.w))
		return nil
	}))
}

// An inbox with nothing to do sleeps, also after maintenance has failed.
func TestIdleInboxSleeps(t *testing.T) {
	s := openTest(t)
	load(t, s, 3, 1)
	require.NoError(t, inWriter(s, func(tx *tx) error {
		c := tx.w.maintenance
		require.Equal(t, never, c.wait(tx.w))
		c.err, c.restUntil = errIndexFull, tx.w.now().Add(time.Minute)
		require.InDelta(t, time.Minute, c.wait(tx.w), float64(time.Second))
		c.restUntil = tx.w.now().Add(-time.Minute)
		require.Equal(t, never, c.wait(tx.w))
		return nil
	}))
}

// Maintenance that fails is retried later, and disturbs nothing meanwhile.
func TestMaintenanceThatFailsWaits(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	l := smallLimits
	l.indexEntries, l.flushStep = 20, 4
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), l, func(o *options) { o.now = c.now })
	load(t, s, 3, 1)
	require.NoError(t, inWriter(s, func(t *tx) error {
		return t.c.exec(`ALTER TABLE part_entries RENAME TO hidden`)
	}))
	stored := 3
	var err error
	for ; stored < 200; stored++ {
		if _, err = s.Put(ctx, newEvent()); err != nil {
			break
		}
	}
	require.Greater(t, stored, l.indexEntries)
	require.ErrorContains(t, err, "the index of tasks cannot be written")
	require.ErrorContains(t, err, "no such table: part_entries")
	require.Less(t, stored, (maxGathered+2)*l.indexEntries+l.batch, "what waits in memory is bounded")
	deliver(t, s, stored)
	require.NoError(t, inWriter(s, func(t *tx) error {
		return t.c.exec(`ALTER TABLE hidden RENAME TO part_entries`)
	}))
	c.advance(2 * maintenanceRetryMax)
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(ctx, newEvent())
		return err == nil
	})
}

func TestOnlyTheLastAttemptsAreKept(t *testing.T) {
	ctx := context.Background()
	l := smallLimits
	l.keptAttempts = 3
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), l)
	e := newEvent()
	inboxtest.Put(t, s, e)
	for range 5 {
		leases, err := s.Lease(ctx, 1)
		require.NoError(t, err)
		o := inbox.Outcome{Lease: leases[0], Verdict: inbox.Retry, Attempt: inbox.Attempt{At: time.Unix(int64(leases[0].Attempt), 0).UTC()}}
		require.NoError(t, s.Settle(ctx, o))
	}
	r, err := s.Get(ctx, e.ID)
	attempts := inboxtest.Log(r)
	require.NoError(t, err)
	require.Equal(t, 5, r.Attempts)
	require.Len(t, attempts, 3)
	require.Equal(t, time.Unix(3, 0).UTC(), attempts[0].At)
}

func TestPageOfLargeBodiesIsShort(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	for i := range 5 {
		e := newEvent()
		e.Body = make([]byte, inbox.MaxPageBytes/2)
		e.Body[0] = byte(i)
		inboxtest.Put(t, s, e)
		require.NoError(t, s.Quarantine(ctx, &inbox.Suspect{Body: e.Body, Status: 400}))
	}
	records, next, err := s.List(ctx, inbox.Filter{}, inbox.Page{})
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.NotEmpty(t, next)
	suspects, next, err := s.Suspects(ctx, inbox.Page{})
	require.NoError(t, err)
	require.Len(t, suspects, 2)
	require.NotEmpty(t, next)
}
