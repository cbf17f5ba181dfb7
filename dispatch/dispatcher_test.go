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

// rig is a running Dispatcher with its surroundings, in a synctest bubble.
type rig struct {
	*Dispatcher
	t   *testing.T
	box *fakeInbox
	up  *upstream
	log *diary
	set Settings
}

// newRig starts a Dispatcher that is stopped at the test's end.
func newRig(t *testing.T, answer func(*inbox.Lease) Result, adjust ...func(*Settings)) *rig {
	t.Helper()
	return restart(t, newFake(), answer, adjust...)
}

func restart(t *testing.T, box *fakeInbox, answer func(*inbox.Lease) Result, adjust ...func(*Settings)) *rig {
	t.Helper()
	r := &rig{t: t, box: box, up: newUpstream(answer), log: newDiary()}
	r.set = Settings{Attempt: r.up.attempt, Concurrency: 4, Observer: r.log}
	for _, a := range adjust {
		a(&r.set)
	}
	r.Dispatcher = New(r.box, r.set)
	r.Start()
	t.Cleanup(func() {
		r.stopNow()
		assert.Empty(t, r.box.complaints())
	})
	return r
}

// stopNow stops without patience for attempts under way.
func (r *rig) stopNow() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	_ = r.Stop(ctx) // tests that mean the error call Stop themselves
}

// pass lets that much time go by, and everything happen that then can.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

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
		r := newRig(t, nil, func(s *Settings) { s.Concurrency = 32 })
		var n atomic.Int64
		r.up.set(func() {
			r.up.answer = func(*inbox.Lease) Result {
				time.Sleep(time.Second + time.Duration(n.Add(1))*time.Millisecond) // each ends alone
				return ok
			}
		})
		r.box.putMany("e", 640)
		pass(10 * time.Minute)
		assert.Equal(t, 640, r.box.count(inbox.Delivered))
		assert.LessOrEqual(t, r.box.leases, 640/16+5)
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

func TestStopLetsAttemptsUnderWayFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = 3 * time.Second })
		r.box.putMany("e", 20)
		pass(time.Second)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
		assert.Equal(t, 2*time.Second, time.Since(start))
		assert.Equal(t, 4, r.box.count(inbox.Delivered))
		assert.Zero(t, r.box.held(), "what was queued went back")
		assert.Equal(t, 4, r.up.attempts(), "nothing new began")
		require.NoError(t, r.Stop(ctx), "again")
		r.Start()
		pass(time.Minute)
		assert.Equal(t, 4, r.up.attempts(), "no start after stop")
	})
}

func TestStopHandsBackUnspentWhatItHasToCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = 20 * time.Second })
		r.box.putMany("e", 20)
		pass(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		require.NoError(t, r.Stop(ctx))
		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.Equal(t, 20, r.box.count(inbox.Pending))
		assert.Zero(t, r.box.spent())
		assert.Zero(t, r.box.held())
		r.log.read(func() {
			assert.Equal(t, map[inbox.Verdict]int{inbox.Release: 4}, r.log.verdicts)
			for i, due := range r.log.dues {
				assert.True(t, due.IsZero(), "due at once")
				assert.True(t, r.log.results[i].Cancelled)
			}
		})
		next := restart(t, r.box, always(ok))
		pass(0)
		assert.Equal(t, 20, r.box.count(inbox.Delivered), "the next one goes on at once")
		assert.Equal(t, 20, next.up.attempts())
	})
}

func TestStopReportsAnAttemptThatIgnoresItsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, func(*inbox.Lease) Result { <-release; return ok })
		r.box.put("a", "a", time.Now())
		pass(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.EqualError(t, r.Stop(ctx), "dispatch: 1 workers still busy 5s after their attempts were cancelled")
		assert.Equal(t, time.Second+cancelGrace, time.Since(start))
		close(release)
		pass(time.Minute) // and its late end does no harm
	})
}

func TestStopBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(newFake(), Settings{Attempt: func(context.Context, *inbox.Lease) Result { return ok }})
		require.NoError(t, d.Stop(t.Context()))
		d.Start()
		synctest.Wait()
		assert.Zero(t, d.workers)
	})
}

func TestOutcomesAreSettledInBatchesAndWorkersDoNotWaitForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		gate := make(chan struct{})
		r.box.set(func() { r.box.gate = gate })
		r.box.putMany("e", 100)
		pass(time.Hour)
		most := r.set.withDefaults().backlog()
		assert.Greater(t, r.up.attempts(), r.set.Concurrency, "a worker goes on before its outcome is stored")
		assert.LessOrEqual(t, r.box.held(), most+2*r.set.Concurrency, "but not without end")
		r.box.set(func() { r.box.gate = nil })
		close(gate)
		pass(0)
		assert.Equal(t, 100, r.box.count(inbox.Delivered))
		assert.Less(t, r.box.settles, 50)
	})
}

func TestSettleFailsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		broken := fmt.Errorf("disk: %w", inbox.ErrFull)
		r.box.set(func() { r.box.settleErr = broken })
		r.box.putMany("e", 1000)
		pass(time.Hour)
		attempts, calls := r.up.attempts(), r.box.settles
		assert.LessOrEqual(t, attempts, 16+2*r.set.Concurrency, "leasing waits")
		assert.LessOrEqual(t, calls, 800, "in growing steps up to 5 s")
		assert.Greater(t, calls, 600)
		r.log.read(func() {
			require.NotEmpty(t, r.log.trouble)
			require.ErrorIs(t, r.log.trouble[0], inbox.ErrFull)
			assert.Contains(t, r.log.trouble[0].Error(), "settling ")
			assert.LessOrEqual(t, len(r.log.trouble), 361, "no more than once in ten seconds")
		})
		r.box.set(func() { r.box.settleErr = nil })
		pass(10 * time.Second)
		assert.Equal(t, 1000, r.box.count(inbox.Delivered))
		assert.Equal(t, 1000, r.up.attempts(), "nothing was delivered twice")
	})
}

func TestStopGivesUpWhatCannotBeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		broken := errors.New("disk on fire")
		r.box.set(func() { r.box.settleErr = broken })
		r.box.putMany("e", 3)
		pass(time.Hour)
		start, calls := time.Now(), r.box.settles
		err := r.Stop(t.Context())
		require.ErrorIs(t, err, context.Canceled)
		assert.Contains(t, err.Error(), "dispatch: 3 outcomes were not settled, their events will be delivered again: settling ")
		assert.Equal(t, settleGrace, time.Since(start))
		assert.Greater(t, r.box.settles, calls+10, "it kept trying")
	})
}

func TestStopSettlesWhatRecoversInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.box.set(func() { r.box.settleErr = errors.New("disk on fire") })
		r.box.putMany("e", 3)
		pass(time.Hour)
		time.AfterFunc(2*time.Second, func() { r.box.set(func() { r.box.settleErr = nil }) })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, r.Stop(ctx), "settling does not depend on the context")
		assert.Equal(t, 3, r.box.count(inbox.Delivered))
	})
}

func TestALeaseThatIsNotHeldDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		gate := make(chan struct{})
		r.box.set(func() { r.box.gate = gate })
		r.box.putMany("e", 4)
		pass(0)
		r.box.set(func() { r.box.tasks["e0"][0].lease = nil }) // as if it had been lost
		close(gate)
		pass(time.Hour)
		assert.Equal(t, 4, r.box.count(inbox.Delivered))
		r.log.read(func() {
			require.Len(t, r.log.trouble, 1)
			assert.ErrorIs(t, r.log.trouble[0], inbox.ErrState)
		})
		require.NoError(t, r.Stop(t.Context()))
	})
}

func TestLeaseFailsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		pass(0)
		r.box.set(func() { r.box.leaseErr = errors.New("disk on fire") })
		pass(time.Hour)
		assert.LessOrEqual(t, r.box.leases, 140)
		assert.GreaterOrEqual(t, r.box.leases, 120)
		r.log.read(func() {
			require.NotEmpty(t, r.log.trouble)
			assert.EqualError(t, r.log.trouble[0], "leasing events: disk on fire")
		})
		r.box.set(func() { r.box.leaseErr = nil })
		r.box.put("a", "a", time.Now())
		pass(longestFault)
		assert.Equal(t, 1, r.box.count(inbox.Delivered))
		r.box.set(func() { r.box.leaseErr = errors.New("again") })
		pass(0)
		start := time.Now()
		require.NoError(t, r.Stop(t.Context()))
		assert.Zero(t, time.Since(start), "nor does Stop wait for it")
	})
}

// brokenInbox returns neither a lease nor an error.
type brokenInbox struct{ *fakeInbox }

func (brokenInbox) Lease(context.Context, int) ([]*inbox.Lease, error) { return nil, nil }

func TestAnInboxThatReturnsNothingIsNotAskedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newDiary()
		d := New(brokenInbox{newFake()}, Settings{Attempt: newUpstream(always(ok)).attempt, Observer: log})
		d.Start()
		pass(time.Minute)
		log.read(func() {
			require.NotEmpty(t, log.trouble)
			require.EqualError(t, log.trouble[0], "leasing events: the inbox returned no lease and no error")
		})
		require.NoError(t, d.Stop(t.Context()))
	})
}

// lateInbox answers a Lease just as its context ends.
type lateInbox struct{ *fakeInbox }

func (l lateInbox) Lease(ctx context.Context, most int) ([]*inbox.Lease, error) {
	<-ctx.Done()
	return l.fakeInbox.Lease(context.WithoutCancel(ctx), most)
}

func TestALeaseThatComesDuringStopGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, up := newFake(), newUpstream(always(ok))
		box.putMany("e", 10)
		d := New(lateInbox{box}, Settings{Attempt: up.attempt})
		d.Start()
		pass(time.Second)
		require.NoError(t, d.Stop(t.Context()))
		assert.Equal(t, 10, box.released())
		assert.Zero(t, box.held())
		assert.Zero(t, up.attempts())
	})
}

func TestAClosedInboxEndsLeasing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, always(ok))
		r.up.set(func() { r.up.slow = time.Second })
		r.box.put("a", "a", time.Now())
		pass(0)
		require.NoError(t, r.box.Close())
		pass(time.Hour)
		assert.Equal(t, 2, r.box.leases)
		r.log.read(func() {
			require.Len(t, r.log.trouble, 2)
			require.ErrorIs(t, r.log.trouble[0], inbox.ErrClosed)
		})
		require.ErrorIs(t, r.Stop(t.Context()), inbox.ErrClosed, "one outcome had nowhere to go")
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
		assert.LessOrEqual(t, r.up.most, 32)
	})
}
