package nats

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// The outcomes of a batch are stored one after the other, and its leases end together: what
// is to be tried again may be delivered by another Caddy in between.
func TestAnEventEndsThoughALeaseOfAnEarlierAttemptIsStillHeld(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := afterMaintenance(t, openWith(t, url, idle)), afterMaintenance(t, openWith(t, url, idle))
	at(t, b, "app")
	send(t, a, 1, inbox.DefaultDestination, "app")
	usual := inboxtest.Lease(t, a.home, 1)
	q := a.queueNamed("app")
	first := inboxtest.Lease(t, q, 1)
	_, err := q.settle(t.Context(), q.leaser.get(first[0].Ref), inboxtest.Outcome(inbox.Retry, first[0]))
	require.NoError(t, err)

	finish(t, b, inbox.Deliver, 1, "app")
	inboxtest.Settle(t, a.home, inbox.Deliver, usual...)
	stats, _ := statsOf(t, a, "app")
	require.Equal(t, [...]int64{0, 1, 0, 0, 0}, stats.Events)
}

// As above, but the first lease has ended its delivery and looked at the others.
func TestAnEventEndsThoughALeaseThatHasLookedIsStillHeld(t *testing.T) {
	s := afterMaintenance(t, openWith(t, serve(t).ClientURL(), idle))
	send(t, s, 1, inbox.DefaultDestination, "app")
	usual, q := inboxtest.Lease(t, s.home, 1), s.queueNamed("app")
	first := inboxtest.Lease(t, q, 1)
	done, err := q.settle(t.Context(), q.leaser.get(first[0].Ref), inboxtest.Outcome(inbox.Deliver, first[0]))
	require.NoError(t, err)
	require.NoError(t, q.finish(t.Context(), []*settled{done}))
	s.endings.forget(done.member.seq, []string{"app"}) // as with many events, or after a replay

	inboxtest.Settle(t, s.home, inbox.Deliver, usual...)
	stats, _ := statsOf(t, s, "app")
	require.Equal(t, [...]int64{0, 1, 0, 0, 0}, stats.Events)
}

// Whoever ends another delivery of an event meanwhile leaves it to a lease to look whether
// that was the last.
func TestAnEventEndsThoughALeaseWasLost(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := afterMaintenance(t, openWith(t, url, idle)), afterMaintenance(t, openWith(t, url, idle))
	at(t, b, "other")
	e := send(t, a, 1, inbox.DefaultDestination, "app")[0]
	usual, app := inboxtest.Lease(t, a.home, 1), inboxtest.Lease(t, at(t, a, "app"), 1)
	require.NoError(t, b.Move(t.Context(), e.ID, "app", "other"))
	finish(t, b, inbox.Deliver, 1, "other")
	inboxtest.Settle(t, a.home, inbox.Deliver, usual...)

	require.ErrorIs(t, at(t, a, "app").Settle(t.Context(), inboxtest.Outcome(inbox.Retry, app[0])), inbox.ErrState)
	stats, _ := statsOf(t, a, "app")
	require.Equal(t, [...]int64{0, 1, 0, 0, 0}, stats.Events)
}

func TestAnEventEndsThoughThatCouldNotBeWrittenDownWhenItWasSuperseded(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive, func(o *options) { o.settings.publishTimeout = 200 * time.Millisecond }))
	both := []string{inbox.DefaultDestination, "app"}
	q := at(t, s, "app")
	put := func(status inbox.Status) {
		e := inboxtest.NewEvent("task", status)
		e.Destinations = both
		inboxtest.Put(t, s, e)
	}
	put(inbox.InProgress)
	finish(t, s, inbox.Deliver, 1, inbox.DefaultDestination)
	later := inboxtest.Outcome(inbox.Retry, inboxtest.Lease(t, q, 1)[0])
	later.Due = time.Now().Add(2 * time.Second)
	require.NoError(t, q.Settle(t.Context(), later))
	nothingFor(t, q, 200*time.Millisecond) // its record is handed out, and returned until it is due

	edit(t, url, "TEST_ALL", func(c *jetstream.StreamConfig) { c.Subjects = []string{"nothing"} })
	put(inbox.Completed)
	final := inboxtest.Lease(t, q, 1)
	edit(t, url, "TEST_ALL", func(c *jetstream.StreamConfig) { c.Subjects = []string{s.subjects.all().everything()} })
	inboxtest.Settle(t, q, inbox.Deliver, final...)
	finish(t, s, inbox.Deliver, 1, inbox.DefaultDestination)
	inboxtest.Eventually(t, func() bool {
		nothingFor(t, q, 50*time.Millisecond)
		stats, _ := statsOf(t, s, "app")
		return stats.Events == [...]int64{0, 2, 0, 0, 0}
	})
}

// nothingFor leases for a while, and gets nothing.
func nothingFor(t testing.TB, q inbox.Queue, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := q.Lease(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
