package nats

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// keepNothing makes all ended events too old.
func keepNothing(s *store) {
	p := *s.policy.Load()
	p.Keep = time.Microsecond
	s.policy.Store(&p)
}

// expiredAs returns the event as one to be removed, in its present state.
func expiredAs(t testing.TB, s *store, e *inbox.Event) expired {
	t.Helper()
	m, err := s.home.find(context.Background(), e.ID)
	require.NoError(t, err)
	return expired{id: e.ID, seq: m.seq, last: m.last, received: inbox.Micros(e.ReceivedAt)}
}

// numbers returns the number of events and of records in the streams.
func numbers(ctx context.Context, t testing.TB, s *store) (events, records uint64) {
	t.Helper()
	for stream, n := range map[string]*uint64{s.subjects.stream: &events, s.subjects.states(): &records} {
		there, err := s.js.Stream(ctx, stream)
		require.NoError(t, err)
		*n = there.CachedInfo().State.Msgs
	}
	metas, err := s.count(ctx, s.subjects.states(), s.subjects.allMeta())
	require.NoError(t, err)
	return events, records - metas
}

func TestWhatIsTooOldGoesWhoeverTidiesUp(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url, idle), openWith(t, url, idle)
	deliver(t, a, 2*retireBatch+10)
	waits := inboxtest.NewEvent("waits", inbox.Completed)
	inboxtest.Put(t, a, waits)
	ctx := context.Background()
	require.NoError(t, b.retireAll(ctx, 0))
	events, records := numbers(ctx, t, a)
	require.EqualValues(t, 2*retireBatch+11, events, "none is too old yet")
	require.EqualValues(t, 2*retireBatch+10, records)

	require.NoError(t, b.retireAll(ctx, 7))
	events, records = numbers(ctx, t, a)
	require.EqualValues(t, 2*retireBatch+4, events, "no more than must go early")
	require.EqualValues(t, 2*retireBatch+3, records)

	var wg sync.WaitGroup
	for _, s := range []*store{a, b} {
		keepNothing(s)
		wg.Go(func() {
			if err := s.retireAll(ctx, 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	events, records = numbers(ctx, t, a)
	require.EqualValues(t, 1, events)
	require.Zero(t, records)
	require.Equal(t, waits, inboxtest.Lease(t, a.home, 1)[0].Event)
}

// Between the two steps of its removal an event counts as removed. If the Caddy
// dies then, the next one to remove events takes the second step.
func TestARemovalThatWasCutShortIsEnded(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := afterMaintenance(t, openWith(t, url, idle)), afterMaintenance(t, openWith(t, url, idle))
	ctx := context.Background()
	e := deliver(t, a, 1)[0]
	require.NoError(t, a.retireOne(ctx, home, delivered, expiredAs(t, a, e)))
	_, err := b.Get(ctx, e.ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)
	require.ErrorIs(t, b.Replay(ctx, e.ID, ""), inbox.ErrNotFound)
	records, _, err := b.List(ctx, inbox.Filter{}, inbox.Page{})
	require.NoError(t, err)
	require.Empty(t, records)
	keepNothing(b)
	require.NoError(t, b.retireAll(ctx, 0))
	left, kept := numbers(ctx, t, b)
	require.Zero(t, left)
	require.Zero(t, kept)
	duplicateOf, err := b.Put(ctx, e)
	require.NoError(t, err)
	require.Empty(t, duplicateOf)
	require.Equal(t, e, inboxtest.Lease(t, a.home, 1)[0].Event)
}

func TestAnEventThatWasReplayedMeanwhileStays(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url, idle), openWith(t, url, idle)
	ctx := context.Background()
	e := deliver(t, a, 1)[0]
	old := expiredAs(t, a, e)
	require.NoError(t, b.Replay(ctx, e.ID, ""))
	require.NoError(t, a.retireOne(ctx, home, delivered, old))
	require.Equal(t, e, inboxtest.Lease(t, a.home, 1)[0].Event)
}

func TestOneTidiesUpAtATime(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := afterMaintenance(t, openWith(t, url, idle)), afterMaintenance(t, openWith(t, url, idle))
	ctx := context.Background()
	claims := func(s *store, mine *claim) bool {
		ok, err := s.claim(ctx, mine)
		require.NoError(t, err)
		return ok
	}
	var ofA, ofB claim
	require.True(t, claims(a, &ofA))
	require.True(t, claims(a, &ofA), "again")
	require.False(t, claims(b, &ofB))
	a.releaseClaim(ctx, &ofA)
	require.True(t, claims(b, &ofB))
	require.False(t, claims(a, new(claim)))

	// The claim of a Caddy that died expires.
	require.NoError(t, b.setMeta(ctx, b.subjects.meta(metaMaintenance), claim{By: b.instance, Until: time.Now().Add(-time.Second).UnixMicro()}))
	require.True(t, claims(a, new(claim)))
}

// Foreign records neither stop the removal of old events nor end it early.
func TestAForeignRecordDoesNotStopTheTidying(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, idle)
	ctx := context.Background()
	_, err := admin(t, url).Publish(ctx, s.subjects.stream+".state.delivered.short", []byte(`{}`))
	require.NoError(t, err)
	deliver(t, s, 3)
	keepNothing(s)
	inboxtest.Eventually(t, func() bool {
		require.NoError(t, s.retireAll(ctx, 0))
		events, records := numbers(ctx, t, s)
		return events == 0 && records == 0
	})
	_, err = admin(t, url).Publish(ctx, s.subjects.stream+".event.short", nil)
	require.NoError(t, err)
	_, _, err = s.List(ctx, inbox.Filter{}, inbox.Page{})
	require.ErrorContains(t, err, "is not of the gateway: remove it")
}
