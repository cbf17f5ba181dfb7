package dispatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// at is that many minutes after the epoch.
func at(minutes int) time.Time { return epoch.Add(time.Duration(minutes) * time.Minute) }

func TestAgeWithHoldsThatOverlap(t *testing.T) {
	type step struct {
		at int // minutes
		do func(s *stage)
	}
	var (
		trouble = (*stage).fail
		back    = func(s *stage) { s.try("a", ok) }
		byHand  = func(s *stage) { s.pauseByHand(inbox.Hold{Since: s.now}, s.now) }
		resume  = func(s *stage) { s.endByHand(s.now); s.renew(s.max, s.now) }
		until   = func(end int) func(s *stage) {
			return func(s *stage) { s.pauseByHand(inbox.Hold{Since: s.now, Until: at(end)}, s.now) }
		}
		over = func(from, to int) func(s *stage) {
			return func(s *stage) {
				s.pauseByHand(inbox.Hold{Since: at(from), Ended: at(to)}, s.now)
			}
		}
	)
	for _, c := range []struct {
		name  string
		first bool // the destination has answered before
		steps []step
		lived int // minutes at minute 100, of an event of minute 0
	}{
		{"by hand alone", true, []step{{10, byHand}, {30, resume}}, 80},
		{"by hand, still in force", true, []step{{10, byHand}}, 10},
		{"two by hand", true, []step{{10, byHand}, {30, resume}, {50, byHand}, {60, resume}}, 70},
		{"by hand within trouble", true, []step{{10, trouble}, {20, byHand}, {30, resume}, {40, back}}, 70},
		{"by hand within trouble that goes on", true, []step{{10, trouble}, {20, byHand}, {30, resume}}, 10},
		{"by hand from trouble on", true, []step{{10, trouble}, {20, byHand}, {60, resume}, {60, back}}, 50},
		{"by hand from trouble on, both in force", true, []step{{10, trouble}, {20, byHand}}, 10},
		{"trouble after by hand, end to end", true, []step{{10, byHand}, {20, resume}, {20, trouble}, {30, back}}, 80},
		{"replaced", true, []step{{10, byHand}, {20, byHand}, {40, resume}}, 70},
		{"replaced by a shorter one", true, []step{{10, until(90)}, {20, until(30)}, {30, resume}}, 80},
		{"over before it is noticed", true, []step{{10, until(30)}}, 80},
		{"noticed late", true, []step{{10, until(30)}, {50, resume}}, 80},
		{"given when over", true, []step{{90, over(10, 60)}}, 50},
		{"given twice when over", true, []step{{90, over(10, 60)}, {95, over(10, 60)}}, 50},
		{"given when over, across others", true, []step{
			{10, byHand}, {20, resume}, {40, trouble}, {50, back}, {90, over(15, 45)},
		}, 60},
		{"given when over, from before the event", true, []step{{90, over(-500, 30)}}, 70},
		{"given when over, of before the event", true, []step{{90, over(-500, -30)}}, 100},
		{"said to end later, by a clock that was put back", true, []step{{90, over(80, 500)}}, 90},
		{"said to begin later, by a clock that was put back", true, []step{{90, over(300, 500)}}, 100},
		{"trouble without a beginning", false, []step{{80, trouble}}, 0},
		{"trouble without a beginning, by hand within", false, []step{{20, trouble}, {30, byHand}, {40, resume}, {60, back}}, 40},
		{"trouble without a beginning, by hand before", false, []step{{20, byHand}, {40, resume}, {60, trouble}, {70, back}}, 30},
		{"trouble without a beginning, by hand in force", false, []step{{20, trouble}, {30, byHand}}, 0},
		{"by hand has a beginning", false, []step{{20, byHand}, {40, resume}}, 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			if c.first {
				s.try("a", ok)
			}
			for _, step := range c.steps {
				s.now = at(step.at)
				step.do(s)
			}
			assert.Equal(t, time.Duration(c.lived)*time.Minute, s.age(epoch, at(100)))
			assert.LessOrEqual(t, s.age(at(50), at(100)), s.age(epoch, at(100)))
			assert.Equal(t, -time.Minute, s.age(at(101), at(100)), "from a clock that was ahead")
		})
	}
}

