package fotorapi

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ask waits for the budget, and has the question end with that error at once.
func ask(t *testing.T, b *Adaptive, err error) {
	t.Helper()
	done, waited := b.Wait(t.Context())
	require.NoError(t, waited)
	done(err)
}

var (
	errTooOften    = &Error{Kind: TooOften, Status: 429}
	errUnavailable = &Error{Kind: Unavailable, Status: 503}
)

func TestQuestionsAreEvenlySpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun := NewAdaptive(2), time.Now()
		var at []time.Duration
		for range 4 {
			ask(t, b, nil)
			at = append(at, time.Since(begun))
		}
		require.Equal(t, []time.Duration{0, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond}, at)
		time.Sleep(time.Hour)
		begun = time.Now()
		ask(t, b, nil)
		ask(t, b, nil)
		require.Equal(t, 500*time.Millisecond, time.Since(begun), "an hour without questions saves nothing up")
	})
}

func TestQuestionsAreInTheOrderOfTheirCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewAdaptive(1)
		var order []int
		var mu sync.Mutex
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				done, err := b.Wait(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				done(nil)
			})
			synctest.Wait()
		}
		callers.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, order)
	})
}

func TestTooOftenHalvesTheRateToTheFloorAndAnswersRaiseIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewAdaptive(2)
		for _, want := range []float64{1, 0.5, 0.25, 0.125, 0.0625, 0.03125, FloorRate, FloorRate} {
			ask(t, b, errTooOften)
			require.InDelta(t, want, b.Rate(), 1e-9)
		}
		begun := time.Now()
		ask(t, b, nil)
		require.Equal(t, time.Minute, time.Since(begun))
		require.InDelta(t, FloorRate+2.0/120, b.Rate(), 1e-9)
		for _, unrelated := range []error{errUnavailable, &Error{Kind: Unauthorized}, context.Canceled} {
			ask(t, b, unrelated)
			require.InDelta(t, FloorRate+2.0/120, b.Rate(), 1e-9, "%v says nothing about the rate", unrelated)
		}
		for _, answer := range []Kind{NotKnown, OtherTask, Unusable} {
			before := b.Rate()
			ask(t, b, &Error{Kind: answer})
			require.InDelta(t, before+2.0/120, b.Rate(), 1e-9, answer)
		}
		for b.Rate() < 1 {
			ask(t, b, nil)
		}
		begun = time.Now()
		for b.Rate() < 2 {
			ask(t, b, nil)
		}
		require.InDelta(t, 60, time.Since(begun).Seconds(), 2, "from half to full in a minute")
	})
}

func TestRateThatIsBelowTheFloorStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewAdaptive(1.0 / 600)
		ask(t, b, errTooOften)
		require.InDelta(t, 1.0/600, b.Rate(), 0)
	})
}

func TestManyAnswersTooOftenAtOnceHalveTheRateOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewAdaptive(100)
		var dones []func(error)
		for range 50 {
			done, err := b.Wait(t.Context())
			require.NoError(t, err)
			dones = append(dones, done)
		}
		time.Sleep(time.Second)
		for _, done := range dones[:49] {
			done(errTooOften)
			done(errTooOften)
		}
		require.InDelta(t, 50, b.Rate(), 0)
		dones[49](nil)
		require.InDelta(t, 50, b.Rate(), 0, "a question that was asked before the halving says nothing about the rate since")
		ask(t, b, errTooOften)
		require.InDelta(t, 25, b.Rate(), 0)
	})
}

func TestWhoWaitsWhenTheRateIsHalvedWaitsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun := NewAdaptive(1), time.Now()
		done, err := b.Wait(t.Context())
		require.NoError(t, err)
		var at []time.Duration
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				done, err := b.Wait(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				at = append(at, time.Since(begun))
				done(errUnavailable)
			})
		}
		time.Sleep(900 * time.Millisecond)
		done(errTooOften)
		callers.Wait()
		require.Equal(t, []time.Duration{2900 * time.Millisecond, 4900 * time.Millisecond, 6900 * time.Millisecond}, at)
	})
}

func TestRetryAfterHoldsAllQuestionsButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for asked, want := range map[time.Duration]time.Duration{
			90 * time.Second:        90 * time.Second,
			24 * 365 * time.Hour:    MaxRetryAfter,
			-time.Hour:              time.Second,
			100 * time.Millisecond:  time.Second,
			1<<63 - 1:               MaxRetryAfter,
			-1 << 63:                time.Second,
			1500 * time.Millisecond: 1500 * time.Millisecond,
		} {
			b, begun := NewAdaptive(1), time.Now()
			ask(t, b, &Error{Kind: Unavailable, RetryAfter: asked})
			if asked >= time.Minute {
				require.Zero(t, b.Rate())
			}
			ask(t, b, nil)
			require.InDelta(t, 1, b.Rate(), 0)
			require.Equal(t, want, time.Since(begun), asked)
		}
	})
}

func TestWhoGivesUpWaitingTakesNoQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun := NewAdaptive(1), time.Now()
		ask(t, b, nil)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				_, err := b.Wait(ctx)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
		callers.Wait()
		require.Equal(t, 500*time.Millisecond, time.Since(begun))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(time.Minute)
		for range 50 {
			_, err := b.Wait(ended)
			require.ErrorIs(t, err, context.Canceled, "even if a question may be asked")
		}
		begun = time.Now()
		ask(t, b, nil)
		require.Zero(t, time.Since(begun))
	})
}

func TestSetRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewAdaptive(2)
		b.SetRate(4)
		require.InDelta(t, 4, b.Rate(), 0)
		ask(t, b, errTooOften)
		b.SetRate(8)
		require.InDelta(t, 2, b.Rate(), 0, "what was learnt stays")
		b.SetRate(1)
		require.InDelta(t, 1, b.Rate(), 0)
		b.SetRate(1.0 / 3600)
		ask(t, b, nil)
		var wait sync.WaitGroup
		begun := time.Now()
		wait.Go(func() { ask(t, b, nil) })
		time.Sleep(time.Minute)
		b.SetRate(1)
		wait.Wait()
		require.Equal(t, time.Minute, time.Since(begun), "who waits is told")
	})
}

func TestRatesBeyondTheLimitsCountAsThose(t *testing.T) {
	nan := 0.0
	nan /= nan
	for rate, want := range map[float64]float64{0: MinRate, -5: MinRate, 1e9: MaxRate, 3: 3} {
		require.InDelta(t, want, NewAdaptive(rate).Rate(), 0)
	}
	require.InDelta(t, MinRate, NewAdaptive(nan).Rate(), 0)
}

// TestStormOfTooOften has a server that bears less than the budget's full rate, and 200
// callers who ask again and again. The server counts.
func TestStormOfTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bears = 3 // a second
		b := NewAdaptive(20)
		var mu sync.Mutex
		var all, taken []time.Time
		serve := func() error {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			all = append(all, now)
			recent := 0
			for _, at := range taken[max(0, len(taken)-bears):] {
				if now.Sub(at) < time.Second {
					recent++
				}
			}
			if recent >= bears {
				return errTooOften
			}
			taken = append(taken, now)
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		var callers sync.WaitGroup
		for range 200 {
			callers.Go(func() {
				for {
					done, err := b.Wait(ctx)
					if err != nil {
						return
					}
					err = serve()
					time.Sleep(50 * time.Millisecond)
					done(err)
				}
			})
		}
		callers.Wait()
		for i := range all[20:] {
			require.GreaterOrEqual(t, all[20+i].Sub(all[i]), time.Second-time.Microsecond, "never more than 20 a second")
		}
		refused := len(all) - len(taken)
		require.Less(t, refused, len(all)/10, "%d of %d refused", refused, len(all))
		require.Greater(t, len(taken), 20*60*bears/2, "half of what the server bears is used at least")
	})
}

func TestBudgetsAreSharedByAccount(t *testing.T) {
	var budgets Budgets
	a, again, other := budgets.Use("a", 5), budgets.Use("a", 2), budgets.Use("b", 9)
	require.Same(t, a.Adaptive, again.Adaptive)
	require.NotSame(t, a.Adaptive, other.Adaptive)
	require.InDelta(t, 2, a.Rate(), 0, "the lowest counts")
	require.InDelta(t, 9, other.Rate(), 0)

	again.Release()
	again.Release()
	require.InDelta(t, 5, a.Rate(), 0)
	reloaded := budgets.Use("a", 1)
	a.Release()
	require.Same(t, a.Adaptive, reloaded.Adaptive)
	require.InDelta(t, 1, a.Rate(), 0)

	reloaded.Release()
	other.Release()
	require.Empty(t, budgets.accounts)
	fresh := budgets.Use("a", 1)
	defer fresh.Release()
	require.NotSame(t, a.Adaptive, fresh.Adaptive)
}

func TestTheBudgetHasTheLowestShareOfItsUsers(t *testing.T) {
	var budgets Budgets
	a, b := budgets.Use("a", 4), budgets.Use("a", 6)
	b.Limit(2)
	require.InDelta(t, 2, a.Rate(), 0)
	a.Limit(3)
	require.InDelta(t, 2, a.Rate(), 0)
	a.Limit(1)
	require.InDelta(t, 1, b.Rate(), 0)
	a.Limit(100)
	b.Limit(100)
	require.InDelta(t, 4, b.Rate(), 0, "a share is never more than the rate")
	b.Limit(0.001 / 10_000)
	require.InDelta(t, MinRate, a.Rate(), 0)
	b.Release()
	b.Limit(0.5)
	require.InDelta(t, 4, a.Rate(), 0, "who has left has no share")
}
