package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// hears reports a peer's trouble of that length.
func (s *stage) hears(lasts time.Duration) effect {
	return s.peerTrouble(inbox.Trouble{Until: s.now.Add(lasts), Reason: "down"}, s.now)
}

func TestAPeersHoldLetsAProbeGoAfterItsTime(t *testing.T) {
	s := newStage(t)
	require.True(t, s.hears(10*time.Second).began)
	assert.Equal(t, Holding{FromPeer: true, Since: s.now, Until: s.now.Add(10 * time.Second), Reason: "another gateway: down"}, s.holding())
	s.pass(10*time.Second - 1)
	s.refused()
	s.pass(1)
	probe := s.mustEnter()
	s.refused()
	e := s.meets(probe, "a", ok)
	assert.True(t, e.ended)
	assert.Equal(t, 10*time.Second, e.lasted)
	assert.True(t, s.holding().FromPeer, "it was never our own finding")
	s.mustEnter()
	s.mustEnter()
}

func TestAFailedProbeMakesAPeersHoldOurOwn(t *testing.T) {
	for _, c := range []struct {
		r      Result
		reason string
		pause  time.Duration
	}{
		{down, "the last probe failed: connection refused", 2 * time.Second},
		{Result{Status: 503, RetryAfter: time.Minute}, "the upstream answered 503 with Retry-After 1m0s", time.Minute},
	} {
		s := newStage(t)
		s.hears(time.Second)
		s.pass(time.Second)
		e := s.try("a", c.r)
		assert.True(t, e.longer)
		assert.True(t, e.release)
		assert.Equal(t, Holding{Since: epoch, Until: s.now.Add(c.pause), Reason: c.reason}, s.holding())
		s.pass(c.pause)
		assert.True(t, s.try("b", Result{Status: 500, Reason: "boom"}).longer)
		assert.Equal(t, "the last probe failed: boom", s.reason)
		assert.Equal(t, epoch, s.since)
		s.hears(10 * time.Minute)
		assert.Equal(t, "the last probe failed: boom", s.reason, "what we have found ourselves")
	}
}

func TestAPeersHoldTellsWhatWasToldLast(t *testing.T) {
	s := newStage(t)
	s.hears(time.Minute)
	s.peerTrouble(inbox.Trouble{Until: s.now.Add(time.Minute), Reason: "HTTP 500"}, s.now)
	assert.Equal(t, Holding{FromPeer: true, Since: epoch, Until: s.now.Add(time.Minute), Reason: "another gateway: HTTP 500"}, s.holding())
}

func TestAnswersFromBeforeAPeersHold(t *testing.T) {
	s := newStage(t)
	good, bad, asks := s.mustEnter(), s.mustEnter(), s.mustEnter()
	s.hears(time.Minute)
	assert.False(t, s.meets(good, "a", ok).ended, "the other may have been asked to wait")
	e := s.meets(bad, "b", down)
	assert.True(t, e.release, "trouble is not spent")
	assert.False(t, e.longer)
	assert.True(t, s.fromPeer)
	e = s.meets(asks, "c", Result{Status: 429, RetryAfter: 2 * time.Minute})
	assert.True(t, e.longer)
	assert.False(t, s.fromPeer, "the destination's own word")
	assert.Equal(t, s.now.Add(2*time.Minute), s.until)
}

func TestAPeersHoldIsBounded(t *testing.T) {
	s := newStage(t)
	assert.False(t, s.hears(0).began, "its time is over")
	s.hears(99 * time.Hour)
	assert.Equal(t, s.now.Add(time.Hour), s.until, "at most Max")

	s = newStage(t)
	s.hears(time.Second)
	for range 1000 { // a peer that probes, fails and reports it before we can probe
		s.pass(500 * time.Millisecond)
		s.hears(time.Second)
	}
	assert.Equal(t, epoch.Add(longestPause), s.until)
	assert.True(t, s.try("a", ok).ended)

	s = newStage(t)
	s.max = time.Second
	s.hears(500 * time.Millisecond)
	s.pass(400 * time.Millisecond)
	s.hears(time.Hour)
	assert.Equal(t, epoch.Add(time.Second), s.until)
}

func TestOthersMayProlongOurOwnHoldOnceAProbe(t *testing.T) {
	s := newStage(t)
	s.fail()
	assert.False(t, s.hears(10*time.Minute).began)
	assert.Equal(t, s.now.Add(10*time.Minute), s.until)
	assert.False(t, s.fromPeer)
	s.pass(9 * time.Minute)
	s.hears(10 * time.Minute)
	assert.Equal(t, s.now.Add(time.Minute), s.until, "not again before our probe")
	s.pass(time.Minute)
	s.try("a", down)
	s.hears(10 * time.Minute)
	assert.Equal(t, s.now.Add(10*time.Minute), s.until)
	s.hears(time.Second)
	assert.Equal(t, s.now.Add(10*time.Minute), s.until, "never shorter")
	s.renew(s.max, s.now)
	s.hears(20 * time.Minute)
	assert.Equal(t, s.now.Add(20*time.Minute), s.until, "what was told of the settings before is over")
}

func TestWellEndsAPeersHold(t *testing.T) {
	s := newStage(t)
	assert.Equal(t, effect{}, s.peerWell(s.now))
	before := s.mustEnter()
	s.hears(time.Minute)
	s.pass(time.Second)
	e := s.peerWell(s.now)
	assert.True(t, e.ended)
	assert.Equal(t, time.Second, e.lasted)
	assert.True(t, s.meets(before, "a", down).release, "from before")
	assert.Zero(t, s.load.row)
	assert.False(t, s.healthy, "nothing was answered here")
	assert.Equal(t, time.Duration(0), s.age(epoch, s.now), "the time does not count")
	s.mustEnter()
}

func TestWellHurriesAHoldOfOurOwn(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.refused()
	assert.Equal(t, effect{hurry: true}, s.peerWell(s.now))
	probe := s.mustEnter()
	s.refused()
	assert.True(t, s.meets(probe, "a", ok).ended)

	s.pass(quiet)
	s.try("a", Result{Status: 503, RetryAfter: time.Minute})
	assert.Equal(t, effect{}, s.peerWell(s.now))
	s.refused()
}

func TestAGatewayThatIsContradictedIsNotBelievedAgain(t *testing.T) {
	contradict := func() *stage {
		s := newStage(t)
		s.hears(time.Second)
		s.pass(time.Second)
		require.True(t, s.try("a", ok).ended)
		require.Equal(t, effect{}, s.hears(time.Minute))
		s.mustEnter()
		return s
	}
	s := contradict()
	s.peerWell(s.now)
	assert.True(t, s.hears(time.Minute).began, "after it was well")

	s = contradict()
	s.renew(s.max, s.now)
	assert.True(t, s.hears(time.Minute).began, "after a reload")

	s = contradict()
	s.pass(quiet)
	s.fail()
	s.pass(time.Second)
	require.True(t, s.try("a", ok).ended)
	assert.True(t, s.hears(time.Minute).began, "after trouble of our own")
}

func TestAPeersReasonIsCut(t *testing.T) {
	s := newStage(t)
	s.peerTrouble(inbox.Trouble{Until: s.now.Add(time.Second), Reason: strings.Repeat("x", 2*maxReason)}, s.now)
	assert.Len(t, s.reason, maxReason)
}
