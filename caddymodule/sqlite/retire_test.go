package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// aging is an inbox that keeps for an hour by a clock that the test sets.
type aging struct {
	*store
	clock  *clock
	t      *testing.T
	path   string
	limits limits
	passes *observer.ObservedLogs
}

func newAging(t *testing.T, change ...func(*limits)) *aging {
	a := &aging{clock: newClock(), t: t, path: filepath.Join(t.TempDir(), "inbox.db"), limits: defaultLimits}
	a.limits.reserve = smallLimits.reserve
	for _, f := range change {
		f(&a.limits)
	}
	a.open()
	return a
}

func (a *aging) open() {
	core, passes := observer.New(zapcore.DebugLevel)
	a.passes = passes
	a.store = openWith(a.t, a.path, a.limits, func(o *options) {
		o.now, o.policy.Keep, o.log = a.clock.now, time.Hour, zap.New(core)
	})
}

func (a *aging) reopen() {
	require.NoError(a.t, a.Close())
	a.open()
}

// deliverNew stores new events and delivers as many that are due.
func (a *aging) deliverNew(n int) {
	load(a.t, a.store, n, 16)
	deliver(a.t, a.store, n)
}

// pass puts the clock forward, waits for a pass of the retirement and returns what it did.
func (a *aging) pass(d time.Duration) (read, removed int64) {
	a.t.Helper()
	a.clock.advance(d)
	a.passes.TakeAll()
	a.SetPolicy(inbox.Policy{Keep: time.Hour})
	sum := func(field string) (n int64) {
		for _, l := range a.passes.FilterMessage("looked for events to remove").All() {
			v, ok := l.ContextMap()[field].(int64)
			require.True(a.t, ok)
			n += v
		}
		return n
	}
	inboxtest.Eventually(a.t, func() bool { return a.passes.FilterMessage("looked for events to remove").Len() > 0 && a.idle() })
	return sum("read"), sum("removed")
}

// idle reports whether no pass is due.
func (a *aging) idle() (idle bool) {
	require.NoError(a.t, inWriter(a.store, func(t *tx) error {
		r := &t.w.maintenance.retirement
		at, any := r.due(t.w)
		idle = !any || at.After(a.clock.now())
		return nil
	}))
	return idle
}

func (a *aging) events() [len(inbox.States)]int64 {
	stats, err := a.Stats(context.Background())
	require.NoError(a.t, err)
	return stats.Events
}

// A pass reads what is too old, and of the rest no more than the block in which it ends.
func TestPassLeavesTheYoungAlone(t *testing.T) {
	a := newAging(t)
	const n, block = 3 << blockShift, 1 << blockShift
	a.deliverNew(n)
	a.clock.advance(30 * time.Minute)
	a.deliverNew(n)
	load(t, a.store, n, 16)
	read, removed := a.pass(31 * time.Minute)
	require.EqualValues(t, n, removed)
	require.GreaterOrEqual(t, read, int64(n))
	require.LessOrEqual(t, read, int64(n+block))
	require.Equal(t, [...]int64{n, n, 0, 0, 0}, a.events())
	require.True(t, a.idle(), "the next pass is due when the next event is too old")
	requireEndsKnown(t, a.store)

	read, removed = a.pass(30 * time.Minute)
	require.EqualValues(t, n, removed)
	require.LessOrEqual(t, read, int64(n+block))
	require.Equal(t, [...]int64{n, 0, 0, 0, 0}, a.events())
}

// series has the numbers from ?1 to ?2.
const series = `WITH RECURSIVE series (seq) AS (SELECT ?1 UNION ALL SELECT seq + 1 FROM series WHERE seq < ?2) `

// stay adds events that are dead, or pending and not due, as if they had come long ago.
func (a *aging) stay(n int64, s state) {
	require.NoError(a.t, inWriter(a.store, func(t *tx) error {
		first := t.meta.nextSeq
		err := t.c.exec(series+`INSERT INTO events SELECT seq, randomblob(24), 'task', 'avatar', 1, 0, x'' FROM series`, first, first+n-1)
		if err == nil {
			err = t.c.exec(series+`INSERT INTO delivery (seq, state, settled_at, due) SELECT seq, ?3, 1, 1 << 62 FROM series`, first, first+n-1, int64(s))
		}
		t.meta.nextSeq += n
		t.meta.events[s.public()] += n
		t.of(t.w.usual).counters.count(s, false, n)
		return err
	}))
}

