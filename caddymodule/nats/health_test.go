package nats

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// If a stream has fewer replicas than configured, that is logged, but nothing
// is refused: another Caddy may have a config with fewer that this one gets a
// moment later.
func TestAStreamWithFewReplicasIsToldOf(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s := openWith(t, serve(t).ClientURL(), watchful, func(o *options) { o.log = zap.New(core) })
	now := *s.current.Load()
	now.replicas = 3
	s.current.Store(&now)
	inboxtest.Eventually(t, func() bool { return logs.FilterMessageSnippet("fewer copies").Len() > 0 })
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	require.NoError(t, s.health.problem())
	told := logs.FilterMessageSnippet("fewer copies").All()
	require.Len(t, told, 1)
	require.Contains(t, told[0].ContextMap()["streams"], "stream TEST has replicas 1 and 3 are configured: nats stream edit TEST --replicas=3 --force")
}

// A stream that would lose events takes none until it is repaired.
func TestAStreamThatWouldLoseEventsTakesNone(t *testing.T) {
	for _, test := range []struct {
		stream       string
		spoil, mend  func(*jetstream.StreamConfig)
		says, advice string
	}{
		{
			"TEST", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
			func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew },
			"discard is DiscardOld and must be DiscardNew", "nats stream edit TEST --discard=new --force",
		},
		{
			"TEST", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
			func(c *jetstream.StreamConfig) { c.MaxAge = 0 },
			"max_age is 1h0m0s and must be 0", "nats stream edit TEST --max-age=0s --force",
		},
		{
			"TEST", func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 },
			func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 },
			"max_msgs is 5 and must be -1", "nats stream edit TEST --max-msgs=-1 --force",
		},
		{
			"TEST", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
			func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = -1 },
			"max_msgs_per_subject is 1 and must be -1", "nats stream edit TEST --max-msgs-per-subject=-1 --force",
		},
		{
			"TEST", func(c *jetstream.StreamConfig) { c.NoAck = true },
			func(c *jetstream.StreamConfig) { c.NoAck = false },
			"no_ack is true and must be false", "nats stream edit TEST --ack --force",
		},
		{
			"TEST_STATE", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
			func(c *jetstream.StreamConfig) { c.MaxBytes = -1 },
			"max_bytes is 1048576 and must be -1", "nats stream edit TEST_STATE --max-bytes=-1 --force",
		},
	} {
		t.Run(strings.Fields(test.says)[0], func(t *testing.T) {
			url := serve(t).ClientURL()
			core, logs := observer.New(zap.InfoLevel)
			s := openWith(t, url, watchful, func(o *options) { o.log = zap.New(core) })
			before := inboxtest.NewEvent("before", inbox.Completed)
			inboxtest.Put(t, s, before)
			edit(t, url, test.stream, test.spoil)
			inboxtest.Eventually(t, func() bool { return s.health.problem() != nil })
			_, err := s.Put(context.Background(), inboxtest.NewEvent("meanwhile", inbox.Completed))
			require.ErrorIs(t, err, inbox.ErrBroken)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, test.advice)
			_, err = s.Stats(context.Background())
			require.ErrorIs(t, err, inbox.ErrBroken)
			l := inboxtest.Lease(t, s.home, 1)
			require.Equal(t, before, l[0].Event, "deliveries go on")
			inboxtest.Settle(t, s.home, inbox.Deliver, l...)

			edit(t, url, test.stream, test.mend)
			inboxtest.Eventually(t, func() bool { return s.health.problem() == nil })
			inboxtest.Put(t, s, inboxtest.NewEvent("after", inbox.Completed))
			require.Equal(t, 1, logs.FilterMessageSnippet("events cannot be stored").Len())
			require.Equal(t, 1, logs.FilterMessageSnippet("events are stored again").Len())
		})
	}
}

