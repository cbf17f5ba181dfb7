package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outageScenes are those of an upstream that takes nothing for a while.
func outageScenes(t *testing.T) (scenes []scene) {
	t.Helper()
	failing := newUpstream(t, status(http.StatusInternalServerError))
	closed := newStoppedUpstream(nil)
	require.NoError(t, closed.Listener.Close())
	address := steadyAddress(t)
	return []scene{
		{
			name:    "outage-500",
			options: "forward " + failing.URL,
			play: func(s *stage) {
				s.outage(failing, func(answer func(http.ResponseWriter, delivery)) { failing.Answer(answer) })
			},
		},
		{
			name:    "outage-refused",
			options: "forward http://" + address,
			play: func(s *stage) {
				s.outage(closed, func(answer func(http.ResponseWriter, delivery)) {
					closed.Answer(answer)
					closed.restart(s.t, address)
				})
			},
		},
	}
}

const (
	calming     = 30 * time.Second // after which few attempts are made
	window      = 30 * time.Second // in which they are counted
	outageLasts = calming + window + 5*time.Second
	backlog     = 400
)

// outage goes through an outage that is under way and ended by recovery.
func (s *stage) outage(up *upstream, recovery func(answer func(http.ResponseWriter, delivery))) {
	s.pile(backlog, "good")
	counted := s.countAttempts(outageLasts)
	tried := counted.between(0, outageLasts)
	s.t.Logf("%d attempts in the first %s, %d in the last %s", counted.between(0, calming), calming,
		counted.between(outageLasts-window, outageLasts), window)
	for from := calming; from+window <= outageLasts; from += time.Second {
		n := counted.between(from, from+window)
		assert.LessOrEqual(s.t, float64(n), window.Seconds(), "attempts in the %s after %s", window, from)
	}

	r := new(ramp)
	before, back := len(up.Deliveries()), time.Now()
	recovery(r.answer)
	noticed := func() bool { return len(up.Deliveries()) > before }
	require.Eventually(s.t, noticed, time.Minute, 10*time.Millisecond, "the recovery is noticed")
	found := time.Now()
	untried := backlog + counted.posted - tried // the others wait for their own retries
	fast := func() bool { return int(r.taken.Load()) >= untried }
	assert.Eventually(s.t, fast, worstDelay, 10*time.Millisecond, "full speed")
	s.t.Logf("noticed after %s, %d of %d taken %s later, %d at once at most", found.Sub(back).Round(time.Millisecond),
		r.taken.Load(), backlog+counted.posted, time.Since(found).Round(time.Millisecond), r.most.Load())
	assert.Zero(s.t, r.steep.Load(), "attempts that were more at once than a ramp allows")
}

// tally is how many attempts were made, by the time.
type tally struct {
	at       []time.Duration
	attempts []int
	posted   int
}

// countAttempts counts the attempts of so long, while a few events arrive. Refused
// ones are seen by no upstream, so it is the gateway that counts.
func (s *stage) countAttempts(lasts time.Duration) (c tally) {
	metric := fmt.Sprintf(metricPrefix+"attempt_duration_seconds_count{destination=\"default\",handler=%q}", s.name)
	for began := time.Now(); ; {
		c.at = append(c.at, time.Since(began))
		c.attempts = append(c.attempts, int(s.Metric(metric)))
		if time.Since(began) > lasts {
			return c
		}
		time.Sleep(500 * time.Millisecond)
		s.post("good")
		c.posted++
	}
}

// between returns how many attempts were made from one time to another.
func (c *tally) between(from, to time.Duration) int {
	first, _ := slices.BinarySearch(c.at, from)
	last, exact := slices.BinarySearch(c.at, to)
	if !exact {
		last--
	}
	return c.attempts[last] - c.attempts[first]
}

// rampBegins is how many attempts at once are made after a hold: an eighth of the
// usual ones.
const rampBegins = 4

// ramp takes every event after a while, and counts those that come although so many
// are under way that fewer were taken before.
type ramp struct{ atOnce, most, taken, steep atomic.Int64 }

func (r *ramp) answer(w http.ResponseWriter, _ delivery) {
	atOnce, taken := r.atOnce.Add(1), r.taken.Load()
	defer r.atOnce.Add(-1)
	if atOnce > taken+rampBegins+1 {
		r.steep.Add(1)
	}
	for most := r.most.Load(); atOnce > most && !r.most.CompareAndSwap(most, atOnce); most = r.most.Load() {
	}
	time.Sleep(50 * time.Millisecond)
	r.taken.Add(1)
	w.WriteHeader(http.StatusNoContent)
}

// backlogScenes are those of the time after an outage in which so many events came.
func backlogScenes(t *testing.T, pending int) []scene {
	t.Helper()
	const perSecond, workers = 300, 32
	const attempt = time.Second * workers / perSecond
	up := newStoppedUpstream(func(w http.ResponseWriter, _ delivery) {
		time.Sleep(attempt)
		w.WriteHeader(http.StatusNoContent)
	})
	require.NoError(t, up.Listener.Close())
	address := steadyAddress(t)
	return []scene{{
		name:    "after-an-outage",
		options: "forward http://" + address,
		play: func(s *stage) {
			s.pile(pending, "old")
			up.restart(s.t, address)
			up.Await(s.t, pending/20) // the ramp
			before := backlogRate(up, 2*time.Second)
			from, shared := len(up.Deliveries()), time.Now()
			fresh := s.steadily(10, 10*time.Second, "good")
			all, lasted := up.Deliveries()[from:], time.Since(shared)
			after := backlogRate(up, 2*time.Second)

			old := 0
			for _, d := range all {
				if d.Event.Type == "old" {
					old++
				}
			}
			beside := float64(old) / lasted.Seconds()
			s.t.Logf("%.0f of the backlog a second alone, %.0f beside others, %.0f alone again", before, beside, after)
			assert.GreaterOrEqual(s.t, float64(old), 0.75*float64(len(all)), "the backlog's part of what the upstream got")
			// The simulation has the exact bound: here, other work may slow the machine down meanwhile.
			assert.GreaterOrEqual(s.t, beside, 0.25*min(before, after), "what the upstream got of the backlog a second")
			s.requireSoon(fresh, up)
		},
	}}
}

// backlogRate returns how many attempts a second the upstream sees from now on.
func backlogRate(up *upstream, lasts time.Duration) float64 {
	began, before := time.Now(), len(up.Deliveries())
	time.Sleep(lasts)
	return float64(len(up.Deliveries())-before) / time.Since(began).Seconds()
}