func TestAHoldByHandAsAStateMachine(t *testing.T) {
	s := newStage(t)
	old := s.mustEnter()
	require.True(t, s.pauseByHand(inbox.Hold{Since: s.now.Add(time.Hour)}, s.now), "by a clock that was ahead")
	s.refused()
	assert.Equal(t, effect{release: true, atOnce: true}, s.meets(old, "a", down))
	assert.Zero(t, s.hand.left(s.now), "without an end")
	assert.False(t, s.hand.over(s.now))
	s.pass(time.Minute)
	assert.Equal(t, time.Minute, s.endByHand(s.now))
	s.mustEnter()

	require.True(t, s.pauseByHand(inbox.Hold{Since: s.now, Until: s.now.Add(time.Hour)}, s.now))
	assert.Equal(t, longestWait, s.hand.left(s.now), "the clock may be put forward")
	s.pass(time.Hour - time.Second)
	assert.Equal(t, time.Second, s.hand.left(s.now))
	assert.False(t, s.hand.over(s.now))
	s.pass(time.Second)
	assert.True(t, s.hand.over(s.now))
	assert.Positive(t, s.hand.left(s.now), "0 would be for ever")
	assert.Equal(t, -time.Hour, s.age(s.now, s.now.Add(-time.Hour)))
	assert.Zero(t, s.endByHand(s.now.Add(-2*time.Hour)), "by a clock that was put back")
}

func TestAHoldByHandLastsNoLongerThanItWasMeantTo(t *testing.T) {
	s := newStage(t)
	// begun for an hour while the clock was a year ahead
	begun := s.now.AddDate(1, 0, 0)
	require.True(t, s.pauseByHand(inbox.Hold{Since: begun, Until: begun.Add(time.Hour)}, s.now))
	assert.Equal(t, s.now.Add(time.Hour), s.hand.holding().Until)
	s.pass(time.Hour - time.Second)
	assert.False(t, s.hand.over(s.now))
	assert.Equal(t, time.Second, s.hand.left(s.now))
	s.pass(time.Second)
	assert.True(t, s.hand.over(s.now))
	assert.Positive(t, s.hand.left(s.now), "0 would be for ever")
	assert.Equal(t, time.Hour, s.endByHand(s.now))
}

func TestAHoldByHandEndsThoughTheClockIsPutBack(t *testing.T) {
	began := time.Now() // with a monotonic clock reading
	h := hold{random: func() float64 { return 0 }}
	require.True(t, h.pauseByHand(inbox.Hold{Since: began, Until: began.Add(time.Hour).Round(0)}, began))
	assert.Equal(t, began.Add(time.Hour).Round(0), h.hand.holding().Until)
	later := began.Add(time.Hour)
	h.hand.Until = h.hand.Until.AddDate(1, 0, 0) // as if the wall clock were a year behind
	assert.True(t, h.hand.over(later))
	assert.False(t, h.hand.over(later.Add(-time.Second)))
}

func TestAHoldByHandsReasonIsBounded(t *testing.T) {
	s := newStage(t)
	s.pauseByHand(inbox.Hold{Since: s.now, Reason: string(make([]byte, 5000))}, s.now)
	assert.Len(t, s.hand.Reason, inbox.MaxReason)
}

