package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestAnOutageOfDaysKillsNothingAndCostsFewAttempts(t *testing.T) {
	// Answers such as 500 are the events' own for ten seconds, of a second each.
	for bad, most := range map[*Result]int{&down: longestRow, &sick: 10 * 32} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, always(ok), func(s *Settings) { s.Concurrency = 32 })
			r.box.putMany("before", 10)
			pass(time.Second)
			require.Equal(t, 10, r.box.count(inbox.Delivered))
			r.up.set(func() { r.up.answer = always(*bad); r.up.slow = time.Second })
			r.box.putMany("e", 40)
			pass(3*24*time.Hour + 12*time.Hour)
			r.box.putMany("late", 40)
			pass(12 * time.Hour)

			assert.Equal(t, 80, r.box.count(inbox.Pending))
			assert.LessOrEqual(t, r.box.spent(), 10+most)
			held := r.inTrouble()
			assert.True(t, held)
			perDay := float64(r.up.attempts()) / 4
			assert.Less(t, perDay, 3000.0, "about one probe a minute")

			r.up.set(func() { r.up.answer = always(ok) })
			pass(10 * time.Minute)
			assert.Equal(t, 90, r.box.count(inbox.Delivered))
			r.log.read(func() {
				assert.Empty(t, r.log.trouble, "the inbox has none")
				require.Len(t, r.log.holds, 2)
				assert.Contains(t, r.log.holds[0], " failures in a row, the last: ")
				assert.Contains(t, r.log.holds[1], "resumed: the last probe failed: ")
				assert.InDelta(t, 4*24*time.Hour, r.log.lasted[0], float64(5*time.Minute))
			})
		})
	}
}

func TestARestartInTheMiddleOfAnOutageKillsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newFake()
		box.putMany("e", 100)
		for range 5 {
			r := restart(t, box, always(down))
			pass(24 * time.Hour)
			r.stopNow()
		}
		require.Equal(t, 100, box.count(inbox.Pending))
		assert.LessOrEqual(t, box.spent(), 5*runLength)

		// The destination is back, but some events fail for a reason of their own: their
		// age is still near zero.
		r := restart(t, box, always(down))
		pass(time.Hour)
		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				if strings.HasSuffix(l.Event.ID, "7") && l.Attempt <= 2 {
					return Result{Status: 404}
				}
				return ok
			}
		})
		pass(10 * time.Minute)
		assert.Equal(t, 100, box.count(inbox.Delivered))
	})
}

func TestWithoutAHoldTroubleKillsNothingBeforeTheDestinationHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(sick)) // one task alone does not begin a hold
		r.box.put("a", "a", time.Now().Add(-100*24*time.Hour))
		pass(100 * 24 * time.Hour)
		require.Equal(t, 1, r.box.count(inbox.Pending))
		assert.Less(t, r.up.attempts(), 100*24*4, "at the pace of the schedule")

		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				if l.Event.ID == "a" {
					return sick
				}
				return ok
			}
		})
		r.box.put("b", "b", time.Now())
		pass(2 * time.Hour)
		assert.Equal(t, 1, r.box.count(inbox.Delivered))
		assert.Equal(t, 1, r.box.count(inbox.Dead), "now it is clear whose fault it is")
	})
}

func TestWhileHeldNothingIsAttemptedButOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down), func(s *Settings) { s.Concurrency = 16 })
		r.up.set(func() { r.up.slow = 3 * time.Second })
		r.box.putMany("e", 200)
		pass(3 * time.Second)
		held := r.inTrouble()
		require.True(t, held)
		first := r.up.attempts()
		assert.Less(t, first, 16+runLength, "those that failed before the hold began had made room for others")
		assert.Equal(t, first-16, r.box.held(), "the rest, queued or under way, went back")
		r.up.set(func() { r.up.answer = always(sick); r.up.most = 0 })
		pass(6 * time.Second)
		r.up.set(func() { r.up.most = 0 })
		_, hits := r.up.visits()
		last, released := len(hits), r.box.released()
		pass(time.Hour)
		assert.Equal(t, 1, r.up.most)
		order, hits := r.up.visits()
		assert.Greater(t, len(hits), last+50)
		assert.InDelta(t, len(hits)-last, r.box.released()-released, 1, "no more is leased than attempted")
		for i := last + 1; i < len(hits); i++ {
			assert.GreaterOrEqual(t, hits[i].Sub(hits[i-1]), 3*time.Second+firstPause/2)
			assert.NotEqual(t, order[i], order[i-1], "another event each time")
		}
		assert.Equal(t, runLength, r.box.spent())
	})
}

