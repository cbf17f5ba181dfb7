package nats

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestConformanceOfDestinations(t *testing.T) {
	for name, l := range map[string]limits{"usual": defaultLimits, "small": smallLimits} {
		t.Run(name, func(t *testing.T) {
			inboxtest.RunDestinations(t, factory(serve(t).ClientURL(), l))
		})
	}
}

// at returns the queue of a destination.
func at(t testing.TB, s *store, destination string) inbox.Queue {
	t.Helper()
	q, err := s.Queue(context.Background(), destination)
	require.NoError(t, err)
	return q
}

// send puts n events, each of its own task, for destinations whose queues it makes.
func send(t testing.TB, s *store, n int, destinations ...string) (events []*inbox.Event) {
	t.Helper()
	for _, d := range destinations {
		at(t, s, d)
	}
	for range n {
		e := inboxtest.NewEvent(fmt.Sprint("sent ", time.Now().UnixNano()), inbox.Completed)
		sent := *e
		sent.Destinations = destinations
		inboxtest.Put(t, s, &sent)
		events = append(events, e)
	}
	return events
}

// finish leases and settles n events at a destination, and returns their ids.
func finish(t testing.TB, s *store, v inbox.Verdict, n int, destination string) (ids []string) {
	t.Helper()
	q := at(t, s, destination)
	leases := inboxtest.Lease(t, q, n)
	for _, l := range leases {
		ids = append(ids, l.Event.ID)
	}
	inboxtest.Settle(t, q, v, leases...)
	return ids
}

func idsOf(events []*inbox.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}

// statsOf returns the summary and its part about a destination, zero if it has none.
func statsOf(t testing.TB, s *store, destination string) (inbox.Stats, inbox.DestinationStats) {
	t.Helper()
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	for _, d := range stats.Destinations {
		if d.Name == destination {
			return stats, d
		}
	}
	return stats, inbox.DestinationStats{}
}

// An inbox whose events go to the default destination alone has the streams and messages
// that it had before there were others.
func TestWithoutOtherDestinationsTheStreamsAreAsBefore(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, small)
	events := deliver(t, s, 3)
	named := *inboxtest.NewEvent("task", inbox.Completed)
	named.Destinations = []string{inbox.DefaultDestination}
	inboxtest.Put(t, s, &named)
	rounds := s.rounds.Load()
	inboxtest.Eventually(t, func() bool { return s.rounds.Load() > rounds+2 })
	var names []string
	for name := range admin(t, url).StreamNames(context.Background()).Name() {
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"TEST", "TEST_STATE", "TEST_QUARANTINE"}, names)
	for _, id := range append(idsOf(events), named.ID) {
		m, err := stream(t, url, "TEST").GetLastMsgForSubject(context.Background(), s.subjects.event(id))
		require.NoError(t, err)
		require.NotContains(t, m.Header, headerTo)
	}
	messages, err := s.all(context.Background(), "TEST_STATE", s.subjects.registration(">"))
	require.NoError(t, err)
	require.Empty(t, messages)
}

// During a rolling deploy some Caddys have a destination and others do not.
func TestCaddysWithDifferentDestinationsShareTheStreams(t *testing.T) {
	url := serve(t).ClientURL()
	older, newer := openWith(t, url, small), openWith(t, url, small)
	before := send(t, older, 3, inbox.DefaultDestination)
	events := send(t, newer, 5, inbox.DefaultDestination, "app")
	only := send(t, newer, 2, "app")
	require.ElementsMatch(t, append(idsOf(before), idsOf(events)...), finish(t, older, inbox.Deliver, 8, inbox.DefaultDestination))
	stats, app := statsOf(t, older, "app")
	require.Equal(t, [...]int64{7, 3, 0, 0, 0}, stats.Events)
	require.Equal(t, [...]int64{7, 0, 0, 0, 0}, app.Deliveries)
	require.ElementsMatch(t, append(idsOf(events), idsOf(only)...), finish(t, newer, inbox.Deliver, 7, "app"))
	stats, app = statsOf(t, older, "app")
	require.Equal(t, [...]int64{0, 10, 0, 0, 0}, stats.Events)
	require.Equal(t, [...]int64{0, 7, 0, 0, 0}, app.Deliveries)
	_, usual := statsOf(t, newer, inbox.DefaultDestination)
	require.Equal(t, [...]int64{0, 8, 0, 0, 0}, usual.Deliveries)

	// A retry of one Caddy comes to the other, too, once that knows of destinations.
	later := send(t, newer, 1, inbox.DefaultDestination, "app")
	finish(t, newer, inbox.Retry, 1, inbox.DefaultDestination)
	require.Equal(t, idsOf(later), finish(t, older, inbox.Deliver, 1, inbox.DefaultDestination))
}

