package dispatch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestAHoldByHandDuringTroubleStopsProbesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down))
		r.box.putMany("e", 20)
		pass(10 * time.Minute)
		require.True(t, r.inTrouble())
		before := r.up.attempts()
		r.byHand("maintenance", 0)
		pass(time.Hour)
		assert.Equal(t, before, r.up.attempts())
		require.Len(t, r.Holds(), 2)
		assert.True(t, r.Holds()[0].ByHand)
		assert.False(t, r.Holds()[1].ByHand)

		r.Resume()
		pass(0)
		assert.Equal(t, before+1, r.up.attempts(), "one probe, at once")
		assert.True(t, r.inTrouble())
		r.up.set(func() { r.up.answer = always(ok) })
		r.byHand("again", time.Minute)
		pass(time.Minute)
		assert.Equal(t, before+1+20, r.up.attempts(), "one probe at once, and then everything")
		assert.Equal(t, 20, r.box.count(inbox.Delivered))
		holds, _ := r.told()
		trouble := strings.TrimPrefix(holds[0], "held: ")
		assert.Equal(t, []string{
			"held: " + trouble, "held by hand: maintenance", "resumed by hand: maintenance",
			"held by hand: again", "resumed by hand: again", "resumed: the last probe failed: connection refused",
		}, holds)
	})
}

func TestAProbeUnderWayWhenAHoldByHandBegins(t *testing.T) {
	for _, answer := range []Result{ok, down} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, always(Result{Status: 503, RetryAfter: time.Minute}))
			r.box.put("a", "a", time.Now())
			pass(0)
			r.up.set(func() { r.up.slow, r.up.answer = 10*time.Second, always(answer) })
			pass(time.Minute + maxAside)
			require.Equal(t, 1, r.UnderWay(), "the probe")
			r.byHand("", 0)
			r.box.put("b", "b", time.Now())
			pass(time.Hour)
			assert.Equal(t, answer.kind() == taken, r.box.find("a").state == inbox.Delivered)
			assert.True(t, r.inTrouble(), "it says nothing of the destination after the maintenance")
			assert.Zero(t, r.box.spent()-r.box.count(inbox.Delivered))
			r.up.set(func() { r.up.slow, r.up.answer = 0, always(ok) })
			r.Resume()
			pass(0)
			assert.Equal(t, 2, r.box.count(inbox.Delivered))
			assert.Empty(t, r.Holds())
		})
	}
}

func TestTroubleOfAMaintenanceSaysNothingOfTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down), func(s *Settings) { s.Concurrency = 32 })
		r.up.set(func() { r.up.slow = time.Second })
		r.box.putMany("e", 32)
		pass(0)
		r.byHand("", 10*time.Second)
		pass(10*time.Second - 1)
		assert.Zero(t, r.box.spent())
		assert.False(t, r.inTrouble())
		assert.Equal(t, 32, r.box.released())
		pass(1)
		assert.Equal(t, 64, r.up.attempts())
		pass(time.Second)
		assert.True(t, r.inTrouble(), "now it does")
		holds, _ := r.told()
		require.Len(t, holds, 3)
		assert.Equal(t, []string{"held by hand: ", "resumed by hand: "}, holds[:2])
	})
}

func TestTroubleOfBeforeAHoldByHandIsNotCountedAfterItEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down), func(s *Settings) { s.Concurrency = 32 })
		r.up.set(func() { r.up.slow = 20 * time.Second })
		r.box.putMany("e", 32)
		pass(0)
		r.byHand("", time.Second)
		pass(20*time.Second - 1)
		require.Empty(t, r.Holds())
		require.Equal(t, 32, r.UnderWay())
		pass(1)
		assert.Zero(t, r.box.spent())
		assert.False(t, r.inTrouble())
		assert.True(t, r.box.find("e7").due.After(time.Now()), "but it is not tried in a loop")
	})
}

func TestResumeTriesADestinationInTroubleAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 503, RetryAfter: time.Hour}), func(s *Settings) { s.Concurrency = 1 })
		r.Resume() // without a hold by hand
		r.box.putMany("e", 10)
		pass(time.Minute)
		require.Equal(t, 1, r.up.attempts())
		r.up.set(func() { r.up.answer = always(ok) })
		r.Resume()
		pass(0)
		assert.Equal(t, 9, r.box.count(inbox.Delivered), "all but the one that was asked to wait")
		holds, lasted := r.told()
		require.Len(t, holds, 2)
		assert.True(t, strings.HasPrefix(holds[1], "resumed: "))
		assert.Equal(t, []time.Duration{time.Minute}, lasted)
	})
}
