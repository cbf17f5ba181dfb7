package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const poisonLasts = 30 * time.Second

// poisonScenes are those of events that the upstream never takes, beside others.
func poisonScenes(t *testing.T) (scenes []scene) {
	t.Helper()
	for _, c := range []struct {
		bad       int
		perSecond int
		fail      string
	}{{12, 3, "500"}, {300, 3, "500"}, {10_000, 20, "500"}, {12, 3, "timeout"}, {300, 3, "timeout"}} {
		up, options := newUpstream(t, nil), ""
		fail := status(http.StatusInternalServerError)
		if c.fail == "timeout" {
			fail, options = neverAnswers(t), "timeout 1s\n"
		}
		up.Answer(byType(map[string]func(http.ResponseWriter, delivery){"bad": fail}))
		scenes = append(scenes, scene{
			name:    fmt.Sprintf("%d-always-%s", c.bad, c.fail),
			options: options + "forward " + up.URL,
			play: func(s *stage) {
				began := time.Now()
				s.pile(c.bad, "bad")
				good := s.steadily(c.perSecond, poisonLasts, "good")
				s.requireSoon(good, up)
				requireOnSchedule(s.t, up.Deliveries(), time.Since(began))
			},
		})
	}
	up := newUpstream(t, byType(map[string]func(http.ResponseWriter, delivery){"bad": status(http.StatusInternalServerError)}))
	return append(scenes, scene{
		name:    "half-of-all-500",
		options: "forward " + up.URL,
		play: func(s *stage) {
			began := time.Now()
			good := s.steadily(20, poisonLasts, "good", "bad")
			s.requireSoon(good, up)
			requireOnSchedule(s.t, up.Deliveries(), time.Since(began))
		},
	})
}

// The default schedule waits 0 to 5 s after the first attempt, 0 to 10 s after the
// second, and so on, and never less than a tenth of a second. An event has 4.8
// attempts on average within 45 s, and more than ten once in 10^9 times.
const (
	shortestGap     = 20 * time.Millisecond // the upstream may have been slow to see the first
	averageAttempts = 5.5
	mostAttempts    = 10
	scheduleHolds   = 45 * time.Second
)

// requireOnSchedule holds the attempts at events that are never taken against the
// retry schedule.
func requireOnSchedule(t *testing.T, deliveries []delivery, lasted time.Duration) {
	t.Helper()
	attempts := make(map[string][]delivery)
	total := 0
	for _, d := range deliveries {
		if d.Event.Type == "bad" {
			attempts[d.Event.ID] = append(attempts[d.Event.ID], d)
			total++
		}
	}
	require.NotEmpty(t, attempts)
	hasty, unspent, most := 0, 0, 0
	for _, own := range attempts {
		most = max(most, len(own))
		for i, d := range own {
			if i == 0 {
				continue
			}
			if d.Header.Get("Fotor-Webhook-Attempt") == own[i-1].Header.Get("Fotor-Webhook-Attempt") {
				unspent++
			}
			if d.At.Sub(own[i-1].At) < shortestGap {
				hasty++
			}
		}
	}
	average := float64(total) / float64(len(attempts))
	t.Logf("%d events that fail: %.2f attempts on average, %d at most, %d that did not count, in %s",
		len(attempts), average, most, unspent, lasted.Round(time.Second))
	assert.Zero(t, hasty, "attempts right after another")
	if lasted > scheduleHolds {
		t.Logf("the machine is too slow for a bound on attempts")
		return
	}
	assert.LessOrEqual(t, most, mostAttempts, "attempts at one event")
	if len(attempts) >= 100 {
		assert.Less(t, average, averageAttempts, "attempts at each event on average")
	}
}

// routeScenes are those in which only a part of the events meets trouble that is
// the upstream's, not theirs.
func routeScenes(t *testing.T) []scene {
	t.Helper()
	up := newUpstream(t, nil)
	asking := newUpstream(t, byType(map[string]func(http.ResponseWriter, delivery){"asks": askToWait("3600")}))
	return []scene{
		{
			name: "one-of-two-refuses",
			options: fmt.Sprintf("forward {\n@bad header Fotor-Task-Type bad\nreverse_proxy @bad %s\nreverse_proxy %s\n}",
				steadyAddress(t), up.URL),
			play: func(s *stage) { s.requireSoon(s.steadily(3, 45*time.Second, "good", "bad"), up) },
		},
		{
			name:    "one-asks-for-an-hour",
			options: "forward " + asking.URL,
			play: func(s *stage) {
				s.post("asks")
				asking.Await(s.t, 1)
				s.requireSoon(s.steadily(3, 30*time.Second, "good"), asking)
			},
		},
	}
}