// Whatever spans are remembered in whatever order, past stays in order, without
// overlaps and bounded, and an age leaves out exactly the time of the spans.
func TestAgeIsWhatNoSpanCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const last = 200
		minute := rapid.IntRange(0, last)
		h := hold{healthy: true}
		var covered [last]bool
		cover := func(from, to int) {
			for m := from; m < to; m++ {
				covered[m] = true
			}
		}
		for range rapid.IntRange(0, 30).Draw(t, "spans") {
			from, to := minute.Draw(t, "from"), minute.Draw(t, "to")
			h.remember(span{at(from), at(to)})
			cover(from, to)
		}
		if h.held = rapid.Bool().Draw(t, "held"); h.held {
			from := minute.Draw(t, "since")
			h.since = at(from)
			cover(from, last)
		}
		if rapid.Bool().Draw(t, "by hand") {
			from := minute.Draw(t, "by hand since")
			h.pauseByHand(inbox.Hold{Since: at(from)}, at(last))
			cover(from, last)
		}
		received := minute.Draw(t, "received")
		want := time.Duration(0)
		for m := received; m < last; m++ {
			if !covered[m] {
				want += time.Minute
			}
		}
		if got := h.age(at(received), at(last)); got != want {
			t.Fatalf("lived %s, expected %s; past: %v", got, want, h.past)
		}
		for i, s := range h.past {
			if !s.to.After(s.from) || (i > 0 && !s.from.After(h.past[i-1].to)) {
				t.Fatalf("not in order and apart: %v", h.past)
			}
		}
	})
}

func TestAnOldHoldGivenLateIsRememberedInBoundedMemory(t *testing.T) {
	s := newStage(t)
	for i := range maxPast {
		s.remember(span{at(10 * i), at(10*i + 1)})
	}
	s.remember(span{at(-1000), at(-999)})
	assert.Len(t, s.past, maxPast)
	assert.Equal(t, span{at(-1000), at(1)}, s.past[0], "the two oldest have grown together")
	s.remember(span{at(-2000), at(10*maxPast - 5)})
	assert.Equal(t, []span{{at(-2000), at(10*maxPast - 5)}}, s.past)
}

func TestHeldTimeIsNotLived(t *testing.T) {
	s := newStage(t)
	s.try("a", ok)
	early := s.now
	s.pass(10 * time.Minute)
	s.fail()
	s.pass(time.Hour)
	during := s.now
	s.pass(time.Hour)
	assert.Equal(t, 10*time.Minute, s.age(early, s.now), "also before the hold ends")
	assert.Equal(t, time.Duration(0), s.age(during, s.now))
	s.try("a", ok)
	after := s.now
	s.pass(5 * time.Minute)
	s.fail()
	s.pass(time.Hour)
	s.try("a", ok)

	assert.Equal(t, 15*time.Minute, s.age(early, s.now))
	assert.Equal(t, 5*time.Minute, s.age(during, s.now))
	assert.Equal(t, 5*time.Minute, s.age(after, s.now))
	assert.Equal(t, -time.Hour, s.age(s.now.Add(time.Hour), s.now), "from a clock that was ahead")
}

func TestNothingIsLivedBeforeTheDestinationFirstAnswers(t *testing.T) {
	s := newStage(t)
	old := s.now.Add(-100 * 24 * time.Hour)
	s.fail()
	s.pass(time.Hour)
	assert.Equal(t, time.Duration(0), s.age(old, s.now))
	s.try("a", ok)
	s.pass(time.Minute)
	assert.Equal(t, time.Minute, s.age(old, s.now))
}

func TestManyHoldsAreRememberedInBoundedMemory(t *testing.T) {
	s := newStage(t)
	s.try("a", ok)
	start := s.now
	for range 3 * maxPast {
		s.pass(time.Minute)
		s.fail()
		s.pass(time.Hour)
		s.try("a", ok)
	}
	assert.Len(t, s.past, maxPast)
	assert.Equal(t, maxPast*time.Minute, s.age(start, s.now), "the oldest have grown together")
	s.pass(time.Second)
	recent := s.past[maxPast-2].to
	assert.Equal(t, time.Minute+time.Second, s.age(recent, s.now))
}
