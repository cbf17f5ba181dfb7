package nats

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The race detector tells whether the message of a lease may be exchanged while
// the lease is settled.
func TestALeaseIsSettledWhileItsEventComesAgain(t *testing.T) {
	s := with(t, serve(t).ClientURL())
	for range 20 {
		put(t, s, newEvent("task", inbox.Completed))
		l := leases(t, s, 1)
		again := *s.leaser.get(l[0].Ref).msg
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.arrived(&s.leaser.fresh, &again)
				}
			}
		})
		settle(t, s, inbox.Deliver, l...)
		close(stop)
		wg.Wait()
		s.leaser.drop(l[0].Event.ID)
	}
}

// What a Caddy is about to remove may have been put again since, and delivered.
func TestWhatIsRemovedLateTakesNothingOfAnEventThatWasPutAgain(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := with(t, url), with(t, url)
	ctx := context.Background()
	e := newEvent("task", inbox.Completed)
	put(t, a, e)
	settle(t, a, inbox.Deliver, leases(t, a, 1)...)
	m, err := a.find(ctx, e.ID)
	require.NoError(t, err)
	late := expired{id: e.ID, seq: m.seq}
	late.last, err = a.writeRecord(ctx, gone, e.ID, record{Event: m.seq}, m.last)
	require.NoError(t, err)
	require.NoError(t, b.removeOld(ctx, gone, late), "another is faster")
	put(t, b, e)
	settle(t, b, inbox.Deliver, leases(t, b, 1)...)
	require.NoError(t, a.removeOld(ctx, gone, late))
	r, _, err := b.Get(ctx, e.ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Delivered, r.State)
	next := newEvent("task", inbox.Completed)
	put(t, b, next)
	require.Equal(t, next.ID, leases(t, b, 1)[0].Event.ID)
}