// However many dead and pending events there are, they are read once, after the inbox was
// opened.
func TestWhatStaysIsNotReadAgain(t *testing.T) {
	a := newAging(t)
	const stay, n = 50_000, 100
	a.stay(stay, dead)
	a.stay(stay, retry)
	a.deliverNew(n)
	a.reopen()
	read, removed := a.pass(time.Minute)
	require.EqualValues(t, 2*stay+n, read)
	require.Zero(t, removed)

	for range 3 {
		a.deliverNew(n)
		read, removed = a.pass(61 * time.Minute)
		require.LessOrEqual(t, removed, int64(2*n))
		require.LessOrEqual(t, read, int64(1<<blockShift+2*n))
	}
	require.Equal(t, [...]int64{stay, 0, 0, stay, 0}, a.events())
}

// The events between two that stay are removed, and nothing else.
func TestRemovalInRanges(t *testing.T) {
	ctx := context.Background()
	a := newAging(t, func(l *limits) { l.retireStep = 7 })
	const n = 60
	load(t, a.store, n, 1)
	leases, err := a.Lease(ctx, n)
	require.NoError(t, err)
	removed := 0
	for i, l := range leases {
		switch {
		case i%11 == 0:
			inboxtest.Settle(t, a.store.usual, inbox.GiveUp, l)
		case i%13 == 0: // leased
		default:
			removed++
			inboxtest.Settle(t, a.store.usual, inbox.Deliver, l)
		}
	}
	_, got := a.pass(61 * time.Minute)
	require.EqualValues(t, removed, got)
	for i, l := range leases {
		_, err := a.Get(ctx, l.Event.ID)
		if i%11 == 0 || i%13 == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, inbox.ErrNotFound)
		}
	}
	require.EqualValues(t, n-removed, number(t, a.store, `SELECT count(*) FROM events`))
	require.NoError(t, a.Close())
	_, err = new(Inbox).Verify(ctx, a.path)
	require.NoError(t, err)
}

// An event that is replayed before a pass comes to it stays for as long again.
func TestReplayedEventIsKeptAnew(t *testing.T) {
	ctx := context.Background()
	a := newAging(t)
	a.deliverNew(10)
	records, _, err := a.List(ctx, inbox.Filter{}, inbox.Page{})
	require.NoError(t, err)
	again := records[4].Event.ID
	a.clock.advance(30 * time.Minute)
	require.NoError(t, a.Replay(ctx, again, ""))
	_, removed := a.pass(31 * time.Minute)
	require.EqualValues(t, 9, removed)
	require.Equal(t, [...]int64{1, 0, 0, 0, 0}, a.events())
	deliver(t, a.store, 1)
	a.clock.advance(59 * time.Minute)
	require.True(t, a.idle())
	_, removed = a.pass(2 * time.Minute)
	require.EqualValues(t, 1, removed)
	require.Zero(t, a.events())
}

// ahead makes it as if the clock had been ahead by a day when the events ended.
func (a *aging) ahead() {
	require.NoError(a.t, inWriter(a.store, func(t *tx) error {
		return t.c.exec(`UPDATE delivery SET settled_at = settled_at + ?`, (24 * time.Hour).Microseconds())
	}))
}

// After the clock was put back, what has ended by then in the future stays for so much
// longer, and keeps nothing else from being removed. If there is no room it goes.
func TestEventsThatEndedInTheFuture(t *testing.T) {
	a := newAging(t)
	const n, block = 2 << blockShift, 1 << blockShift
	a.deliverNew(n)
	a.ahead()
	a.reopen()
	a.pass(0)
	a.deliverNew(n)
	read, removed := a.pass(61 * time.Minute)
	require.EqualValues(t, n, removed)
	require.LessOrEqual(t, read, int64(n+block))
	require.EqualValues(t, n, a.events()[inbox.Delivered])
	_, removed = a.pass(24 * time.Hour)
	require.EqualValues(t, n, removed)

	a.deliverNew(n)
	a.ahead()
	a.reopen()
	a.pass(0)
	require.EqualValues(t, n, a.events()[inbox.Delivered])
	a.maxSize.Store(1)
	a.pass(0)
	require.Zero(t, a.events())
}