func TestARemovedConsumerOfADestinationIsMadeAnewAndNothingIsLostOrRepeated(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, small)
	old := send(t, s, 2, "other")
	done := send(t, s, 4, "app", "other")
	require.Len(t, finish(t, s, inbox.Deliver, 4, "app"), 4)
	retried := send(t, s, 2, "app")
	finish(t, s, inbox.Retry, 2, "app")
	waiting := send(t, s, 6, "app")
	ctx := context.Background()
	require.NoError(t, admin(t, url).DeleteConsumer(ctx, "TEST", "gateway_app"))
	require.NoError(t, admin(t, url).DeleteConsumer(ctx, "TEST_TO_app", consumerName))
	require.ElementsMatch(t, append(idsOf(waiting), idsOf(retried)...), finish(t, s, inbox.Deliver, 8, "app"))
	last := send(t, s, 1, "app")
	require.Equal(t, idsOf(last), finish(t, s, inbox.Deliver, 1, "app"), "nothing comes twice")
	require.ElementsMatch(t, append(idsOf(old), idsOf(done)...), finish(t, s, inbox.Deliver, 6, "other"))
	stats, _ := statsOf(t, s, "app")
	require.Equal(t, [...]int64{0, 15, 0, 0, 0}, stats.Events)
}

// left waits until what is left at a destination that nobody has any more has records.
func left(t testing.TB, s *store, destination string) {
	t.Helper()
	inboxtest.Eventually(t, func() bool {
		r, _, err := s.registered(context.Background(), destination)
		return err == nil && r != nil && r.Idle
	})
}

func TestADestinationThatIsRemovedKeepsItsDeliveriesAndCanComeBack(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, small)
	events := send(t, s, 12, "app", "other")
	finish(t, s, inbox.Deliver, 2, "app")
	finish(t, s, inbox.Retry, 1, "app") // comes again before those that were never tried, or after
	dead := afterMaintenance(t, openWith(t, url, small))
	held := inboxtest.Lease(t, at(t, dead, "app"), 1)
	crash(dead)
	finish(t, s, inbox.Deliver, 12, "other")
	require.NoError(t, s.Close())

	s = openWith(t, url, small)
	more := send(t, s, 20, "other")
	left(t, s, "app")
	stats, app := statsOf(t, s, "app")
	require.Equal(t, [...]int64{10, 2, 0, 0, 0}, app.Deliveries, "exact, though more than limits.scan")
	require.Equal(t, [...]int64{30, 2, 0, 0, 0}, stats.Events)
	ctx := context.Background()
	r, err := s.Get(ctx, held[0].Event.ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Pending, r.State)
	require.NoError(t, s.Move(ctx, held[0].Event.ID, "app", "other"), "no lease of a dead Caddy keeps it")
	require.NoError(t, s.Close())

	s = openWith(t, url, small)
	new := send(t, s, 1, "app")
	got := finish(t, s, inbox.Deliver, 10, "app")
	for _, id := range got {
		require.NotEqual(t, held[0].Event.ID, id)
		require.Contains(t, append(idsOf(events), new[0].ID), id)
	}
	last := send(t, s, 1, "app")
	require.Equal(t, idsOf(last), finish(t, s, inbox.Deliver, 1, "app"))
	finish(t, s, inbox.Deliver, len(more)+1, "other")
	stats, app = statsOf(t, s, "app")
	require.Equal(t, [...]int64{0, 34, 0, 0, 0}, stats.Events)
	require.Equal(t, [...]int64{0, 13, 0, 0, 0}, app.Deliveries)
}

// While one Caddy has a destination, another without it leaves it alone.
func TestADestinationIsUsedAsLongAsOneCaddyHasIt(t *testing.T) {
	url := serve(t).ClientURL()
	with, without := openWith(t, url, small), openWith(t, url, small)
	send(t, with, 5, "app")
	began, rounds := time.Now(), without.rounds.Load()
	inboxtest.Eventually(t, func() bool { // although nobody leases
		return time.Since(began) > 2*usedFor*smallLimits.maintenance && without.rounds.Load() > rounds+10
	})
	r, _, err := without.registered(context.Background(), "app")
	require.NoError(t, err)
	require.False(t, r.Idle)
	n, err := without.count(context.Background(), "TEST_TO_app", "TEST.to.app.>")
	require.NoError(t, err)
	require.Zero(t, n, "a delivery was given a record")
}

func TestADestinationWithoutDeliveriesGoes(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, small)
	events := send(t, s, 5, "app")
	both := send(t, s, 1, "app", "other")
	require.NoError(t, s.Close())

	s = openWith(t, url, small)
	at(t, s, "other")
	left(t, s, "app")
	ctx := context.Background()
	for _, e := range events {
		require.NoError(t, s.Purge(ctx, e.ID, "app"))
		_, err := s.Get(ctx, e.ID)
		require.ErrorIs(t, err, inbox.ErrNotFound)
	}
	require.NoError(t, s.Purge(ctx, both[0].ID, ""))
	inboxtest.Eventually(t, func() bool {
		_, err := admin(t, url).Stream(ctx, "TEST_TO_app")
		r, _, rerr := s.registered(ctx, "app")
		return err != nil && rerr == nil && r == nil
	})
	require.NoError(t, s.health.problem())
	_, err := admin(t, url).Consumer(ctx, "TEST", "gateway_app")
	require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)

	new := send(t, s, 2, "app")
	require.ElementsMatch(t, idsOf(new), finish(t, s, inbox.Deliver, 2, "app"))
	stats, _ := statsOf(t, s, "app")
	require.Equal(t, [...]int64{0, 2, 0, 0, 0}, stats.Events)
	require.Zero(t, stats.Lost)
}

