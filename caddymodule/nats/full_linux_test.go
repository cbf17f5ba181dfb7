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
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// A server that cannot write does not answer a publish, and does not recover by
// itself. The error says both, and later calls fail without a delay.
func TestAServerThatCannotWriteIsNamed(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 1, Separate: true})
	const timeout = 3 * time.Second
	core, logs := observer.New(zap.ErrorLevel)
	s := clustered(t, c, func(o *options) { o.log, o.settings.publishTimeout = zap.New(core), timeout })
	ctx := context.Background()
	stored := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, stored)
	require.NoError(t, c.Limit(0, 1<<20))
	const told = "has stopped writing it (file too large); make room on its disk, then restart that NATS server"
	big := func() error {
		e := inboxtest.NewEvent("task", inbox.Completed)
		e.Body = make([]byte, 100<<10)
		_, err := s.Put(ctx, e)
		return err
	}
	inboxtest.Eventually(t, func() bool { return big() != nil })
	inboxtest.Eventually(t, func() bool { return logs.FilterMessageSnippet("events cannot be stored").Len() > 1 })
	for range 20 {
		began := time.Now()
		require.ErrorContains(t, big(), told)
		require.Less(t, time.Since(began), timeout/2)
	}
	_, err := s.Stats(ctx)
	require.ErrorContains(t, err, told)

	require.NoError(t, c.Limit(0, natstest.Unlimited))
	s.inspect()
	require.ErrorContains(t, big(), told, "there is room, but the server does not use it")
	require.NoError(t, c.Kill(0))
	require.NoError(t, c.Restart(ctx, 0))
	require.Eventually(t, func() bool { return big() == nil }, time.Minute, 10*time.Millisecond)
	_, err = s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, stored, inboxtest.Lease(t, s.home, 1)[0].Event)
}
