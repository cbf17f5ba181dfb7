package nats

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// The server runs in a process of its own, because it has goroutines too.
func TestAnInboxThatWasClosedLeavesNothingRunning(t *testing.T) {
	cluster := natstest.New(t, natstest.Config{Nodes: 1, Separate: true})
	ignore := goleak.IgnoreCurrent()
	ctx := context.Background()
	s := openWith(t, cluster.URLs()[0])
	watched := make(chan error, 1)
	go func() { watched <- s.home.Watch(ctx, func(inbox.Hold) {}, func(inbox.Trouble) {}) }()
	events := []*inbox.Event{inboxtest.NewEvent("task", inbox.InProgress), inboxtest.NewEvent("task", inbox.Completed), inboxtest.NewEvent("other", inbox.Completed)}
	inboxtest.Put(t, s, events...)
	inboxtest.Settle(t, s.home, inbox.Retry, inboxtest.Lease(t, s.home, 1)...)
	inboxtest.Lease(t, s.home, 1)
	require.NoError(t, s.home.SetHold(ctx, inbox.Hold{Reason: "x"}))
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-watched, inbox.ErrClosed)
	_, err := s.home.Lease(ctx, 1)
	require.ErrorIs(t, err, inbox.ErrClosed)
	goleak.VerifyNone(t, ignore)
}
