package gateway

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	heldByHand    = "deliveries are held by hand"
	heldInTrouble = "upstream is in trouble; deliveries are held"
)

// inCluster runs a test with two gateways of one inbox.
func inCluster(t *testing.T, test func(t *testing.T, c *cluster, a, b *edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, b := startEdge(t, c, "a"), startEdge(t, c, "b")
		synctest.Wait()
		test(t, c, a, b)
	})
}

func TestAHoldByHandHoldsEveryGateway(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		require.NoError(t, a.operator().Hold(t.Context(), "", "maintenance", time.Time{}))
		synctest.Wait()
		c.put(10)
		pass(time.Hour)
		assert.Zero(t, a.visited()+b.visited())
		for _, e := range []*edge{a, b} {
			require.Len(t, e.holds(), 1)
			assert.Equal(t, "maintenance", e.holds()[0].Reason)
			assert.Equal(t, 1, e.lines(heldByHand), "told once")
		}
		require.NoError(t, b.operator().Resume(t.Context(), ""))
		synctest.Wait()
		assert.Equal(t, 10, a.visited()+b.visited())
		for _, e := range []*edge{a, b} {
			assert.Empty(t, e.holds())
			assert.True(t, sameHold(c.held, e.lane().known))
		}
	})
}

func TestAGatewayThatComesLaterHeedsWhatIsInForce(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, _ *edge) {
		require.NoError(t, a.operator().Hold(t.Context(), "", "", time.Now().Add(time.Hour)))
		a.lane().peers.report(inbox.Trouble{Until: time.Now().Add(2 * time.Hour), Reason: "down"})
		synctest.Wait()
		late := startEdge(t, c, "late")
		synctest.Wait()
		require.Len(t, late.holds(), 2)
		assert.Equal(t, 1, late.lines(heldByHand))
		assert.True(t, late.holds()[1].FromPeer)
		assert.Equal(t, "another gateway: down", late.holds()[1].Reason)
	})
}

func TestTroubleIsSharedAndItsEnd(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		require.NoError(t, b.operator().Hold(t.Context(), "", "", time.Now().Add(time.Second)))
		c.change(func() { a.down, b.down = true, true })
		pass(0)
		a.lane().dispatcher.Resume() // only a delivers
		c.put(20)
		pass(0)
		require.Len(t, a.holds(), 1)
		require.NotEmpty(t, c.told())
		assert.True(t, b.holds()[len(b.holds())-1].FromPeer)
		pass(10 * time.Minute)
		first := c.told()[0]
		assert.Contains(t, first.Reason, "connection refused")
		for i, trouble := range c.told() {
			assert.False(t, trouble.Until.IsZero(), i)
			assert.NotContains(t, trouble.Reason, "another gateway", "what was heard is not told on")
		}
		assert.LessOrEqual(t, len(c.told()), a.visited()+b.visited(), "a telling has a failure of its own")
		before := a.visited() + b.visited()
		c.change(func() { a.down, b.down = false, false })
		pass(2 * time.Minute)
		assert.Equal(t, before+20, a.visited()+b.visited())
		told := c.told()
		assert.True(t, told[len(told)-1].Until.IsZero(), "it is well again")
		for _, h := range append(a.holds(), b.holds()...) {
			assert.False(t, h.FromPeer, "what came from a peer is over; one of its own waits for an event to probe with")
		}
	})
}

func TestWhatWasHeardIsNotToldOn(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		a.lane().peers.report(inbox.Trouble{Until: time.Now().Add(time.Minute), Reason: "down"})
		synctest.Wait()
		require.True(t, b.holds()[0].FromPeer)
		assert.Equal(t, 1, b.lines(heldInTrouble))
		a.stop() // the event is b's
		c.put(1)
		pass(time.Hour)
		assert.Empty(t, b.holds())
		assert.Len(t, c.told(), 1)
	})
}

func TestADispatcherThatFollowsHeedsAgain(t *testing.T) {
	inCluster(t, func(t *testing.T, _ *cluster, a, b *edge) {
		g := b.newest.gateway
		require.True(t, g.hold()) // as a request does
		a.lane().peers.report(inbox.Trouble{Until: time.Now().Add(time.Hour)})
		synctest.Wait()
		first := g.lane(inbox.DefaultDestination)
		b.stop()
		require.NoError(t, a.operator().Hold(t.Context(), "", "", time.Time{}))
		b.load()
		synctest.Wait()
		require.Same(t, g, b.newest.gateway)
		require.NotSame(t, first, g.lane(inbox.DefaultDestination))
		assert.Len(t, b.holds(), 2)
		require.NoError(t, g.Drop())
	})
}

func TestPeersOutliveAReload(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		before := b.lane()
		for range 3 {
			b.load()
		}
		require.Same(t, before, b.lane())
		assert.Equal(t, 2, c.watches)
		require.NoError(t, a.operator().Hold(t.Context(), "", "", time.Time{}))
		synctest.Wait()
		assert.Len(t, b.holds(), 1)
		c.change(func() { a.down, b.down = true, true })
		require.NoError(t, a.operator().Resume(t.Context(), ""))
		synctest.Wait()
		c.put(20)
		pass(time.Second)
		assert.NotEmpty(t, c.told(), "the new settings tell too")
	})
}

