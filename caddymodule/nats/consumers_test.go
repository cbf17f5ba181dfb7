package nats

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// A consumer that is paused brings nothing. That is told once, and again if it changes,
// and callbacks are taken.
func TestAPausedConsumerIsToldOf(t *testing.T) {
	url := serve(t).ClientURL()
	core, logs := observer.New(zap.InfoLevel)
	s := openWith(t, url, func(o *options) { o.log, o.limits = zap.New(core), smallLimits })
	ctx, js := context.Background(), admin(t, url)
	rounds := func() {
		t.Helper()
		end := s.rounds.Load() + 3
		inboxtest.Eventually(t, func() bool {
			s.wakeMaintenance()
			return s.rounds.Load() >= end
		})
	}
	told := func(n int) {
		t.Helper()
		inboxtest.Eventually(t, func() bool { return logs.FilterMessageSnippet("somebody has paused the consumer").Len() >= n })
		rounds()
		require.Equal(t, n, logs.FilterMessageSnippet("somebody has paused the consumer").Len())
	}
	until := time.Now().Add(time.Hour)
	_, err := js.PauseConsumer(ctx, "TEST", consumerName, until)
	require.NoError(t, err)
	told(1)
	fields := logs.FilterMessageSnippet("somebody has paused the consumer").All()[0].ContextMap()
	require.Equal(t, "nats consumer resume TEST gateway --force", fields["with"])
	at, ok := fields["until"].(time.Time)
	require.True(t, ok)
	require.WithinDuration(t, until, at, time.Second)
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, e)
	require.NoError(t, s.Probe(ctx))

	_, err = js.PauseConsumer(ctx, "TEST", consumerName, until.Add(time.Hour))
	require.NoError(t, err)
	told(2)
	_, err = js.PauseConsumer(ctx, "TEST_STATE", consumerName, until)
	require.NoError(t, err)
	told(3)
	for _, stream := range []string{"TEST", "TEST_STATE"} {
		_, err = js.ResumeConsumer(ctx, stream, consumerName)
		require.NoError(t, err)
	}
	inboxtest.Eventually(t, func() bool { return logs.FilterMessageSnippet("is not paused any more").Len() == 2 })
	require.Equal(t, e, inboxtest.Lease(t, s.home, 1)[0].Event)
}
