package gateway

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// The events of callbacks need room before the callbacks are removed.
func TestCallbacksThatWaitDoNotFillTheInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, nil)
		c.fotor.err = reconcile.ErrKeyRefused
		require.NoError(t, c.attach(c.confirms("one", true)))
		c.call("a", `"status":1`)
		g := c.atts[0].gateway
		room := func() error {
			done, err := g.roomToConfirm(t.Context(), &inbox.Event{})
			if err == nil {
				done()
			}
			return err
		}
		c.depot.change(func() { c.depot.size = inbox.Stats{Bytes: 96_000, MaxBytes: 100_000} })
		awhile(time.Second)
		require.ErrorIs(t, room(), inbox.ErrFull)
		c.depot.change(func() { c.depot.size.Events[inbox.Pending] = 3 }) // mostly others
		require.ErrorIs(t, room(), inbox.ErrFull, "as it was a moment ago")
		awhile(time.Second)
		require.NoError(t, room())
		c.detach(0)
	})
}

// They do not either if they come at once, nor if another Caddy fills the inbox as fast.
func TestABurstOfCallbacksLeavesRoomForTheirEvents(t *testing.T) {
	const mega = 1 << 20
	for _, b := range []struct {
		name         string
		size         int64 // of the inbox
		count        int
		body, really int64         // of a callback, and what one takes in the inbox
		pause        time.Duration // after each 20
		others       int64         // times what comes from elsewhere
		least, most  float64
	}{
		{"large ones", 20 * mega, 1500, 20_000, 24_000, time.Millisecond, 0, 0.93, 0.95},
		{"small ones", 2 * mega, 5000, 200, 450, time.Millisecond, 0, 0.9, 0.95},
		{"one each page", 10 * mega, 5000, 2100, 4400, time.Millisecond, 0, 0.93, 0.95},
		{"from three Caddys", 20 * mega, 1500, 20_000, 24_000, 30 * time.Millisecond, 2, 0.85, 0.98}, // what is under way there is not known
		{"few", 500 * mega, 1500, 20_000, 24_000, time.Millisecond, 0, 0, 0.95},
	} {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newConfirmerOf(t, nil)
				c.fotor.err = reconcile.ErrKeyRefused
				require.NoError(t, c.attach(c.confirms("one", true)))
				awhile(time.Second)
				g := c.atts[0].gateway
				c.depot.change(func() {
					c.depot.size = inbox.Stats{MaxBytes: b.size}
					c.depot.each, c.depot.asked = b.really*(1+b.others), 0
				})
				body := make([]byte, b.body)
				var calls sync.WaitGroup
				var refused atomic.Int64
				for i := range b.count {
					if i%20 == 0 {
						time.Sleep(b.pause)
					}
					calls.Go(func() {
						e := &inbox.Event{ID: fmt.Sprint(i), TaskID: fmt.Sprint(i), Status: inbox.Unconfirmed, Body: body, Destinations: []string{inbox.ConfirmDestination}}
						done, err := g.roomToConfirm(t.Context(), e)
						if errors.Is(err, inbox.ErrFull) {
							refused.Add(1)
							return
						}
						if err != nil {
							t.Error(err)
							return
						}
						defer done()
						time.Sleep(5 * time.Millisecond) // as a group commit
						_, err = c.depot.Put(t.Context(), e)
						assert.NoError(t, err)
					})
				}
				calls.Wait()
				stats, err := g.inbox.Stats(t.Context())
				require.NoError(t, err)
				assert.LessOrEqual(t, float64(stats.Bytes)/float64(b.size), b.most)
				if b.least > 0 {
					assert.Greater(t, float64(stats.Bytes)/float64(b.size), b.least, "none is refused without need")
					assert.Positive(t, refused.Load())
				} else {
					assert.Zero(t, refused.Load())
					c.depot.change(func() { assert.Less(t, c.depot.asked, 10, "far from full it is hardly asked") })
				}
				c.detach(0)
			})
		})
	}
}
