package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forget leaves what was delivered so far out of what is measured.
func (s *simulated) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = nil
}

// A burst of events of a type that the destination never answers has all attempts once,
// for as long as they may take. When those are over, other types are tried again.
func TestABurstOfATypeThatIsNeverAnswered(t *testing.T) {
	for name, timeout := range map[string]time.Duration{
		"1s": time.Second, "5s": 5 * time.Second, "the default timeout": 30 * time.Second, "5m": 5 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, map[string]func() Result{"good": quick, "bad": mute(timeout)}, func(s *simulated, up *service, d *Dispatcher) {
				s.types = map[string]string{"good": "avatar", "bad": "video"}
				arrive(s, 1, 10*time.Second, "good")
				s.put("bad", 1500, false)
				time.Sleep(100 * time.Millisecond)
				beside := func(lasts time.Duration) {
					for began := time.Now(); time.Since(began) < lasts; {
						s.put("good", 1, true)
						for range 5 { // one of them is always newer
							s.put("bad", 1, false)
							time.Sleep(200 * time.Millisecond)
						}
					}
				}
				beside(timeout + time.Second)
				_, most, _, _ := s.measured()
				assert.Less(t, most, timeout)
				s.forget()
				beside(5 * time.Minute)
				soon(t, s)
				assert.Empty(t, d.Holds(), "one type is silent, not the destination")
			})
		})
	}
}

// What hangs is one type's own as long as another one was well when it began. When that
// was not tried again, or hangs too, it is the destination.
func TestAllTypesHang(t *testing.T) {
	for name, kinds := range map[string][]string{"only one comes": {"bad"}, "both come": {"good", "bad"}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, map[string]func() Result{"good": quick, "bad": mute(30 * time.Second)}, func(s *simulated, up *service, d *Dispatcher) {
				s.types = map[string]string{"good": "avatar", "bad": "video"}
				arrive(s, 1, 10*time.Second, "good")
				before := up.attempts()
				up.set("good", mute(30*time.Second))
				s.put("bad", 1500, false)
				arrive(s, 1, 61*time.Second, kinds...)
				require.Len(t, d.Holds(), 1, "after two timeouts at the latest")
				assert.LessOrEqual(t, up.attempts()-before, 32+32, "each worker has tried twice at most")
			})
		})
	}
}

// The event whose success ends a hold counts for its type, and those whose failure
// prolongs it count against theirs. So a type that stays silent does not take the few
// attempts that there are after a hold.
func TestAfterAHoldATypeThatIsStillSilentGetsAPart(t *testing.T) {
	simulate(t, map[string]func() Result{"good": refusing, "bad": refusing}, func(s *simulated, up *service, d *Dispatcher) {
		s.types = map[string]string{"good": "avatar", "bad": "video"}
		s.put("bad", 1500, false)
		time.Sleep(time.Minute)
		require.Len(t, d.Holds(), 1)
		up.set("bad", mute(time.Hour))
		up.set("good", quick)
		d.Resume()
		synctest.Wait() // one of the silent type is the probe
		s.put("good", 1, true)
		time.Sleep(longestNew + time.Second)
		assert.Empty(t, d.Holds())
		assert.Equal(t, 1, d.UnderWay(), "that probe, which hangs still, and no more of its type")
		arrive(s, 3, time.Minute, "good")
		soon(t, s)
	})
}