// While an inspection looks at the streams, that of a destination can be removed and made
// anew.
func TestADestinationThatGoesAndComesIsNotTakenForARemovedStream(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), small)
	require.NoError(t, s.makePlaces(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	inspected := make(chan error, 1)
	go func() {
		defer close(inspected)
		for ctx.Err() == nil {
			found := s.inspectStreams() //nolint:contextcheck // as the inspections' own goroutine calls it
			if err := errors.Join(found.err, found.silent); err != nil {
				inspected <- err
				return
			}
		}
	}()
	for range 30 {
		_, err := s.ensureDestination(t.Context(), "app")
		require.NoError(t, err)
		r, seq, err := s.registered(t.Context(), "app")
		require.NoError(t, err)
		r.Closing = time.Now().UnixMicro()
		require.NoError(t, s.register(t.Context(), "app", r, seq))
		_, seq, err = s.registered(t.Context(), "app")
		require.NoError(t, err)
		require.NoError(t, s.closeDestination(t.Context(), "app", seq))
		require.NoError(t, s.learn(t.Context()))
	}
	stop()
	require.NoError(t, <-inspected)
}

// Without the option forward nobody leases for the default destination.
func TestWhatIsLeftForTheDefaultDestinationIsCounted(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, small)
	usual := send(t, s, 15, inbox.DefaultDestination)
	both := send(t, s, 15, inbox.DefaultDestination, "app")
	require.NoError(t, s.Close())

	s = openWith(t, url, small)
	send(t, s, 40, "app")
	left(t, s, inbox.DefaultDestination)
	_, d := statsOf(t, s, inbox.DefaultDestination)
	require.Equal(t, [...]int64{30, 0, 0, 0, 0}, d.Deliveries)
	require.NoError(t, s.Move(context.Background(), usual[0].ID, inbox.DefaultDestination, "app"))
	require.NoError(t, s.Purge(context.Background(), both[0].ID, inbox.DefaultDestination))
	_, d = statsOf(t, s, inbox.DefaultDestination)
	require.Equal(t, [...]int64{28, 0, 0, 0, 0}, d.Deliveries)
	require.Len(t, finish(t, s, inbox.Deliver, 56, "app"), 56)
	require.ElementsMatch(t, idsOf(append(usual[1:], both[1:]...)), finish(t, s, inbox.Deliver, 28, inbox.DefaultDestination))
	stats, _ := statsOf(t, s, inbox.DefaultDestination)
	require.Equal(t, [...]int64{0, 70, 0, 0, 0}, stats.Events)
}

func TestHoldsAndTroublesOfDestinationsAreTold(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := t.Context()
	type told struct {
		destination string
		hold        inbox.Hold
		trouble     inbox.Trouble
	}
	heard := make(chan told, 10)
	for _, name := range []string{inbox.DefaultDestination, "app"} {
		q := at(t, b, name).(inbox.Shared)
		go func() {
			_ = q.Watch(ctx, func(h inbox.Hold) { heard <- told{name, h, inbox.Trouble{}} },
				func(tr inbox.Trouble) { heard <- told{name, inbox.Hold{}, tr} })
		}()
	}
	hold, trouble := inbox.Hold{Since: time.UnixMicro(1e15).UTC(), Reason: "x"}, inbox.Trouble{Until: time.UnixMicro(3e15).UTC(), Reason: "503"}
	require.NoError(t, at(t, a, "app").SetHold(ctx, hold))
	require.Equal(t, told{"app", hold, inbox.Trouble{}}, <-heard)
	require.NoError(t, a.home.TellTrouble(ctx, trouble))
	require.Equal(t, told{inbox.DefaultDestination, inbox.Hold{}, trouble}, <-heard)
	require.Empty(t, heard)
}

// What waits is estimated if it is much. Those that were replayed elsewhere are the oldest.
func TestWhatWaitsBehindOthersThatDoNotIsCounted(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), small)
	events := send(t, s, 100, "app", "other")
	_, app := statsOf(t, s, "app")
	require.EqualValues(t, 100, app.Deliveries[inbox.Pending])
	for _, e := range events[:60] {
		require.NoError(t, s.Move(context.Background(), e.ID, "app", "other"))
	}
	_, app = statsOf(t, s, "app")
	require.InDelta(t, 40, app.Deliveries[inbox.Pending], 15)
	for _, e := range events[60:98] {
		require.NoError(t, s.Move(context.Background(), e.ID, "app", "other"))
	}
	_, app = statsOf(t, s, "app")
	require.InDelta(t, 2, app.Deliveries[inbox.Pending], 15)
}
