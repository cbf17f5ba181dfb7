package nats

import (
	"sync"
	"testing"

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
