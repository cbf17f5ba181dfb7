package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestEventsAreDeliveredInTheOrderOfTheirTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = time.Second })
		for i := range 40 {
			r.box.put(fmt.Sprint("task", i%4), fmt.Sprintf("%d-%02d", i%4, i/4), time.Now())
		}
		pass(11 * time.Second)
		assert.Equal(t, 40, r.box.count(inbox.Delivered))
		order, _ := r.up.visits()
		for task := range 4 {
			mine := slices.DeleteFunc(slices.Clone(order), func(id string) bool {
				return !strings.HasPrefix(id, fmt.Sprint(task, "-"))
			})
			assert.Len(t, mine, 10)
			assert.True(t, slices.IsSorted(mine), "%v", mine)
		}
		assert.Equal(t, 4, r.up.most)
	})
}

func TestAnEventIsAttemptedTheMomentItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		pass(24 * time.Hour)
		before := r.box.leases
		assert.LessOrEqual(t, before, 2, "idle costs nothing")
		r.box.put("a", "a", time.Now())
		pass(0)
		assert.Equal(t, 1, r.box.count(inbox.Delivered))
	})
}

func TestNoMoreAttemptsAtOnceThanConcurrencyAndNoMoreLeasesThanSoonNeeded(t *testing.T) {
	for _, n := range []int{1, 3, 32} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, always(ok), func(s *Settings) { s.Concurrency = n })
			r.up.set(func() { r.up.slow = time.Second })
			r.box.putMany("e", 20*n)
			pass(20*time.Second - 1)
			assert.Equal(t, n, r.up.most)
			pass(1)
			assert.Equal(t, 20*n, r.box.count(inbox.Delivered), "and no fewer either")
			// under way, queued, and decided in this very moment
			assert.LessOrEqual(t, r.box.mostUnsettled, 3*n)
		})
	}
}

func TestEventsAreLeasedInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t, newFake(), nil, func(s *Settings) { s.Concurrency = 32 })
		var n atomic.Int64
		r.up.set(func() {
			r.up.answer = func(*inbox.Lease) Result {
				time.Sleep(10*time.Millisecond + time.Duration(n.Add(1))*time.Microsecond) // each ends alone
				return ok
			}
		})
		r.box.putMany("e", 640) // all of them before the first Lease
		r.Start()
		pass(10 * time.Minute)
		assert.Equal(t, 640, r.box.count(inbox.Delivered))
		assert.LessOrEqual(t, r.box.leases, 640/16+10)
	})
}

func TestARecordIsKeptOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []Result{{Status: 404, Reason: "who?"}, {Status: 302}, ok}
		r := newRig(t, func(l *inbox.Lease) Result { return answers[l.Attempt-1] })
		r.up.set(func() { r.up.slow = 2 * time.Second })
		start := time.Now()
		r.box.put("a", "a", start)
		pass(time.Hour)
		e := r.box.find("a")
		require.Equal(t, inbox.Delivered, e.state)
		require.Len(t, e.attempts, 3)
		for i, want := range []inbox.Attempt{
			{Status: 404, Reason: "who?"},
			{Status: 302, Reason: "the upstream answered 302"},
			{Status: 200},
		} {
			want.Duration = 2 * time.Second
			want.At = e.attempts[i].At
			assert.Equal(t, want, e.attempts[i])
		}
		assert.True(t, e.attempts[0].At.Equal(start))
		wait := e.attempts[1].At.Sub(start) - 2*time.Second
		assert.Positive(t, wait)
		assert.LessOrEqual(t, wait, 5*time.Second)
		r.log.read(func() {
			assert.Equal(t, map[inbox.Verdict]int{inbox.Retry: 2, inbox.Deliver: 1}, r.log.verdicts)
			assert.True(t, r.log.dues[0].Equal(e.attempts[1].At))
			assert.Equal(t, 2*time.Second, r.log.took[0])
			assert.True(t, r.log.dues[2].IsZero())
		})
	})
}

func TestA410IsDeadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 410}))
		r.box.put("a", "a", time.Now())
		pass(0)
		assert.Equal(t, inbox.Dead, r.box.find("a").state)
		assert.Equal(t, "the upstream answered 410", r.box.find("a").attempts[0].Reason)
	})
}

func TestAnEventThatIsRefusedIsDeadAtItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Status: 422}))
		r.box.put("a", "a", time.Now())
		pass(72*time.Hour - time.Second)
		assert.Equal(t, 1, r.box.count(inbox.Pending))
		pass(2 * time.Second)
		assert.Equal(t, 1, r.box.count(inbox.Dead), "its last attempt was not put off")
		n := len(r.box.find("a").attempts)
		assert.Greater(t, n, 72)
		assert.Less(t, n, 400)
	})
}

