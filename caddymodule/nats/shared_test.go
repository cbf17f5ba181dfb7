package nats

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestOfTwoThatPutTheSameAtOnceOneIsFirst(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	for range 50 {
		e := inboxtest.NewEvent("task", inbox.Completed)
		var firsts atomic.Int64
		var wg sync.WaitGroup
		for _, s := range []*store{a, b, a, b} {
			wg.Go(func() {
				duplicateOf, err := s.Put(context.Background(), e)
				if err == nil && duplicateOf == "" {
					firsts.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, firsts.Load())
	}
}

func TestTwoThatLeaseGetNoEventTwiceAndKeepTheOrder(t *testing.T) {
	url := serve(t).ClientURL()
	inboxes := []*store{openWith(t, url), openWith(t, url)}
	const tasks, each = 20, 5
	order := map[string][]string{}
	for n := range tasks * each {
		e := inboxtest.NewEvent(string(rune('a'+n%tasks)), inbox.Completed)
		inboxtest.Put(t, inboxes[n%2], e)
		order[e.TaskID] = append(order[e.TaskID], e.ID)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var mu sync.Mutex
	held, got, twice, total := map[string]bool{}, map[string][]string{}, 0, 0
	var wg sync.WaitGroup
	for _, s := range inboxes {
		wg.Go(func() {
			for {
				l, err := s.home.Lease(ctx, 4)
				if err != nil {
					return
				}
				mu.Lock()
				for _, l := range l {
					if held[l.Event.TaskID] {
						twice++
					}
					held[l.Event.TaskID] = true
				}
				mu.Unlock()
				time.Sleep(time.Millisecond) // the attempt
				mu.Lock()
				for _, l := range l {
					delete(held, l.Event.TaskID)
					got[l.Event.TaskID] = append(got[l.Event.TaskID], l.Event.ID)
					total++
				}
				mu.Unlock()
				if s.home.Settle(ctx, inboxtest.Outcomes(inbox.Deliver, l...)...) != nil {
					return
				}
				mu.Lock()
				if total == tasks*each {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Zero(t, twice, "two events of a task at a time")
	require.Equal(t, order, got)
}

func TestALeaseOfOneThatVanishedComesBackToAnother(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	first, second := inboxtest.NewEvent("task", inbox.InProgress), inboxtest.NewEvent("other", inbox.Completed)
	inboxtest.Put(t, a, first, second)
	old := inboxtest.Lease(t, a.home, 2)
	crash(a)
	began := time.Now()
	again := inboxtest.Lease(t, b.home, 2)
	require.ElementsMatch(t, []string{first.ID, second.ID}, []string{again[0].Event.ID, again[1].Event.ID})
	require.Less(t, time.Since(began), 15*time.Second)
	require.Equal(t, []int{1, 1}, []int{again[0].Attempt, again[1].Attempt})
	inboxtest.Settle(t, b.home, inbox.Deliver, again...)
	require.ErrorIs(t, a.home.Settle(context.Background(), inboxtest.Outcomes(inbox.Deliver, old...)...), inbox.ErrClosed)
	nothingElse(t, b)
}

func TestASlowOneKeepsItsLease(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, a, e)
	l := inboxtest.Lease(t, a.home, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) // three times the lease
	defer cancel()
	_, err := b.home.Lease(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	inboxtest.Settle(t, a.home, inbox.Deliver, l...)
}

func TestOneWhoseLeaseWasGivenToAnotherCannotUndoItsEnd(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	for _, v := range []inbox.Verdict{inbox.Retry, inbox.GiveUp, inbox.Deliver} {
		e := inboxtest.NewEvent("task", inbox.Completed)
		inboxtest.Put(t, a, e)
		old := inboxtest.Lease(t, a.home, 1)
		h := a.home.leaser.get(old[0].Ref)
		require.NoError(t, h.msg.Nak()) // as after a long silence
		taken := inboxtest.Lease(t, b.home, 1)
		if v == inbox.Retry {
			require.ErrorIs(t, a.home.Settle(ctx, inboxtest.Outcomes(v, old...)...), inbox.ErrState, "another has it")
		}
		inboxtest.Settle(t, b.home, inbox.Deliver, taken...)
		if v != inbox.Retry {
			require.ErrorIs(t, a.home.Settle(ctx, inboxtest.Outcomes(v, old...)...), inbox.ErrState)
		}
		r, err := b.Get(ctx, e.ID)
		attempts := inboxtest.Log(r)
		require.NoError(t, err)
		require.Equal(t, inbox.Delivered, r.State)
		require.Len(t, attempts, 1)
	}
	nothingElse(t, b)
}

func TestAFinalEventWaitsForOneInProgressThatAnotherHas(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	first, final := inboxtest.NewEvent("task", inbox.InProgress), inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, a, first)
	l := inboxtest.Lease(t, a.home, 1)
	inboxtest.Put(t, b, final)
	nothingElse(t, b)
	inboxtest.Settle(t, a.home, inbox.Deliver, l...)
	require.Equal(t, final.ID, inboxtest.Lease(t, b.home, 1)[0].Event.ID)
	r, err := b.Get(context.Background(), first.ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Delivered, r.State)
}

func TestWhatOneChangesTheOtherIsTold(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	hold := inbox.Hold{Since: time.UnixMicro(1e15).UTC(), Reason: "maintenance"}
	require.NoError(t, a.home.SetHold(ctx, hold))
	holds, troubles := make(chan inbox.Hold, 10), make(chan inbox.Trouble, 10)
	ended := make(chan error)
	go func() {
		ended <- b.home.Watch(ctx, func(h inbox.Hold) { holds <- h }, func(t inbox.Trouble) { troubles <- t })
	}()
	require.Equal(t, hold, <-holds)
	own := inbox.Hold{Since: time.UnixMicro(2e15).UTC()}
	require.NoError(t, b.home.SetHold(ctx, own))
	trouble := inbox.Trouble{Until: time.UnixMicro(3e15).UTC(), Reason: "503"}
	require.NoError(t, a.home.TellTrouble(ctx, trouble))
	require.Equal(t, trouble, <-troubles)
	require.NoError(t, a.home.TellTrouble(ctx, inbox.Trouble{}))
	require.Equal(t, inbox.Trouble{}, <-troubles)
	require.Empty(t, holds, "its own")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestWhatIsImportedKeepsItsState(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	ctx := context.Background()
	attempts := []inbox.Attempt{{At: time.UnixMicro(1e15).UTC(), Duration: time.Second, Status: 503, Reason: "x"}}
	var want []*inbox.Record
	for n, state := range []inbox.State{inbox.Delivered, inbox.Dead, inbox.Superseded, inbox.Pending} {
		p := inbox.Progress{State: state, Attempts: 1, Last: attempts[0]}
		if state != inbox.Pending {
			p.SettledAt = time.Now().UTC().Truncate(time.Microsecond)
		} else {
			p.Due = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		}
		r := inboxtest.Record(inboxtest.NewEvent(state.String(), inbox.Status(n%3)), p, attempts)
		r.Deliveries[0].Replays = []inbox.Replay{{At: time.UnixMicro(1e14).UTC(), From: "old"}, {At: time.UnixMicro(2e15).UTC(), After: 1}}
		for _, wanted := range []bool{false, true} {
			duplicate, err := s.Import(ctx, r)
			require.NoError(t, err)
			require.Equal(t, wanted, duplicate)
		}
		want = append(want, r)
	}
	nothingElse(t, s)
	for _, w := range want {
		r, err := s.Get(ctx, w.Event.ID)
		require.NoError(t, err)
		require.Equal(t, w, r)
	}
	stats, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, [...]int64{1, 2, 1, 1, 0}, stats.Events) // including the sentinel
	require.NoError(t, s.Replay(ctx, want[1].Event.ID, ""))
	l := inboxtest.Lease(t, s.home, 1)[0]
	require.Equal(t, 2, l.Attempt)
	inboxtest.Settle(t, s.home, inbox.Deliver, l)
	r, err := s.Get(ctx, want[1].Event.ID)
	require.NoError(t, err)
	require.Equal(t, append(attempts, inboxtest.Outcome(inbox.Deliver, l).Attempt), inboxtest.Log(r))
	require.Equal(t, []inbox.Replay{want[1].Deliveries[0].Replays[0], l.Replay}, r.Deliveries[0].Replays)
}

// If another Caddy replays an event while a later one of its task is being
// leased, they must not both be leased.
func TestOneThatWasReplayedSinceIsSeenOnceTheLeaseIsMarked(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	first, second := inboxtest.NewEvent("task", inbox.Completed), inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, a, first)
	inboxtest.Settle(t, a.home, inbox.Deliver, inboxtest.Lease(t, a.home, 1)...)
	inboxtest.Put(t, a, second)
	task, err := a.home.task(ctx, second.ID)
	require.NoError(t, err)
	free, err := a.home.stillFree(ctx, task, second.ID)
	require.NoError(t, err)
	require.True(t, free)
	require.NoError(t, b.Replay(ctx, first.ID, ""))
	free, err = a.home.stillFree(ctx, task, second.ID)
	require.NoError(t, err)
	require.False(t, free)
	l := inboxtest.Lease(t, b.home, 1)
	require.Equal(t, first.ID, l[0].Event.ID)
	nothingElse(t, a)
	inboxtest.Settle(t, b.home, inbox.Deliver, l...)
	require.Equal(t, second.ID, inboxtest.Lease(t, a.home, 1)[0].Event.ID)
}
