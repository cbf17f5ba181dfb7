package nats

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// In an outage of the stream of states many looks at events fail, over and over. They are
// told of once.
func TestLooksThatFailAreToldOnce(t *testing.T) {
	url := serve(t).ClientURL()
	core, logs := observer.New(zap.InfoLevel)
	s := openWith(t, url, passive, func(o *options) { o.log = zap.New(core) })
	ctx := context.Background()
	for i := range 20 {
		inboxtest.Put(t, s, inboxtest.NewEvent(fmt.Sprint(i), inbox.InProgress)) // each needs a look
	}
	edit(t, url, "TEST_STATE", func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	leasing, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := s.home.Lease(leasing, 20)
		done <- err
	}()
	failed := func() int {
		s.looks.mu.Lock()
		defer s.looks.mu.Unlock()
		return s.looks.more
	}
	inboxtest.Eventually(t, func() bool { return failed() >= 30 })
	stop()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Equal(t, 1, logs.FilterMessageSnippet("an event cannot be looked at").Len())
}