// An event with several destinations goes when the last delivery is too old; one that
// goes nowhere, when it was stored that long ago.
func TestRetirementWithSeveralDestinations(t *testing.T) {
	ctx := context.Background()
	a := newAging(t, func(l *limits) { l.retireStep = 5 })
	queues := queuesOf(t, a.store, inbox.DefaultDestination, "b")
	const n = 20
	loadTo(t, a.store, n, 1, inbox.DefaultDestination, "b")
	load(t, a.store, n, 1)
	skipped := newEvent()
	skipped.Destinations = []string{}
	inboxtest.Put(t, a.store, skipped)
	deliver(t, a.store, 2*n)
	_, removed := a.pass(61 * time.Minute)
	require.EqualValues(t, n+1, removed)

	leases, err := queues[1].Lease(ctx, n)
	require.NoError(t, err)
	dead := leases[n-1]
	inboxtest.Settle(t, queues[1], inbox.Deliver, leases[:n-1]...)
	inboxtest.Settle(t, queues[1], inbox.GiveUp, dead)
	a.clock.advance(59 * time.Minute)
	require.True(t, a.idle())
	_, removed = a.pass(2 * time.Minute)
	require.EqualValues(t, n-1, removed)
	require.Equal(t, [...]int64{0, 0, 0, 1, 0}, a.events())

	// Without the dead delivery, the event has ended long ago.
	require.NoError(t, a.Purge(ctx, dead.Event.ID, "b"))
	_, removed = a.pass(0)
	require.EqualValues(t, 1, removed)
	for _, table := range []string{"events", "delivery", "delivery_1", "routes"} {
		require.Zero(t, number(t, a.store, `SELECT count(*) FROM `+table), table)
	}
}

// Notices that are superseded at once, because there are many, are removed as well.
func TestRetirementOfABigTask(t *testing.T) {
	a := newAging(t, func(l *limits) { l.bigTask = 2 })
	const n = 20
	for i := range n { // each in a block of its own
		putNotices(t, a.store, "task", inbox.InProgress, i, i+1)
		require.NoError(t, inWriter(a.store, func(t *tx) error {
			t.meta.nextSeq += 1 << blockShift
			return nil
		}))
	}
	putNotices(t, a.store, "task", inbox.Completed, n, n+1)
	require.EqualValues(t, n, a.events()[inbox.Superseded])
	requireEndsKnown(t, a.store)
	_, removed := a.pass(61 * time.Minute)
	require.EqualValues(t, n, removed)
	require.Equal(t, [...]int64{1, 0, 0, 0, 0}, a.events())
}

// The further behind the retirement is, the less it rests.
func TestRetirementRestsLessWhenItIsBehind(t *testing.T) {
	for behind, pause := range map[float64]float64{0: maintenancePause, 0.1: 1, 0.5: 0.25} {
		require.InDelta(t, pause, (&retirement{behind: behind}).pause(), 1e-9, "%v behind", behind)
	}
}

// A pass that takes long, because all is read that was in the file, removes what becomes
// too old meanwhile. It does not read the same block for each event.
func TestLimitMovesOnInALongPass(t *testing.T) {
	var r retirement
	const keep = 100 * time.Minute
	began := time.Now()
	limitAfter := func(d time.Duration) time.Duration {
		return time.UnixMicro(r.limit(began.Add(d), keep)).Add(keep).Sub(began).Round(time.Second)
	}
	require.Zero(t, limitAfter(0))
	require.Zero(t, limitAfter(59*time.Second))
	require.Equal(t, time.Minute, limitAfter(time.Minute))
	require.Equal(t, time.Minute, limitAfter(119*time.Second))
	r.block = span{last: 1}
	require.Equal(t, time.Minute, limitAfter(time.Hour), "a block is read with one limit")
	r.block = span{}
	require.Equal(t, time.Hour, limitAfter(time.Hour))
}

// The other maintenance has its turn although there is always something to remove.
func TestRetirementTakesTurns(t *testing.T) {
	s := openTest(t)
	w := &writer{store: s}
	now := w.now()
	c := &w.maintenance
	w.meta.events[inbox.Delivered] = 1
	c.retirement.ends.add(1, 0)
	turns := func() (retired []bool) {
		for range 4 {
			step, pause := c.next(w, now)
			require.NotNil(t, step)
			require.Positive(t, pause())
			retired = append(retired, c.retired)
		}
		return retired
	}
	require.Equal(t, []bool{true, true, true, true}, turns())
	c.sweep.running = true
	require.Equal(t, []bool{false, true, false, true}, turns())
	c.retirement.behind = 0.1
	for range 2 {
		_, pause := c.next(w, now)
		require.InDelta(t, 1, pause(), 1e-9, "the turns of others do not hold it up")
	}
	c.retirement = retirement{behind: 0.1}
	_, pause := c.next(w, now)
	require.InDelta(t, maintenancePause, pause(), 0)
	require.Equal(t, []bool{false, false, false, false}, turns())
}
