package nats

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestManyParkedEventsDoNotDelayOthers(t *testing.T) {
	const parked = 100
	for _, places := range []int{1, 2, parked} {
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			l := new(leaser)
			l.init()
			for i := range uint64(parked) {
				require.True(t, l.park(&candidate{seq: i + 1, lookAt: time.Now()}, 0, parked))
			}
			again := &candidate{again: true, seq: 1000}
			l.again.queue = append(l.again.queue, again)
			seen, got := map[*candidate]bool{}, false
			for range 2 * parked * 2 / places {
				batch, _ := l.take(places, false, time.Now())
				require.Len(t, batch, places, "no place stays empty")
				for _, c := range batch {
					if c == again {
						got = true
						l.done(c)
						l.again.queue = append(l.again.queue, c)
						continue
					}
					seen[c] = true
					require.True(t, l.park(c, 0, parked))
				}
			}
			require.True(t, got)
			require.Len(t, seen, parked, "nor do others delay them")
			require.Empty(t, l.looking)
		})
	}
}

// Many looks at a slow server take longer than a short lease.
func TestAnEventIsKeptWhileItIsLookedAt(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), idle)
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	c := candidateOf(t, s)
	inspect(s, func(l *leaser) {
		kept := map[*candidate]bool{}
		l.each(func(c *candidate) { kept[c] = true })
		require.Contains(t, kept, c, "the server is told that it is at work")
	})

	again := *c.msg // it comes again all the same
	s.home.arrived(&s.home.leaser.fresh, &again)
	inspect(s, func(l *leaser) { require.Empty(t, l.fresh.queue) })
	leases := s.home.leaseBatch([]*candidate{c})
	require.Len(t, leases, 1)
	s.home.arrived(&s.home.leaser.fresh, &again)
	inspect(s, func(l *leaser) {
		require.Empty(t, l.fresh.queue, "it is leased")
		require.Empty(t, l.looking)
	})
	inboxtest.Settle(t, s.home, inbox.Deliver, leases...)
}

func TestAnEventThatIsGivenBackMayComeAgainAtOnce(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), idle, func(o *options) { o.limits.parked = 1 })
	for range 2 {
		inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
		c := candidateOf(t, s)
		again := *c.msg
		s.home.park(c, time.Hour) // the second one goes back to the server
		s.home.arrived(&s.home.leaser.fresh, &again)
	}
	inspect(s, func(l *leaser) {
		require.Len(t, l.parked, 1)
		require.Len(t, l.fresh.queue, 1)
	})
}
