package dispatch

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestAHoldByHandSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t, newFake(), always(ok))
		since := time.Now().Add(-time.Hour)
		r.Pause(inbox.Hold{Since: since, Reason: "maintenance"})
		r.box.putMany("e", 10)
		r.Start()
		pass(24 * time.Hour)
		assert.Zero(t, r.up.attempts())
		assert.Zero(t, r.box.leaseCalls(), "nothing is leased")
		assert.Equal(t, []Holding{{ByHand: true, Since: since, Reason: "maintenance"}}, r.Holds())

		r.Resume()
		pass(0)
		assert.Equal(t, 10, r.box.count(inbox.Delivered))
		assert.Empty(t, r.Holds())
		holds, lasted := r.told()
		assert.Equal(t, []string{"held by hand: maintenance", "resumed by hand: maintenance"}, holds)
		assert.Equal(t, []time.Duration{25 * time.Hour}, lasted)
	})
}

func TestAHoldByHandUnderLoadSpendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		maintenance := true
		numbers := map[string][]int{} // of the attempts at each event
		r := newRig(t, nil)
		r.up.set(func() {
			r.up.answer = func(l *inbox.Lease) Result {
				r.up.mu.Lock()
				defer r.up.mu.Unlock()
				id := l.Event.ID
				numbers[id] = append(numbers[id], l.Attempt)
				if !maintenance {
					return ok
				}
				return map[string]Result{
					"e0": ok,
					"e1": {Status: 410},
					"e2": {Status: 503, RetryAfter: 24 * time.Hour},
					"e3": {Status: 404},
				}[id]
			}
			r.up.slow = 10 * time.Second
		})
		r.box.putMany("e", 20)
		pass(time.Second)
		queued := r.box.held() - 4
		require.Positive(t, queued)
		r.byHand("", 0)
		pass(0)
		assert.Equal(t, 4, r.box.held(), "what was queued went back")
		assert.Equal(t, 4, r.UnderWay())
		assert.Equal(t, queued, r.box.released())

		pass(9 * time.Second)
		assert.Zero(t, r.UnderWay())
		assert.Zero(t, r.box.held())
		assert.Equal(t, inbox.Delivered, r.box.find("e0").state)
		assert.Equal(t, inbox.Dead, r.box.find("e1").state, "a 410 is final as always")
		assert.Empty(t, r.box.find("e2").attempts, "trouble is not spent")
		assert.True(t, r.box.find("e2").due.IsZero(), "nor does it ask for a wait beyond the hold")
		assert.Len(t, r.box.find("e3").attempts, 1, "a refusal is the event's own")

		r.box.put("e2", "e2 next", time.Now())
		r.box.putMany("late", 20)
		pass(time.Hour)
		assert.Equal(t, 4, r.up.attempts(), "nothing is attempted")

		r.up.set(func() { maintenance = false })
		r.Resume()
		pass(0)
		assert.Equal(t, 4, r.UnderWay())
		pass(time.Hour)
		assert.Equal(t, 40, r.box.count(inbox.Delivered))
		order, _ := r.up.visits()
		assert.Less(t, slices.Index(order, "e2"), slices.Index(order, "e2 next"))
		assert.Equal(t, []int{1, 1}, numbers["e2"])
		delete(numbers, "e2")
		assert.Equal(t, []int{1, 2}, numbers["e3"])
		delete(numbers, "e3")
		for id, of := range numbers {
			assert.Equal(t, []int{1}, of, id)
		}
	})
}

func TestWhatIsAcceptedDuringAHoldByHandComesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		r := newRig(t, func(*inbox.Lease) Result {
			time.Sleep(time.Second + time.Duration(n.Add(1))*time.Millisecond) // each ends alone
			return ok
		})
		r.byHand("", 0)
		var alone, chain []string
		for i := range 30 {
			alone = append(alone, fmt.Sprint(i))
			r.box.put(alone[i], alone[i], time.Now())
			if i%5 == 0 {
				chain = append(chain, fmt.Sprint("chain ", i))
				r.box.put("chain", chain[i/5], time.Now())
			}
			pass(time.Second)
		}
		require.Zero(t, r.up.attempts())
		r.Resume()
		pass(time.Minute)
		order, _ := r.up.visits()
		of := func(ids []string) []string {
			return slices.DeleteFunc(slices.Clone(order), func(id string) bool { return !slices.Contains(ids, id) })
		}
		assert.Equal(t, chain, of(chain), "of one task")
		assert.ElementsMatch(t, alone[:3], of(alone)[:3], "together")
		assert.Equal(t, alone[3:], of(alone)[3:], "in order of arrival")
		assert.Len(t, order, 36)
	})
}

func TestAHoldByHandEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		lasts := 2*longestWait + longestWait/2
		h := r.byHand("until then", lasts)
		r.box.putMany("e", 10)
		pass(lasts - 1)
		assert.Zero(t, r.up.attempts())
		assert.Equal(t, []Holding{{ByHand: true, Since: h.Since, Until: h.Until, Reason: h.Reason}}, r.Holds())
		pass(1)
		assert.Equal(t, 10, r.box.count(inbox.Delivered))
		assert.Empty(t, r.Holds())
		holds, lasted := r.told()
		assert.Equal(t, []string{"held by hand: until then", "resumed by hand: until then"}, holds)
		assert.Equal(t, []time.Duration{lasts}, lasted)
		r.Resume()
		pass(time.Hour)
		holds, _ = r.told()
		assert.Len(t, holds, 2, "once only")
	})
}

func TestAHoldByHandIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.box.putMany("e", 10)
		pass(0)
		r.byHand("a", time.Minute)
		pass(30 * time.Second)
		r.byHand("b", 0)
		r.box.putMany("f", 10)
		pass(time.Hour)
		assert.Equal(t, 10, r.up.attempts(), "the end of the former is none of the latter's")
		r.byHand("c", time.Second)
		pass(time.Second)
		assert.Equal(t, 20, r.box.count(inbox.Delivered))
		holds, lasted := r.told()
		assert.Equal(t, []string{"held by hand: a", "held by hand: b", "held by hand: c", "resumed by hand: c"}, holds)
		assert.Equal(t, []time.Duration{time.Hour + 31*time.Second}, lasted)
	})
}

func TestAHoldByHandThatIsOverIsNotReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t, newFake(), always(ok)) // not started: nothing notices the end
		r.byHand("a", time.Second)
		pass(2 * time.Second)
		assert.Empty(t, r.Holds())
		r.byHand("b", 0)
		holds, lasted := r.told()
		assert.Equal(t, []string{"held by hand: a", "resumed by hand: a", "held by hand: b"}, holds)
		assert.Equal(t, []time.Duration{time.Second}, lasted, "it ended when it was meant to")
	})
}

func TestAHoldThatIsOverOnlyMakesItsTimeNotCount(t *testing.T) {
	for _, c := range []struct {
		name string
		hold func(now time.Time) inbox.Hold
		dead bool
	}{
		{"none", func(time.Time) inbox.Hold { return inbox.Hold{} }, true},
		{"ended by hand", func(now time.Time) inbox.Hold {
			return inbox.Hold{Since: now.Add(-78 * time.Hour), Ended: now.Add(-time.Hour)}
		}, false},
		{"ended by itself", func(now time.Time) inbox.Hold {
			return inbox.Hold{Since: now.Add(-78 * time.Hour), Until: now.Add(-time.Hour)}
		}, false},
		{"too short", func(now time.Time) inbox.Hold {
			return inbox.Hold{Since: now.Add(-78 * time.Hour), Ended: now.Add(-70*time.Hour - time.Second)}
		}, true},
		{"no beginning", func(now time.Time) inbox.Hold { return inbox.Hold{Ended: now} }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := assemble(t, newFake(), always(Result{Status: 422}))
				r.Pause(c.hold(time.Now()))
				r.box.put("a", "a", time.Now().Add(-80*time.Hour))
				r.Start()
				pass(5 * time.Minute)
				assert.GreaterOrEqual(t, r.up.attempts(), minAttempts)
				assert.Equal(t, c.dead, r.box.find("a").state == inbox.Dead)
				holds, _ := r.told()
				assert.Empty(t, holds)
			})
		})
	}
}

func TestAHoldThatIsOverDoesNotEndTheOneInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		h := r.byHand("a", 0)
		h.Ended = time.Now()
		pass(time.Hour)
		r.Pause(h)
		r.Pause(inbox.Hold{})
		r.box.putMany("e", 10)
		pass(time.Hour)
		assert.Zero(t, r.up.attempts())
		assert.Len(t, r.Holds(), 1)
	})
}

func TestNewSettingsKeepAHoldByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t, newFake(), always(ok))
		r.byHand("", time.Hour) // before the first Lease
		r.Start()
		r.box.putMany("e", 50)
		fresh := newUpstream(always(ok))
		s := r.set
		s.Attempt, s.Concurrency = fresh.attempt, 16
		r.Use(s)
		pass(time.Hour - 1)
		assert.Len(t, r.Holds(), 1)
		assert.Zero(t, r.box.leaseCalls())
		pass(1)
		assert.Equal(t, 50, fresh.attempts())
		assert.Zero(t, r.up.attempts())
	})
}

func TestStopDuringAHoldByHandIsQuick(t *testing.T) {
	for _, lasts := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, always(ok))
			r.up.set(func() { r.up.slow = 10 * time.Second })
			r.box.putMany("e", 20)
			pass(time.Second)
			r.byHand("", lasts)
			pass(2 * time.Second)
			start := time.Now()
			require.NoError(t, r.Stop(t.Context()))
			assert.Equal(t, 7*time.Second, time.Since(start), "for what was under way")
			assert.Equal(t, 4, r.box.count(inbox.Delivered))
			assert.Zero(t, r.box.held())
			holds, _ := r.told()
			assert.Equal(t, []string{"held by hand: "}, holds, "it is not over: the next one goes on with it")
			r.byHand("", 0) // for which there is no Observer
			r.Resume()
		})
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, always(ok))
			r.byHand("", lasts)
			r.box.putMany("e", 20)
			pass(time.Minute)
			start := time.Now()
			require.NoError(t, r.Stop(t.Context()))
			assert.Zero(t, time.Since(start))
		})
	}
}

func TestALeaseThatComesAfterAHoldByHandBeganGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, up := newFake(), newUpstream(always(ok))
		up.slow = 10 * time.Second
		box.putMany("e", 10)
		s := Settings{Attempt: up.attempt, Concurrency: 4}
		d := New(lateInbox{box}, s)
		d.Start()
		pass(time.Second)
		d.Use(s) // ends the first Lease, which returns leases
		pass(time.Second)
		require.Equal(t, 4, d.UnderWay())
		d.Pause(inbox.Hold{Since: time.Now()})
		pass(0)
		assert.Positive(t, box.released(), "though no worker is free to hand it back")
		assert.Equal(t, 4, box.held())
		pass(time.Hour)
		assert.Equal(t, 4, up.attempts())
		require.NoError(t, d.Stop(t.Context()))
	})
}

func TestAHoldByHandDoesNotWaitForWhatCannotBeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		gate := make(chan struct{})
		r.box.set(func() { r.box.gate = gate })
		r.box.putMany("e", 100)
		pass(time.Second)
		r.byHand("", time.Minute)
		pass(time.Minute)
		holds, _ := r.told()
		assert.Len(t, holds, 2, "its end is noticed in time")
		close(gate)
		pass(0)
		assert.Equal(t, 100, r.box.count(inbox.Delivered))
	})
}

func TestAnAttemptThatPanicsIsNotUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(*inbox.Lease) Result { panic("boom") })
		r.up.set(func() { r.up.slow = time.Second })
		r.box.put("a", "a", time.Now())
		pass(0)
		assert.Equal(t, 1, r.UnderWay())
		pass(time.Second)
		assert.Zero(t, r.UnderWay())
	})
}

func TestHoldsByHandInAHurryLoseAndRepeatNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = 10 * time.Millisecond })
		r.log.read(func() { r.log.ask = func() { r.Holds(); r.UnderWay() } })
		r.box.putMany("e", 1000)
		var tasks sync.WaitGroup
		for n := range 4 {
			tasks.Go(func() {
				for i := range 50 {
					switch (n + i) % 4 {
					case 0:
						r.byHand("", 0)
					case 1:
						r.byHand("", time.Duration(1+i)*time.Millisecond)
					case 2:
						r.Resume()
					case 3:
						r.Use(r.set)
					}
					time.Sleep(time.Duration(1+n) * time.Millisecond)
				}
			})
		}
		tasks.Wait()
		r.Resume()
		pass(time.Minute)
		assert.Equal(t, 1000, r.box.count(inbox.Delivered))
		assert.Equal(t, 1000, r.up.attempts())
		assert.Equal(t, 1000, r.box.spent())
		assert.Zero(t, r.UnderWay())
		assert.Empty(t, r.Holds())
		holds, _ := r.told()
		held := false
		for i, h := range holds {
			if !held {
				assert.Equal(t, "held by hand: ", h, "call %d ends what had not begun", i)
			}
			held = h == "held by hand: "
		}
		assert.False(t, held)
	})
}
