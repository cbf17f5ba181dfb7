package dispatch

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// rig is a Dispatcher with its inbox, its destination and its Observer, in a synctest
// bubble.
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
	r := assemble(t, box, answer, adjust...)
	r.Start()
	return r
}

// assemble makes a Dispatcher that the test has to start.
func assemble(t *testing.T, box *fakeInbox, answer func(*inbox.Lease) Result, adjust ...func(*Settings)) *rig {
	t.Helper()
	r := &rig{t: t, box: box, up: newUpstream(answer), log: newDiary()}
	r.set = Settings{Attempt: r.up.attempt, Concurrency: 4, Observer: r.log}
	for _, a := range adjust {
		a(&r.set)
	}
	r.Dispatcher = New(r.box, r.set)
	t.Cleanup(func() {
		r.stopNow()
		assert.Empty(t, r.box.complaints())
	})
	return r
}

// stopNow stops without waiting for attempts under way.
func (r *rig) stopNow() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	_ = r.Stop(ctx) // tests of the error call Stop themselves
}

// inTrouble reports whether the destination is held for its trouble.
func (r *rig) inTrouble() bool {
	return slices.ContainsFunc(r.Holds(), func(h Holding) bool { return !h.ByHand })
}

// byHand begins a hold by hand of that length; 0 is without an end.
func (r *rig) byHand(reason string, lasts time.Duration) inbox.Hold {
	h := inbox.Hold{Since: time.Now(), Reason: reason}
	if lasts > 0 {
		h.Until = h.Since.Add(lasts)
	}
	r.Pause(h)
	return h
}

// told returns the holds that the Observer saw begin and end, and how long they lasted.
func (r *rig) told() (holds []string, lasted []time.Duration) {
	r.log.read(func() { holds, lasted = slices.Clone(r.log.holds), slices.Clone(r.log.lasted) })
	return holds, lasted
}

// pass lets time pass, and waits until everything has happened that happens by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