func TestOperatorsAndReloadsAtTheSameTime(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		left, right := a.operator(), b.operator()
		var tasks sync.WaitGroup
		for _, o := range []*operated{left, right} {
			require.True(t, o.gateway.hold())
			tasks.Go(func() {
				for range 50 {
					assert.NoError(t, o.Hold(context.Background(), "", o.config.Name, time.Time{}))
					assert.NoError(t, o.Resume(context.Background(), ""))
				}
				assert.NoError(t, o.Close())
			})
		}
		tasks.Go(func() {
			for range 10 {
				b.load()
			}
		})
		c.put(100)
		tasks.Wait()
		pass(2 * recheckEvery)
		pass(recheckEvery)
		assert.Empty(t, a.holds())
		assert.Empty(t, b.holds())
	})
}

func TestAHoldThatWasNotToldIsFound(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		c.change(func() { c.mute = true })
		require.NoError(t, a.operator().Hold(t.Context(), "", "", time.Time{}))
		pass(recheckEvery)
		assert.Empty(t, b.holds(), "it may be on its way")
		pass(recheckEvery)
		assert.Len(t, b.holds(), 1)
		require.NoError(t, a.operator().Resume(t.Context(), ""))
		pass(2 * recheckEvery)
		assert.Empty(t, b.holds())
	})
}

// A gateway that starts while its inbox is out of reach delivers nothing before it has
// read whether an operator holds deliveries.
func TestUntilAHoldCanBeReadDeliveriesAreHeld(t *testing.T) {
	for name, held := range map[string]inbox.Hold{"none": {}, "one": {Since: time.UnixMicro(1e15), Reason: "maintenance"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				c.held, c.away, c.watchErr = held, true, errors.New("out of reach")
				e := &edge{t: t, name: t.Name(), cluster: c, lenient: true}
				e.load()
				t.Cleanup(e.stop)
				c.put(3)
				pass(time.Minute)
				assert.Zero(t, e.visited())
				require.Len(t, e.holds(), 1)
				assert.Contains(t, e.holds()[0].Reason, "it is not known whether deliveries are held by hand")

				c.change(func() { c.away = false })
				pass(learnEvery)
				if held.Since.IsZero() {
					assert.Empty(t, e.holds())
					assert.Equal(t, 3, e.visited())
					return
				}
				require.Len(t, e.holds(), 1)
				assert.Equal(t, "maintenance", e.holds()[0].Reason)
				assert.Zero(t, e.visited())
			})
		})
	}
}

func TestWithoutItsInboxAGatewayStartsOnlyIfTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.away = true
		e := &edge{t: t, name: t.Name(), cluster: c}
		e.load()
		assert.Nil(t, e.newest)
	})
}

func TestWatchingBeginsAgainAfterLongerAndLongerPauses(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		const line = "holds of other gateways are not heeded: watching the inbox"
		c.change(func() { c.watchErr = errors.New("no server") })
		pass(time.Second + 2*time.Second + 4*time.Second)
		assert.Equal(t, 4, b.lines(line))
		pass(time.Hour)
		assert.InDelta(t, 64, b.lines(line), 5, "once a minute")
		require.NoError(t, a.operator().Hold(t.Context(), "", "", time.Time{}))
		c.change(func() { c.watchErr = nil })
		pass(time.Minute)
		assert.Len(t, b.holds(), 1)
		pass(time.Hour)
		before := b.lines(line)
		c.change(func() { c.watchErr = errors.New("no server") })
		pass(time.Second)
		assert.Equal(t, before+2, b.lines(line), "soon again after it went well")
	})
}

func TestReportingWaitsForNobody(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster, a, b *edge) {
		const line = "other gateways are not told how the upstream is"
		c.change(func() { c.tellGate = make(chan struct{}) })
		s := a.lane().peers
		for i := range 10 {
			s.report(inbox.Trouble{Until: time.Now().Add(time.Duration(i+1) * time.Minute)})
			synctest.Wait()
		}
		assert.Empty(t, c.told())
		pass(reportTimeout)
		assert.Equal(t, 1, a.lines(line))
		c.change(func() { close(c.tellGate) })
		pass(0)
		require.Len(t, c.told(), 1, "only the latest")
		assert.Equal(t, 10*time.Minute-reportTimeout, time.Until(c.told()[0].Until))
		c.change(func() { c.tellGate = make(chan struct{}) })
		s.report(inbox.Trouble{})
		synctest.Wait()
		b.stop()
		a.stop() // though it is telling
		assert.Equal(t, 1, a.lines(line))
	})
}

func TestHoldsOfPrecisionBelowAMicrosecondAreTheSame(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 123_456_789, time.UTC)
	a := inbox.Hold{Since: now, Ended: now, Reason: "x"}
	b := inbox.Hold{Since: now.Truncate(time.Microsecond), Ended: now.Local().Truncate(time.Microsecond), Reason: "x"}
	assert.True(t, sameHold(a, b))
	for _, change := range []func(*inbox.Hold){
		func(h *inbox.Hold) { h.Since = h.Since.Add(time.Microsecond) },
		func(h *inbox.Hold) { h.Until = now },
		func(h *inbox.Hold) { h.Ended = time.Time{} },
		func(h *inbox.Hold) { h.Reason = "" },
	} {
		other := b
		change(&other)
		assert.False(t, sameHold(a, other))
	}
}

func TestAnInboxThatIsNotSharedIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone := struct{ inbox.Queue }{&seat{t: t, cluster: newCluster()}}
		l := &lane{gateway: new(Gateway), name: inbox.DefaultDestination, queue: alone}
		l.start(&Attachment{config: &Config{Destinations: toDefault(nil), Logger: zap.NewNop(), Metrics: new(fakeMetrics)}})
		assert.Nil(t, l.peers)
		assert.IsNotType(t, reporter{}, l.settings().Observer)
		require.NoError(t, l.stop(t.Context()))
	})
}
