package nats

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// clustered opens an inbox with a replica on each server of the cluster.
func clustered(t *testing.T, c *natstest.Cluster, change ...func(*options)) *store {
	t.Helper()
	return openWith(t, "", append(change, func(o *options) {
		o.urls, o.settings.replicas, o.settings.lease = c.URLs(), len(c.URLs()), 30*time.Second
	})...)
}

// rounds stores and delivers two events of each of n tasks, so that each needs
// a look at its task. It returns how long that took.
func rounds(t *testing.T, s *store, n int) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	for range n {
		task := rand.Text()
		for _, status := range []inbox.Status{inbox.InProgress, inbox.Completed} {
			e := inboxtest.NewEvent(task, status)
			_, err := s.Put(ctx, e)
			require.NoError(t, err)
			l, err := s.home.Lease(ctx, 1)
			require.NoError(t, err)
			require.Equal(t, e.ID, l[0].Event.ID)
			require.NoError(t, s.home.Settle(ctx, inboxtest.Outcomes(inbox.Deliver, l...)...))
		}
	}
	return time.Since(began)
}

// awaitRound waits until the inbox stores and delivers again. It also delivers
// what earlier tries stored without an answer.
func awaitRound(t *testing.T, s *store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e := inboxtest.NewEvent(rand.Text(), inbox.Completed)
	for {
		if _, err := s.Put(ctx, e); err == nil {
			break
		}
		require.NoError(t, ctx.Err())
	}
	for found := false; !found; {
		l, err := s.home.Lease(ctx, 10)
		require.NoError(t, err)
		found = l[len(l)-1].Event.ID == e.ID
		for err = s.home.Settle(ctx, inboxtest.Outcomes(inbox.Deliver, l...)...); err != nil; err = s.home.Settle(ctx, inboxtest.Outcomes(inbox.Deliver, l...)...) {
			require.NoError(t, ctx.Err())
		}
	}
}

// A server that stands still answers nothing, and the others do not notice for
// a minute. Whichever server it is, deliveries go on, and not much slower.
func TestOneServerStandsStill(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 3, Separate: true})
	s := clustered(t, c, func(o *options) { o.settings.publishTimeout = 10 * time.Second })
	const n = 40
	usual := rounds(t, s, n)
	for node := range 3 {
		require.NoError(t, c.Freeze(node))
		awaitRound(t, s)
		took := rounds(t, s, n)
		t.Logf("%d events in %s, with server %d standing still in %s", 2*n, usual, node, took)
		require.Less(t, took, 5*usual+10*time.Second)
		require.NoError(t, c.Thaw(node))
		require.NoError(t, c.AwaitHealthy(t.Context()))
	}
	inboxtest.Eventually(t, func() bool { // the servers may just be electing leaders
		stats, err := s.Stats(context.Background())
		return err == nil && stats.Events[inbox.Pending] == 0
	})
}

// Two of three are too many. Once that is known, calls fail without a delay.
func TestTwoServersStandStill(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 3, Separate: true})
	const timeout = 5 * time.Second
	s := clustered(t, c, func(o *options) { o.settings.publishTimeout = timeout })
	ctx := context.Background()
	rounds(t, s, 2)
	require.NoError(t, c.Freeze(0))
	require.NoError(t, c.Freeze(1))
	refuse := func() (err error) {
		_, err = s.Put(ctx, inboxtest.NewEvent("task", inbox.Completed))
		require.Error(t, err)
		return err
	}
	require.Eventually(t, func() bool { _ = refuse(); return s.health.problem() != nil }, time.Minute, time.Millisecond)
	for range 20 {
		began := time.Now()
		err := refuse()
		require.Less(t, time.Since(began), timeout/2)
		require.ErrorContains(t, err, "NATS did not answer within 5s: too few of the servers")
	}
	_, err := s.Stats(ctx)
	require.ErrorContains(t, err, "too few of the servers")
	require.NoError(t, c.Thaw(0))
	require.NoError(t, c.Thaw(1))
	require.Eventually(t, func() bool { return s.health.problem() == nil }, time.Minute, 10*time.Millisecond)
	awaitRound(t, s)
}
