package nats

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// A Caddy dies after it has recorded the last delivery's end, and before it has recorded
// that of the event.
func TestTheEndOfAnEventIsRecordedAfterACrash(t *testing.T) {
	url := serve(t).ClientURL()
	s, other := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	e := send(t, s, 1, "a", "b")[0]
	finish(t, s, inbox.GiveUp, 1, "a")
	at(t, other, "b")
	l := inboxtest.Lease(t, at(t, s, "b"), 1)
	h := s.queueNamed("b").leaser.get(l[0].Ref)
	rec := initial(h.event)
	rec.Settled = s.now()
	_, err := s.writeRecord(ctx, s.subjects.to("b"), delivered, e.ID, rec, 0)
	require.NoError(t, err)
	stats, _ := statsOf(t, s, "b")
	require.EqualValues(t, 1, stats.Events[inbox.Pending], "the test is about what is not recorded yet")
	crash(s)
	new := send(t, other, 1, "b")
	require.Equal(t, idsOf(new), finish(t, other, inbox.Deliver, 1, "b"))
	q := at(t, other, "b")
	inboxtest.Eventually(t, func() bool {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err := q.Lease(bounded, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		stats, err := other.Stats(ctx)
		require.NoError(t, err)
		return stats.Events == [5]int64{0, 1, 0, 1, 0}
	})
}

// A Caddy dies after it has written down that a delivery is to be added or repeated.
func TestAMoveOrReplayIsCompletedAfterACrash(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	ctx := context.Background()
	events := send(t, s, 2, "a")
	at(t, s, "b")
	finish(t, s, inbox.Deliver, 2, "a")
	for i, name := range []string{"b", "a"} {
		w, err := s.findWhole(ctx, events[i].ID)
		require.NoError(t, err)
		redo := map[string]uint64{name: 0}
		if p := w.part(name); p != nil {
			redo[name] = p.member.last
		}
		require.NoError(t, s.reopen(ctx, w, []string{name}, redo))
		r, err := s.Get(ctx, events[i].ID)
		require.NoError(t, err)
		require.Equal(t, inbox.Pending, r.State, "it is pending from then on")
		require.NoError(t, s.conclude(ctx, w.stored))
	}
	stats, _ := statsOf(t, s, "a")
	require.EqualValues(t, 2, stats.Events[inbox.Pending], "nobody ends it before")
	crash(s)

	s = openWith(t, url, small)
	require.Equal(t, []string{events[0].ID}, finish(t, s, inbox.Deliver, 1, "b"))
	require.Equal(t, []string{events[1].ID}, finish(t, s, inbox.Deliver, 1, "a"))
	stats, _ = statsOf(t, s, "a")
	require.Equal(t, [5]int64{0, 2, 0, 0, 0}, stats.Events)
}

// Two deliveries of an event end at the same moment, in two Caddys or in one.
func TestOfTwoThatEndAnEventAtOnceOneRecordsIt(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url, passive), openWith(t, url, passive)
	const n = 100
	for round, other := range []*store{b, a} {
		send(t, a, n, "a", "b")
		first, second := inboxtest.Lease(t, at(t, a, "a"), n), inboxtest.Lease(t, at(t, other, "b"), n)
		var jobs errgroup.Group
		for i := range n {
			jobs.Go(func() error {
				return a.queueNamed("a").Settle(context.Background(), inboxtest.Outcome(inbox.Deliver, first[i]))
			})
			jobs.Go(func() error {
				return other.queueNamed("b").Settle(context.Background(), inboxtest.Outcome(inbox.Deliver, second[n-1-i]))
			})
		}
		require.NoError(t, jobs.Wait())
		stats, _ := statsOf(t, a, "a")
		require.Equal(t, [5]int64{0, int64(n * (round + 1)), 0, 0, 0}, stats.Events)
	}
}

// A fault of a server or of the gateway may leave a delivery without a message.
func TestForgottenDeliveriesAreRemembered(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	usual := send(t, s, 3, inbox.DefaultDestination)
	both := send(t, s, 3, inbox.DefaultDestination, "app")
	require.ElementsMatch(t, idsOf(append(usual, both...)), finish(t, s, inbox.Retry, 6, inbox.DefaultDestination))
	fresh := send(t, s, 3, inbox.DefaultDestination)
	app := send(t, s, 3, "app")
	require.NoError(t, s.Close())
	for _, of := range [][2]string{{"TEST", "gateway"}, {"TEST", "gateway_app"}, {"TEST_STATE", "gateway"}, {"TEST_TO_default", "gateway"}} {
		acknowledgeAll(t, url, of[0], of[1])
	}
	s = openWith(t, url, small)
	require.ElementsMatch(t, idsOf(append(both, app...)), finish(t, s, inbox.Deliver, 6, "app"))
	require.ElementsMatch(t, idsOf(append(append(usual, both...), fresh...)), finish(t, s, inbox.Deliver, 9, inbox.DefaultDestination))
	stats, _ := statsOf(t, s, "app")
	require.Equal(t, [5]int64{0, 12, 0, 0, 0}, stats.Events)
}