func TestWhatIsQueuedGoesBackWhenAHoldBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				if l.Event.ID == "e0" {
					time.Sleep(time.Second)
					return Result{Status: 429, RetryAfter: time.Hour}
				}
				time.Sleep(20 * time.Second)
				return ok
			}
		})
		r.box.putMany("e", 20)
		pass(time.Second)
		assert.Equal(t, 3, r.box.held(), "only what is under way stays")
		pass(20 * time.Second)
		assert.Equal(t, 3, r.box.count(inbox.Delivered))
		assert.Equal(t, 4, r.up.attempts())
	})
}

func TestWhatComesDuringAPauseStaysInTheInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 503, RetryAfter: time.Minute}))
		r.box.put("a", "a", time.Now())
		pass(time.Second)
		r.box.putMany("e", 10)
		pass(58 * time.Second)
		assert.False(t, r.box.find("e0").leased)
		assert.Equal(t, 1, r.box.released())
	})
}

func TestWhatFailsAfterTheHoldItWentThroughWaitsItsTurnUnspent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(s *Settings) { s.Concurrency = 6 })
		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				if l.Event.ID == "slow" {
					time.Sleep(20 * time.Second)
				}
				return down
			}
		})
		r.box.put("slow", "slow", time.Now())
		r.box.putMany("e", 5)
		pass(0)
		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				if l.Event.ID == "slow" {
					return sick
				}
				return ok
			}
		})
		pass(20 * time.Second)
		require.Equal(t, 5, r.box.count(inbox.Delivered))
		e := r.box.find("slow")
		assert.Empty(t, e.attempts)
		assert.Equal(t, 1, e.releases)
		assert.True(t, e.due.After(time.Now()))
	})
}

func TestNothingDueAtTheEndOfAPauseMakesTheNextEventTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 429, RetryAfter: time.Minute}))
		r.box.put("a", "a", time.Now())
		pass(0)
		assert.Equal(t, []Holding{{
			Since:  time.Now(),
			Until:  time.Now().Add(time.Minute),
			Reason: "the upstream answered 429 with Retry-After 1m0s",
		}}, r.Holds())
		assert.Zero(t, r.box.spent(), "handed back unspent")

		r.up.set(func() { r.up.answer = always(ok) })
		pass(time.Minute) // a itself waits a moment longer
		require.Equal(t, 1, r.up.attempts())
		r.box.put("b", "b", time.Now())
		pass(0)
		order, _ := r.up.visits()
		assert.Equal(t, []string{"a", "b"}, order)
		assert.False(t, r.inTrouble())
		pass(maxAside)
		assert.Equal(t, 2, r.box.count(inbox.Delivered))
		r.log.read(func() { assert.Equal(t, []time.Duration{time.Minute}, r.log.lasted) })
	})
}

func TestRetryAfterHoldsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 503, RetryAfter: 10 * time.Second}))
		r.up.set(func() { r.up.slow = time.Second })
		r.box.putMany("e", 50)
		pass(time.Second)
		r.up.set(func() { r.up.answer = always(ok) })
		pass(10*time.Second - 1)
		assert.Equal(t, 4, r.up.attempts())
		pass(time.Minute)
		assert.Equal(t, 50, r.box.count(inbox.Delivered))
		assert.Equal(t, 50, r.box.spent(), "no event lost an attempt")
		r.log.read(func() { assert.Len(t, r.log.holds, 2) })
	})
}

