package nats

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// A probe fails for the reasons for which events are refused, and starts the removal of
// delivered ones though no event arrives.
func TestProbeOfAFullStream(t *testing.T) {
	ctx := context.Background()
	s := openWith(t, serve(t).ClientURL(), idle, func(o *options) { o.settings.maxSize = minMaxSize })
	require.NoError(t, s.Probe(ctx))
	n := 0
	for _, size := range []int{32 << 10, 1 << 10} { // the small ones fill what the large ones leave
		for full := false; !full; {
			e := inboxtest.NewEvent("task", inbox.Completed)
			e.Body = make([]byte, size)
			if _, err := s.Put(ctx, e); err != nil {
				require.ErrorIs(t, err, inbox.ErrFull)
				full = true
			} else {
				n++
			}
		}
	}
	require.ErrorIs(t, s.Probe(ctx), inbox.ErrFull)
	for range n {
		inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	}
	inboxtest.Eventually(t, func() bool { return s.Probe(ctx) == nil })
}

func TestProbeWhileTheServerIsAway(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	first := serve(t, fixed(port, dir))
	s := openWith(t, first.ClientURL(), func(o *options) { o.limits.grace = time.Millisecond })
	ctx := context.Background()
	require.NoError(t, s.Probe(ctx))
	first.Shutdown()
	first.WaitForShutdown()
	inboxtest.Eventually(t, func() bool { return s.Probe(ctx) != nil })
	require.ErrorIs(t, s.Probe(ctx), errDisconnected)
	serve(t, fixed(port, dir))
	inboxtest.Eventually(t, func() bool { return s.Probe(ctx) == nil })
}

func TestProbeOfARemovedStream(t *testing.T) {
	url := serve(t).ClientURL()
	for _, name := range []string{"TEST", "TEST_STATE"} {
		t.Run(name, func(t *testing.T) {
			s := openWith(t, url, passive, func(o *options) { o.settings.publishTimeout = time.Second })
			ctx := context.Background()
			require.NoError(t, s.Probe(ctx))
			require.NoError(t, admin(t, url).DeleteStream(ctx, name))
			require.Error(t, s.Probe(ctx))
			inboxtest.Eventually(t, func() bool { return s.health.problem() != nil })
			require.ErrorIs(t, s.Probe(ctx), inbox.ErrBroken)
		})
	}
}
