package nats

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// lost returns the number of events in the ledger as lost.
func lost(t testing.TB, s *store) int {
	t.Helper()
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	return int(stats.Lost)
}

// lostAfterCheck makes an inbox check the ledger, and returns the number of
// lost events.
func lostAfterCheck(t testing.TB, s *store) int {
	t.Helper()
	require.NoError(t, s.retireAll(context.Background(), 0))
	return lost(t, s)
}

// If somebody removes events from the stream, the undelivered ones are counted
// as lost, and only once, whichever Caddy looks and however often.
func TestWhatSomebodyRemovesFromTheStreamIsCounted(t *testing.T) {
	url := serve(t).ClientURL()
	core, logs := observer.New(zap.ErrorLevel)
	a, b := afterMaintenance(t, openWith(t, url, passive)), afterMaintenance(t, openWith(t, url, passive, func(o *options) { o.log = zap.New(core) }))
	ctx := context.Background()
	var events []*inbox.Event
	for i := range 30 {
		events = append(events, inboxtest.NewEvent(fmt.Sprint("task ", i), inbox.Completed))
	}
	inboxtest.Put(t, a, events...)
	inboxtest.Settle(t, a.home, inbox.Deliver, inboxtest.Lease(t, a.home, 5)...)
	inboxtest.Settle(t, a.home, inbox.GiveUp, inboxtest.Lease(t, a.home, 2)...)
	require.NoError(t, a.Purge(ctx, events[29].ID, ""))
	require.Zero(t, lostAfterCheck(t, a))

	// the first twelve: of these, five had been delivered
	require.NoError(t, stream(t, url, "TEST").Purge(ctx, jetstream.WithPurgeSequence(13)))
	require.Equal(t, 7, lostAfterCheck(t, b))
	require.Equal(t, 1, logs.FilterMessageSnippet("gone from the stream").Len())
	require.Equal(t, 7, lostAfterCheck(t, b), "none twice")
	require.Equal(t, 7, lostAfterCheck(t, a))
	stats, err := a.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 17, stats.Events[inbox.Pending])
	require.Zero(t, stats.Events[inbox.Dead])

	require.NoError(t, stream(t, url, "TEST").DeleteMsg(ctx, 20))
	require.NoError(t, a.Close())
	again := afterMaintenance(t, openWith(t, url, passive))
	require.Equal(t, 8, lostAfterCheck(t, again), "after a restart too")
	require.Equal(t, 8, lostAfterCheck(t, b))
	require.Equal(t, 1, logs.FilterMessageSnippet("gone from the stream").Len(), "the other one told of it")
}

// Events removed by gateways are not lost, neither old ones nor those purged by
// an operator, however often and by however many Caddys.
func TestWhatGatewaysRemoveIsNotLost(t *testing.T) {
	url := serve(t).ClientURL()
	quick := func(o *options) { o.limits.maintenance, o.policy.Keep = 20*time.Millisecond, 0 }
	stores := []*store{openWith(t, url, quick), openWith(t, url, quick)}
	ctx := context.Background()
	var callers, workers sync.WaitGroup
	for i, s := range stores {
		callers.Go(func() {
			for n := range 50 {
				e := inboxtest.NewEvent(fmt.Sprint(i, n), inbox.Completed)
				for range 1 + n%2 {
					if _, err := s.Put(ctx, e); err != nil {
						t.Error(err)
					}
					_ = s.Purge(ctx, e.ID, "") // the other may have leased it
				}
			}
		})
	}
	life, end := context.WithCancel(ctx)
	for _, s := range stores {
		workers.Go(func() {
			for {
				l, err := s.home.Lease(life, 10)
				if err != nil {
					return
				}
				_ = s.home.Settle(ctx, inboxtest.Outcomes(inbox.Deliver, l...)...) // it may be purged
			}
		})
	}
	callers.Wait()
	inboxtest.Eventually(t, func() bool {
		stats, err := stores[0].Stats(ctx)
		return err == nil && stats.Events[inbox.Pending] == 0 && stats.Events[inbox.Delivered] == 0
	})
	end()
	workers.Wait()
	inboxtest.Eventually(t, func() bool {
		state, err := stores[0].eventState(ctx)
		require.NoError(t, err)
		l, _, err := stores[0].readLedger(ctx)
		require.NoError(t, err)
		return state.Msgs == 0 && l.missing(state) == 0 && state.LastSeq > 100
	})
	require.Zero(t, lost(t, stores[0]))
	require.Zero(t, lost(t, stores[1]))
}

