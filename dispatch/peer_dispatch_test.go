package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// hears reports a peer's trouble of that length; 0 reports that the destination is well.
func (r *rig) hears(lasts time.Duration) {
	t := inbox.Trouble{Reason: "down"}
	if lasts > 0 {
		t.Until = time.Now().Add(lasts)
	}
	r.PeerTrouble(t)
}

func (r *rig) prolonged() (longer []Holding) {
	r.log.read(func() { longer = append(longer, r.log.longer...) })
	return longer
}

func TestTroubleOfAnotherGatewayHoldsUntilItsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t, newFake(), always(ok))
		r.hears(time.Minute) // before Start
		r.box.putMany("e", 20)
		r.Start()
		pass(time.Minute - 1)
		assert.Zero(t, r.up.attempts())
		assert.True(t, r.Holds()[0].FromPeer)
		pass(1)
		assert.Equal(t, 20, r.box.count(inbox.Delivered))
		assert.Empty(t, r.Holds())
		holds, lasted := r.told()
		assert.Equal(t, []string{"held too: another gateway: down", "resumed too: another gateway: down"}, holds)
		assert.Equal(t, []time.Duration{time.Minute}, lasted)
		assert.Empty(t, r.prolonged())
	})
}

func TestWhatIsQueuedGoesBackWhenAnotherGatewayFindsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = 10 * time.Second })
		r.box.putMany("e", 20)
		pass(time.Second)
		require.Greater(t, r.box.held(), 4)
		r.hears(time.Hour)
		pass(0)
		assert.Equal(t, 4, r.box.held(), "only what is under way")
		pass(10 * time.Minute)
		assert.Equal(t, 4, r.up.attempts())
		assert.Equal(t, 4, r.box.count(inbox.Delivered))
		r.hears(0)
		pass(time.Second)
		assert.Equal(t, 5, r.up.attempts(), "at once, and one at first")
		pass(59 * time.Second)
		assert.Equal(t, 20, r.box.count(inbox.Delivered))
		assert.Zero(t, r.box.released()+r.box.spent()-20)
	})
}

func TestTheObserverIsToldOfEachFailedProbeOfOurOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down))
		r.hears(time.Second)
		r.box.putMany("e", 5)
		pass(time.Minute)
		longer := r.prolonged()
		require.Greater(t, len(longer), 2)
		require.Len(t, longer, r.up.attempts())
		for _, h := range longer {
			assert.False(t, h.FromPeer)
		}
		assert.Equal(t, longer[len(longer)-1], r.Holds()[0])
		r.hears(30 * time.Second)
		assert.Len(t, r.prolonged(), len(longer), "what others tell is not told on")
		r.up.set(func() { r.up.answer = always(ok) })
		attempts := r.up.attempts()
		r.hears(0)
		pass(0)
		assert.Greater(t, r.up.attempts(), attempts, "a probe at once")
		assert.False(t, r.inTrouble())
		holds, _ := r.told()
		assert.Equal(t, []string{"held too: another gateway: down", "resumed: the last probe failed: connection refused"}, holds)
		assert.Zero(t, r.box.spent()-r.box.count(inbox.Delivered))
	})
}

func TestTroubleOfAnotherGatewayDuringAHoldByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.byHand("maintenance", 0)
		r.box.putMany("e", 5)
		r.hears(time.Minute)
		require.Len(t, r.Holds(), 2)
		pass(time.Hour)
		assert.Zero(t, r.up.attempts(), "no probe")
		r.hears(0)
		pass(time.Hour)
		assert.Zero(t, r.up.attempts())
		r.Resume()
		pass(0)
		assert.Equal(t, 5, r.box.count(inbox.Delivered))
	})
}