// When a stream is removed, puts fail without a delay until a reload creates it
// again. The pending events are counted as lost.
func TestAStreamThatWasRemovedIsMadeAnewByAReload(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, watchful, func(o *options) { o.settings.publishTimeout = time.Minute }))
	ctx := context.Background()
	inboxtest.Put(t, s, inboxtest.NewEvent("delivered", inbox.Completed))
	inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	inboxtest.Put(t, s, inboxtest.NewEvent("retried", inbox.Completed))
	l := inboxtest.Lease(t, s.home, 1)
	require.NoError(t, s.home.Settle(ctx, inbox.Outcome{Lease: l[0], Verdict: inbox.Retry, Due: time.Now().Add(time.Millisecond)}))
	for range 3 {
		inboxtest.Put(t, s, inboxtest.NewEvent("new", inbox.Completed))
	}
	require.NoError(t, admin(t, url).DeleteStream(ctx, "TEST"))
	began := time.Now()
	_, err := s.Put(ctx, inboxtest.NewEvent("meanwhile", inbox.Completed))
	require.ErrorIs(t, err, inbox.ErrBroken)
	require.ErrorContains(t, err, "stream TEST is gone")
	_, err = s.Stats(ctx)
	require.ErrorIs(t, err, inbox.ErrBroken)
	require.Less(t, time.Since(began), 40*time.Second, "with a publish timeout of a minute")

	(&Inbox{Replicas: 1, MaxSize: 32 << 20, Lease: 1e9, PublishTimeout: 5e9}).Apply(s, inbox.Policy{Quarantine: 10, Keep: time.Hour})
	inboxtest.Eventually(t, func() bool { return s.health.problem() == nil })
	nothingElse(t, s)
	inboxtest.Eventually(t, func() bool {
		stats, err := s.Stats(ctx)
		return s.retireAll(ctx, 0) == nil && err == nil && stats.Lost == 4
	})
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Zero(t, stats.Events[inbox.Pending])
}

// If both streams are removed, sequences begin anew, and the old ones do not count as
// lost when the stream of events is removed once more.
func TestALossAfterBothStreamsWereRemovedIsCountedOnce(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, watchful))
	ctx := context.Background()
	remove := func(streams ...string) {
		for _, name := range streams {
			require.NoError(t, admin(t, url).DeleteStream(ctx, name))
		}
		inboxtest.Eventually(t, func() bool { return s.health.problem() != nil })
		s.requestRemake()
		inboxtest.Eventually(t, func() bool { return s.health.problem() == nil })
	}
	for range 20 {
		inboxtest.Put(t, s, inboxtest.NewEvent("old", inbox.Completed))
	}
	remove("TEST", "TEST_STATE")
	inboxtest.Eventually(t, func() bool {
		l, _, err := s.readLedger(ctx)
		return err == nil && l != nil
	})
	inboxtest.Put(t, s, inboxtest.NewEvent("new", inbox.Completed))
	remove("TEST")
	inboxtest.Eventually(t, func() bool {
		stats, err := s.Stats(ctx)
		require.LessOrEqual(t, stats.Lost, int64(1))
		return s.retireAll(ctx, 0) == nil && err == nil && stats.Lost == 1
	})
}

// Without the stream of states the state of the events is unknown. An event
// that waited for a retry must be delivered nevertheless.
func TestWithoutTheStreamOfStatesEventsAreDeliveredAnew(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, watchful))
	ctx := context.Background()
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, e)
	l := inboxtest.Lease(t, s.home, 1)
	require.NoError(t, s.home.Settle(ctx, inbox.Outcome{Lease: l[0], Verdict: inbox.Retry, Due: time.Now().Add(time.Hour)}))
	require.NoError(t, admin(t, url).DeleteStream(ctx, "TEST_STATE"))
	inboxtest.Eventually(t, func() bool { return s.health.problem() != nil })
	require.ErrorContains(t, s.health.problem(), "stream TEST_STATE is gone")
	s.requestRemake()
	inboxtest.Eventually(t, func() bool { return s.health.problem() == nil })
	l = inboxtest.Lease(t, s.home, 1)
	require.Equal(t, e, l[0].Event)
	inboxtest.Settle(t, s.home, inbox.Deliver, l...)
	nothingElse(t, s)
}
