package dispatch

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// counter counts the attempts that began.
type counter struct {
	mu     sync.Mutex
	times  []time.Time
	answer func() Result
}

func (c *counter) attempt(context.Context, *inbox.Lease) Result {
	c.mu.Lock()
	c.times = append(c.times, time.Now())
	c.mu.Unlock()
	return c.answer()
}

// most returns the largest number of attempts that began within that time.
func (c *counter) most(within time.Duration) (most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, from := range c.times {
		n := 0
		for _, at := range c.times[i:] {
			if at.Sub(from) < within {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func (c *counter) made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

// paced runs a dispatcher with a rate, on an inbox that has so many events.
func paced(t *testing.T, rate float64, events int, answer func() Result, run func(c *counter, s *simulated, d *Dispatcher, set Settings)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, c := &simulated{change: make(chan struct{})}, &counter{answer: answer}
		s.put("backlog", events, false)
		set := Settings{Attempt: c.attempt, Rate: rate}
		d := New(s, set)
		d.Start()
		run(c, s, d, set)
		require.NoError(t, d.Stop(t.Context()))
	})
}

func TestRateBoundsAttempts(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.5, 1, 7, 100, 2500} {
		for name, answer := range map[string]func() Result{"quick": quick, "slow": after(time.Second, Result{Status: 204}), "failing": broken} {
			t.Run(fmt.Sprint(rate, " ", name), func(t *testing.T) {
				t.Parallel()
				paced(t, rate, 30_000, answer, func(c *counter, _ *simulated, _ *Dispatcher, _ Settings) {
					const time10 = 10 * time.Second
					pass(time10)
					burst := max(1, rate/100)
					assert.LessOrEqual(t, float64(c.most(time.Second)), rate+burst)
					want := rate * 10
					if name == "slow" {
						want = min(want, 10*32)
					}
					if name != "failing" {
						assert.InDelta(t, want, c.made(), max(2, want/10), "it is used")
					}
				})
			})
		}
	}
}

func TestRateHoldsForProbesToo(t *testing.T) {
	paced(t, 0.1, 1000, refusing, func(c *counter, _ *simulated, _ *Dispatcher, _ Settings) {
		pass(10 * time.Minute)
		assert.LessOrEqual(t, c.most(10*time.Second-time.Millisecond), 1)
	})
}

func TestUseChangesTheRate(t *testing.T) {
	paced(t, 0.01, 2000, quick, func(c *counter, _ *simulated, d *Dispatcher, set Settings) {
		pass(time.Second)
		require.Equal(t, 1, c.made())
		set.Rate = 10
		d.Use(set)
		pass(10 * time.Second)
		assert.InDelta(t, 100, c.made(), 3)
		before := c.made()
		d.Use(set)
		pass(10 * time.Millisecond)
		assert.LessOrEqual(t, c.made(), before+1, "the same rate gives no burst")
		set.Rate = 0
		d.Use(set)
		pass(10 * time.Second)
		assert.Equal(t, 2000, c.made())
	})
}

func TestTheNewestHaveAShareOfTheRate(t *testing.T) {
	paced(t, 20, 10_000, quick, func(_ *counter, s *simulated, _ *Dispatcher, _ Settings) {
		for range 120 {
			s.put("new", 4, true) // no more than their share
			pass(time.Second)
		}
		median, most, _, backlog := s.measured()
		assert.Less(t, median, time.Second)
		assert.Less(t, most, 5*time.Second)
		assert.GreaterOrEqual(t, backlog, 120*20*3/4-20)
	})
}

func TestTheBacklogHasItsShareOfTheRate(t *testing.T) {
	paced(t, 20, 10_000, quick, func(_ *counter, s *simulated, _ *Dispatcher, _ Settings) {
		for range 60 {
			s.put("new", 40, true) // twice the rate
			pass(time.Second)
		}
		_, _, _, backlog := s.measured()
		assert.GreaterOrEqual(t, backlog, 60*20*3/4-20)
	})
}