// An upstream that takes ten events a second and answers 429 to the rest gets them
// at that pace, and no event is given up.
func TestARateLimitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var second int64
		taken := 0
		r := newRig(t, nil, func(s *Settings) { s.Concurrency = 32 })
		r.up.set(func() {
			r.up.answer = func(*inbox.Lease) Result {
				r.up.mu.Lock()
				defer r.up.mu.Unlock()
				if now := time.Now().Unix(); now != second {
					second, taken = now, 0
				}
				if taken++; taken > 10 {
					return Result{Status: 429, RetryAfter: time.Second}
				}
				return ok
			}
			r.up.slow = 10 * time.Millisecond
		})
		r.box.putMany("e", 600)
		pass(5 * time.Minute)
		assert.Equal(t, 600, r.box.count(inbox.Delivered))
		assert.Less(t, r.up.attempts(), 600*5)
	})
}

func TestOnePoisonedEventDoesNotHoldTheOthers(t *testing.T) {
	for name, poison := range map[string]Result{
		"500":             sick,
		"no answer":       down,
		"429":             {Status: 429},
		"503 Retry-After": {Status: 503, RetryAfter: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(l *inbox.Lease) Result {
					if l.Event.ID == "poison" {
						return poison
					}
					return ok
				})
				put := time.Now()
				r.box.put("poison", "poison", put)
				// The first Retry-After is obeyed.
				pass(time.Hour)
				for i := range 4 * 24 * 60 {
					r.box.put(fmt.Sprint(i), fmt.Sprint(i), time.Now())
					pass(time.Minute)
				}
				pass(time.Minute)
				assert.Equal(t, 4*24*60, r.box.count(inbox.Delivered))
				e := r.box.find("poison")
				assert.Equal(t, inbox.Dead, e.state, "it came to an end after %d attempts", len(e.attempts))
			})
		})
	}
}

func TestAPoisonedProbeDoesNotKeepTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down))
		for i := range 20 {
			r.box.put(fmt.Sprint(i), fmt.Sprint(i), time.Now())
		}
		pass(time.Hour)
		held := r.inTrouble()
		require.True(t, held)
		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				if l.Event.ID == "3" {
					return sick
				}
				return ok
			}
		})
		pass(3 * time.Minute) // two probes, of which one may be poisoned
		held = r.inTrouble()
		assert.False(t, held)
		assert.Equal(t, 19, r.box.count(inbox.Delivered))
	})
}

func TestNewSettingsProbeAtOnceThoughHeldForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 503, RetryAfter: time.Hour}), func(s *Settings) { s.Concurrency = 1 })
		r.box.putMany("e", 10)
		pass(time.Minute)
		require.Equal(t, 1, r.up.attempts())
		fresh := newUpstream(always(ok))
		s := r.set
		s.Attempt = fresh.attempt
		r.Use(s)
		pass(0)
		assert.Equal(t, 9, r.box.count(inbox.Delivered), "all but the one that was asked to wait")
		pass(time.Hour)
		assert.Equal(t, 10, r.box.count(inbox.Delivered))
	})
}

func TestReloadsDuringAHoldKeepItAndProbeOnceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down))
		r.box.putMany("e", 100)
		pass(time.Minute)
		held := r.inTrouble()
		require.True(t, held)
		before := r.up.attempts()
		for range 20 {
			r.Use(r.set)
			pass(time.Millisecond)
		}
		assert.Equal(t, before+20, r.up.attempts())
		held = r.inTrouble()
		assert.True(t, held)
		r.log.read(func() { assert.Len(t, r.log.holds, 1) })
	})
}

func TestAnObserverMayAskForTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(down))
		var held bool
		r.log.read(func() { r.log.ask = func() { held = r.inTrouble() } })
		r.box.putMany("e", 10)
		pass(0)
		r.log.read(func() {
			assert.True(t, held)
			assert.Equal(t, r.Holds()[0].Until, r.log.until)
		})
	})
}

func TestStopDuringAHoldIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 503, RetryAfter: time.Hour}))
		r.box.putMany("e", 10)
		pass(time.Minute)
		start := time.Now()
		require.NoError(t, r.Stop(t.Context()))
		assert.Zero(t, time.Since(start))
		assert.Zero(t, r.box.held())
	})
}
