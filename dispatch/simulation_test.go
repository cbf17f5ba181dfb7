package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// However many events there are that the destination never takes, the others are
// delivered soon.
func TestEventsThatNeverSucceedDoNotDelayOthers(t *testing.T) {
	for name, bad := range map[string]func() Result{"500": broken, "timeout": silent} {
		for _, n := range []int{12, 300, 10_000} {
			for _, rate := range []int{3, 100} {
				t.Run(fmt.Sprint(n, " ", name, " beside ", rate, " a second"), func(t *testing.T) {
					simulate(t, map[string]func() Result{"good": quick, "bad": bad}, func(s *simulated, _ *service, _ *Dispatcher) {
						s.put("bad", n, false)
						arrive(s, rate, 3*time.Minute, "good")
						soon(t, s)
					})
				})
			}
		}
	}
}

func TestHalfOfAllEventsFail(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func() Result
		rate int
	}{"500, 3 a second": {broken, 3}, "500, 100 a second": {broken, 100}, "timeout, 3 a second": {silent, 3}, "refused, 30 a second": {refusing, 30}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, map[string]func() Result{"good": quick, "bad": c.bad}, func(s *simulated, _ *service, _ *Dispatcher) {
				arrive(s, c.rate, 5*time.Minute, "good", "bad")
				soon(t, s)
			})
		})
	}
}

// When all attempts fail, few are made; when the destination is back, that is
// noticed soon, and after a ramp it gets all that it can take.
func TestAnOutageAndItsEnd(t *testing.T) {
	for name, bad := range map[string]func() Result{"refused": refusing, "500": broken, "timeout": silent} {
		t.Run(name, func(t *testing.T) {
			simulate(t, map[string]func() Result{"good": quick}, func(s *simulated, up *service, _ *Dispatcher) {
				arrive(s, 10, 30*time.Second, "good")
				up.set("good", bad)
				s.put("good", 1000, false)
				arrive(s, 10, 30*time.Second, "good")
				before := up.attempts()
				arrive(s, 10, 10*time.Minute, "good")
				made := up.attempts() - before
				t.Logf("%d attempts in the first half minute, %d in ten minutes after", before-300, made)
				assert.Less(t, made, 600)

				up.set("good", quick)
				waiting := s.freshLeft()
				began := time.Now()
				for s.freshLeft() == waiting {
					time.Sleep(100 * time.Millisecond)
				}
				first := time.Since(began)
				time.Sleep(10 * time.Second)
				t.Logf("noticed after %s, %d of %d left after 10 s more", first, s.freshLeft(), waiting)
				assert.Less(t, first, time.Minute)
				assert.Zero(t, s.freshLeft())
			})
		})
	}
}

// What is new does not wait behind a backlog, which gets the most of what the
// destination can take all the same.
func TestABacklogSharesWithWhatIsNew(t *testing.T) {
	const perSecond = 300
	steady := after(32*time.Second/perSecond, Result{Status: 204})
	for _, pending := range []int{6000, 100_000} {
		t.Run(fmt.Sprint(pending), func(t *testing.T) {
			simulate(t, map[string]func() Result{"old": steady, "good": steady}, func(s *simulated, _ *service, _ *Dispatcher) {
				s.put("old", pending, false)
				arrive(s, 20, 15*time.Second, "good")
				median, most, delivered, backlog := s.measured()
				t.Logf("median %s, most %s, %d delivered, and %d of the backlog", median, most, delivered, backlog)
				assert.Less(t, median, time.Second)
				assert.GreaterOrEqual(t, float64(backlog), 0.75*perSecond*14)
			})
		})
	}
}

// One event's Retry-After is no reason to wait for others.
func TestOneEventsRetryAfterIsItsOwn(t *testing.T) {
	asks := after(time.Millisecond, Result{Status: 503, RetryAfter: time.Hour})
	simulate(t, map[string]func() Result{"good": quick, "asks": asks}, func(s *simulated, _ *service, d *Dispatcher) {
		s.put("asks", 1, false) // the first of all
		arrive(s, 3, 3*time.Minute, "good")
		soon(t, s)

		s.put("asks", 1, false)
		time.Sleep(time.Second)
		assert.Empty(t, d.Holds(), "others were taken a moment ago")
		s.put("asks", 1, false)
		time.Sleep(time.Second)
		assert.Len(t, d.Holds(), 1, "and another one met it since")
	})
}

// A forward may lead to two upstreams, by type. When one of them is down, be it
// silent for as long as an attempt may take, the other's events do not wait.
func TestOneOfTwoUpstreamsIsDown(t *testing.T) {
	for name, bad := range map[string]func() Result{
		"refused": refusing, "silent for 5s": mute(5 * time.Second), "silent for 30s": mute(30 * time.Second),
	} {
		for _, rate := range []int{1, 3, 10} {
			t.Run(fmt.Sprint(name, ", ", rate, " a second"), func(t *testing.T) {
				simulate(t, map[string]func() Result{"good": quick, "bad": bad}, func(s *simulated, up *service, _ *Dispatcher) {
					s.types = map[string]string{"good": "avatar", "bad": "video"}
					arrive(s, rate, 5*time.Minute, "good", "bad")
					soon(t, s)

					up.set("bad", quick)
					time.Sleep(2 * time.Hour) // the longest retry is an hour
					assert.Zero(t, s.pending(), "what had to wait is delivered once the upstream is back")
				})
			})
		}
	}
}