// Without a record, the message of an event is all that brings it: it must not be acknowledged.
func TestALeaseThatIsGivenBackWhileItsDestinationIsDrainedLeavesTheEventDue(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	e := send(t, s, 1, "app")[0]
	ctx, d := t.Context(), s.queueNamed("app").destination
	m, err := d.find(ctx, e.ID)
	require.NoError(t, err)
	rec := initial(m.stored)
	rec.By = "another Caddy"
	seq, err := s.writeRecord(ctx, m.at, leased, e.ID, rec, 0)
	require.NoError(t, err)
	last, err := s.last(ctx, m.at.stream, m.at.statesOf(e.ID))
	require.NoError(t, err)
	s.forgetRecords(ctx, m.at, []uint64{seq})
	require.ErrorIs(t, d.endLease(ctx, m.at, *last), errConflict)

	left, err := d.drain(ctx)
	require.NoError(t, err)
	require.False(t, left)
	require.Equal(t, []string{e.ID}, finish(t, s, inbox.Deliver, 1, "app"))
}

// The counts of a busy inbox often disagree though nothing is forgotten.
func TestASearchInVainDelaysTheNextOneByWhatItCost(t *testing.T) {
	require.Equal(t, 30*time.Second, restAfter(10*time.Millisecond, 30*time.Second), "a small inbox")
	require.Equal(t, 10*time.Minute, restAfter(30*time.Second, 30*time.Second))
	require.Equal(t, time.Hour, restAfter(time.Hour, 30*time.Second))

	s := afterMaintenance(t, openWith(t, serve(t).ClientURL(), passive))
	send(t, s, 3, inbox.DefaultDestination)
	require.NoError(t, s.search(t.Context(), s.served()))
	require.WithinRange(t, s.forgotten.notBefore, time.Now().Add(59*time.Minute), time.Now().Add(time.Hour), "no less than a round of maintenance")
}

// acknowledgeAll acknowledges what a consumer has handed out or has to hand out.
func acknowledgeAll(t *testing.T, url, stream, name string) {
	t.Helper()
	ctx := context.Background()
	consumer, err := admin(t, url).Consumer(ctx, stream, name)
	require.NoError(t, err)
	require.NotZero(t, consumer.CachedInfo().NumPending+uint64(consumer.CachedInfo().NumAckPending))
	inboxtest.Eventually(t, func() bool {
		batch, err := consumer.FetchNoWait(100)
		require.NoError(t, err)
		for m := range batch.Messages() {
			require.NoError(t, m.DoubleAck(ctx))
		}
		info, err := consumer.Info(ctx)
		require.NoError(t, err)
		return info.NumPending == 0 && info.NumAckPending == 0
	})
}

// A Caddy that dies, or a server that does not answer in time, leaves records that were
// replaced. They count as pending, but only until the next round of maintenance.
func TestReplacedRecordsCountNoLongerThanOneRound(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	other := afterMaintenance(t, openWith(t, url, passive))
	ctx := context.Background()
	events := send(t, s, 2, "a")
	finish(t, s, inbox.Retry, 2, "a")
	leases := inboxtest.Lease(t, at(t, s, "a"), 1)
	waits := events[0].ID
	if waits == leases[0].Event.ID {
		waits = events[1].ID
	}
	require.NoError(t, other.learn(ctx))
	for id, k := range map[string]kind{leases[0].Event.ID: leased, waits: pending} {
		m, err := s.queueNamed("a").find(ctx, id)
		require.NoError(t, err)
		require.Equal(t, k, m.kind)
		rec := m.rec
		rec.Settled = s.now()
		_, err = s.writeRecord(ctx, m.at, delivered, id, rec, m.last)
		require.NoError(t, err)
	}
	crash(s)
	acknowledgeAll(t, url, "TEST_TO_a", "gateway")
	_, a := statsOf(t, other, "a")
	require.GreaterOrEqual(t, a.Deliveries[inbox.Pending], int64(2), "the test is about what is left")
	require.NotZero(t, other.rounds.Load()%searchEvery, "this is to be seen to in each round")
	require.NoError(t, other.tendAll())
	_, a = statsOf(t, other, "a")
	require.Equal(t, [5]int64{0, 2, 0, 0, 0}, a.Deliveries)
}