// The event is older than it may get, and has had many attempts.
func TestAReplayBeginsTheScheduleAndTheAgeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t, newFake(), always(Result{Status: 422}))
		r.box.putReplayed("a", time.Now().Add(-1000*time.Hour), 40)
		r.Start()
		pass(time.Minute)
		assert.Greater(t, len(r.box.find("a").attempts), 2, "the first waits are short again")
		pass(72*time.Hour - time.Minute - time.Second)
		assert.Equal(t, 1, r.box.count(inbox.Pending), "it is given up after 72 hours from the replay")
		pass(2 * time.Second)
		assert.Equal(t, 1, r.box.count(inbox.Dead))
	})
}

func TestATimeoutIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok), func(s *Settings) { s.Timeout = 3 * time.Second })
		r.up.set(func() { r.up.slow = time.Hour })
		r.box.put("a", "a", time.Now())
		pass(3 * time.Second)
		e := r.box.find("a")
		require.Len(t, e.attempts, 1)
		assert.Equal(t, 3*time.Second, e.attempts[0].Duration)
		assert.Equal(t, context.DeadlineExceeded.Error(), e.attempts[0].Reason)
	})
}

func TestAPanicIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(l *inbox.Lease) Result {
			if l.Attempt == 1 {
				panic(errors.New("boom " + strings.Repeat("\xff", 9999)))
			}
			return ok
		}, func(s *Settings) { s.Concurrency = 1 })
		r.box.put("a", "a", time.Now())
		pass(time.Minute)
		e := r.box.find("a")
		assert.Equal(t, inbox.Delivered, e.state, "by the same worker")
		assert.Equal(t, "panic in the attempt: boom ", e.attempts[0].Reason)
		r.log.read(func() { assert.True(t, r.log.results[0].Unreachable) })
	})
}

func TestAClaimToBeCancelledIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(Result{Cancelled: true}))
		r.box.put("a", "a", time.Now())
		pass(0)
		assert.Equal(t, 1, r.up.attempts(), "no busy loop")
		assert.Len(t, r.box.find("a").attempts, 1, "it is spent")
	})
}

func TestUseSwapsTheSettingsOfAttemptsThatBeginFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = 10 * time.Second })
		r.box.putMany("e", 8)
		pass(time.Second)
		newer, newLog := newUpstream(always(ok)), newDiary()
		s := r.set
		s.Attempt, s.Observer = newer.attempt, newLog
		r.Use(s)
		pass(9 * time.Second)
		assert.Equal(t, 4, r.up.attempts())
		assert.Equal(t, 4, newer.attempts())
		assert.Equal(t, 8, r.box.count(inbox.Delivered), "what was under way was not cancelled")
		newLog.read(func() { assert.Equal(t, 4, newLog.verdicts[inbox.Deliver]) })
		r.log.read(func() { assert.Equal(t, 4, r.log.verdicts[inbox.Deliver], "each with its own observer") })
	})
}

func TestUseChangesConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = time.Second })
		r.box.putMany("e", 1000)
		pass(time.Second / 2)
		running := func() (n int) { r.up.set(func() { n = r.up.running }); return n }
		for _, n := range []int{16, 2, 2, 9, 1, 4} {
			s := r.set
			s.Concurrency = n
			r.Use(s)
			r.mu.Lock()
			assert.LessOrEqual(t, r.queue.len(), n, "the queue shrinks at once")
			r.mu.Unlock()
			pass(time.Second)
			assert.Equal(t, n, running())
		}
		pass(1000 * time.Second)
		assert.Equal(t, 1000, r.box.count(inbox.Delivered))
		assert.Equal(t, 1000, r.up.attempts())
		assert.Equal(t, 4, r.workers)
	})
}

func TestUseUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = 10 * time.Millisecond })
		r.box.putMany("e", 2000)
		for i := range 100 {
			s := r.set
			s.Concurrency = 1 + i%32
			r.Use(s)
			pass(7 * time.Millisecond)
		}
		pass(10 * time.Minute)
		assert.Equal(t, 2000, r.box.count(inbox.Delivered))
		assert.Equal(t, 2000, r.up.attempts())
		assert.Equal(t, 2000, r.box.spent())
		r.log.read(func() { assert.Empty(t, r.log.trouble) })
		assert.LessOrEqual(t, r.up.most, 32)
	})
}