// An earlier version, which shares the inbox while Caddys are upgraded one by
// one, does not record its removals.
func TestWhatAnEarlierVersionRemovesIsNotLost(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	ctx := context.Background()
	inboxtest.Put(t, s, inboxtest.NewEvent("one", inbox.Completed), inboxtest.NewEvent("other", inbox.Completed))
	require.Zero(t, lostAfterCheck(t, s))
	require.NoError(t, s.setMeta(ctx, s.subjects.meta(metaMaintenance), map[string]string{"by": "another"}))
	require.NoError(t, stream(t, url, "TEST").DeleteMsg(ctx, 1))
	require.Zero(t, lostAfterCheck(t, s))
	require.NoError(t, stream(t, url, "TEST").DeleteMsg(ctx, 2))
	require.Equal(t, 1, lostAfterCheck(t, s), "nobody of that version is there any more")
}

// A Caddy may have leased an event before somebody removed it.
func TestWhatIsDeliveredAllTheSameIsNotLost(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	inboxtest.Put(t, s, inboxtest.NewEvent("one", inbox.Completed), inboxtest.NewEvent("other", inbox.Completed))
	l := inboxtest.Lease(t, s.home, 2)
	require.NoError(t, stream(t, url, "TEST").Purge(context.Background()))
	require.Equal(t, 2, lostAfterCheck(t, s))
	inboxtest.Settle(t, s.home, inbox.Deliver, l[0])
	require.Equal(t, 1, lostAfterCheck(t, s))
	inboxtest.Settle(t, s.home, inbox.Retry, l[1])
	require.Equal(t, 1, lostAfterCheck(t, s))
	nothingElse(t, s)
}

// Several inboxes may begin the ledger at the same moment.
func TestTheFirstLedgerIsBegunByAny(t *testing.T) {
	s := afterMaintenance(t, openWith(t, serve(t).ClientURL(), passive))
	ctx := context.Background()
	for range 20 {
		require.NoError(t, stream(t, s.conn.ConnectedUrl(), s.subjects.states()).Purge(ctx,
			jetstream.WithPurgeSubject(s.subjects.meta(metaLedger))))
		failed := make(chan error, 8)
		for range cap(failed) {
			go func() { failed <- s.checkLedger(ctx, new(claim)) }()
		}
		for range cap(failed) {
			require.NoError(t, <-failed)
		}
		l, _, err := s.readLedger(ctx)
		require.NoError(t, err)
		require.NotNil(t, l)
	}
}

// It may take minutes to find out what is lost. If the stream is removed and made anew
// meanwhile, the numbers that the new one skips would count as lost events.
func TestAStreamThatIsMadeAnewWhileLossesAreLookedForLosesNoMore(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	ctx := context.Background()
	for range 3 {
		inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	}
	require.Zero(t, lostAfterCheck(t, s))
	old, at, err := s.readLedger(ctx)
	require.NoError(t, err)
	state, err := s.eventState(ctx)
	require.NoError(t, err)
	remake := func() {
		require.NoError(t, admin(t, url).DeleteStream(ctx, "TEST"))
		require.NoError(t, s.makeStream(ctx, s.coreConfigs()[0]))
		require.NoError(t, s.ensureConsumers(ctx, s.home.destination))
	}
	remake()
	require.NoError(t, s.book(ctx, new(claim), finding{old: old, at: at, state: state}))
	require.Equal(t, 3, lostAfterCheck(t, s))

	// The same without a ledger: who begins one may have read the state before.
	require.NoError(t, s.api(ctx, "STREAM.PURGE.TEST_STATE", map[string]any{"filter": s.subjects.meta(metaLedger)}))
	state, err = s.eventState(ctx)
	require.NoError(t, err)
	remake()
	l := new(ledger)
	l.balance(state)
	require.ErrorIs(t, s.writeLedger(ctx, l, 0), errConflict)
	require.Zero(t, lostAfterCheck(t, s))
}
