package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

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
		pass(time.Minute) // its late end does no harm
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

// lateInbox returns from a Lease just as its context ends.
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
