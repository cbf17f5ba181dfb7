package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

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
		began := time.Now()
		pass(time.Hour)
		unsettled := r.Load().Unsettled
		require.ErrorIs(t, unsettled.Err, inbox.ErrFull)
		require.Equal(t, r.up.attempts(), unsettled.Outcomes)
		require.WithinDuration(t, began, unsettled.Since, time.Second, "the first failure, not the last")
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
		assert.Zero(t, r.Load().Unsettled)
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
