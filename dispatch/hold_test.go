package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestRunsThatHoldAndRunsThatDoNot(t *testing.T) {
	busy := Result{Status: 429}
	for _, c := range []struct {
		name string
		run  string // task and result, one after the other; 2* is twice
		held bool
	}{
		{"four failures", "a:down b:down c:down d:down", false},
		{"five times unreachable by one task", "5*a:down", true},
		{"five 500 by one task", "5*a:sick", false},
		{"twelve 500 by two tasks", strings.Repeat("a:sick b:sick ", 6), false},
		{"five 500 by three tasks", "2*a:sick 2*b:sick c:sick", true},
		{"five 500 by one, then two others", "5*a:sick b:sick c:sick", true},
		{"one unreachable among 500s of one task", "2*a:sick a:down 2*a:sick", true},
		{"five 429 without Retry-After by three", "3*a:busy b:busy c:busy", true},
		{"broken by a success", "a:down b:down c:down d:down e:ok a:down", false},
		{"broken by a refusal", "a:down b:down c:down d:down e:bad a:down", false},
		{"broken by a 410", "a:down b:down c:down d:down e:gone a:down", false},
		{"not broken by a cancellation", "a:down b:down c:down d:down e:cancelled a:down", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			var steps []string
			for f := range strings.FieldsSeq(c.run) {
				times := 1
				if n, step, repeated := strings.Cut(f, "*"); repeated {
					times, f = int(n[0]-'0'), step
				}
				steps = append(steps, slices.Repeat([]string{f}, times)...)
			}
			for i, step := range steps {
				task, name, _ := strings.Cut(step, ":")
				r := map[string]Result{
					"ok": ok, "down": down, "sick": sick, "busy": busy,
					"bad": {Status: 404}, "gone": {Status: 410}, "cancelled": {Cancelled: true},
				}[name]
				e := s.try(task, r)
				assert.False(t, e.release, "what is counted is spent")
				assert.Equal(t, c.held && i == len(steps)-1, e.began, "step %d", i)
			}
			assert.Equal(t, c.held, s.held)
		})
	}
}

func TestWhileHeldOneProbeGoesAtATimeAndPausesGrow(t *testing.T) {
	s := newStage(t)
	s.fail()
	assert.Equal(t, "5 failures in a row, the last: connection refused", s.reason)
	want := firstPause
	for range 10 {
		assert.Equal(t, s.now.Add(want), s.until)
		s.refused()
		s.pass(want - 1)
		s.refused()
		s.pass(1)
		probe := s.mustEnter()
		s.refused()
		s.pass(time.Second)
		s.refused()
		e := s.meets(probe, "a", down)
		assert.True(t, e.release, "a probe is not spent")
		assert.False(t, e.began || e.ended)
		assert.True(t, e.due.After(s.until), "another event goes first")
		want = min(2*want, longestPause)
	}
	s.pass(longestPause)
	e := s.try("a", ok)
	assert.True(t, e.ended)
	assert.Equal(t, s.now.Sub(epoch), e.lasted)
	assert.False(t, s.held)
	s.mustEnter()
	s.mustEnter()
}

func TestPausesHaveEqualJitterAndObeyMax(t *testing.T) {
	s := newStage(t)
	s.random = func() float64 { return 0 }
	s.fail()
	assert.Equal(t, s.now.Add(firstPause/2), s.until)

	s = newStage(t)
	s.max = 100 * time.Millisecond
	s.fail()
	assert.Equal(t, s.now.Add(100*time.Millisecond), s.until)
}

func TestAnswersToAProbe(t *testing.T) {
	for _, c := range []struct {
		r     Result
		ends  bool
		pause time.Duration
	}{
		{Result{Status: 204}, true, 0},
		{Result{Status: 302}, true, 0},
		{Result{Status: 404}, true, 0},
		{Result{Status: 410}, true, 0},
		{Result{Status: 429}, false, 2 * time.Second},
		{Result{Status: 500}, false, 2 * time.Second},
		{Result{Status: 500, RetryAfter: time.Minute}, false, 2 * time.Second},
		{Result{Status: 503, RetryAfter: 90 * time.Second}, false, 90 * time.Second},
		{Result{Status: 429, RetryAfter: time.Millisecond}, false, time.Millisecond},
		{Result{Status: 429, RetryAfter: 99 * time.Hour}, false, time.Hour},
	} {
		t.Run(fmt.Sprint(c.r.Status, " ", c.r.RetryAfter), func(t *testing.T) {
			s := newStage(t)
			s.fail()
			s.pass(time.Second)
			e := s.try("b", c.r)
			assert.Equal(t, c.ends, e.ended)
			assert.Equal(t, c.ends, !s.held)
			assert.Equal(t, !c.ends, e.release)
			if !c.ends {
				assert.Equal(t, s.now.Add(c.pause), s.until)
				assert.False(t, e.due.Before(s.now.Add(min(c.r.RetryAfter, time.Hour))), "the event itself waits as asked")
			}
		})
	}
}

func TestRetryAfterHoldsAtOnce(t *testing.T) {
	for _, status := range []int{429, 503} {
		s := newStage(t)
		e := s.try("a", Result{Status: status, RetryAfter: 30 * time.Second})
		assert.True(t, e.began)
		assert.True(t, e.release)
		assert.True(t, e.due.After(s.until))
		assert.Equal(t, s.now.Add(30*time.Second), s.until)
		assert.Equal(t, fmt.Sprintf("the upstream answered %d with Retry-After 30s", status), s.reason)
	}
	s := newStage(t)
	s.try("a", Result{Status: 503, RetryAfter: 99 * time.Hour})
	assert.Equal(t, s.now.Add(time.Hour), s.until, "capped at max")

	s = newStage(t)
	assert.False(t, s.try("a", Result{Status: 500, RetryAfter: 30 * time.Second}).began, "only 429 and 503 hold")
}

func TestAttemptsUnderWayWhenTheHoldBegins(t *testing.T) {
	t.Run("trouble is not spent", func(t *testing.T) {
		s := newStage(t)
		old := s.mustEnter()
		s.fail()
		assert.Equal(t, effect{release: true, due: s.until}, s.meets(old, "b", down))
		assert.Equal(t, s.now.Add(firstPause), s.until, "nor does it lengthen the pause")
	})
	t.Run("a success ends a run's hold", func(t *testing.T) {
		s := newStage(t)
		old := s.mustEnter()
		s.fail()
		s.pass(time.Minute)
		assert.Equal(t, effect{ended: true, lasted: time.Minute}, s.meets(old, "b", ok))
		assert.False(t, s.held)
	})
	t.Run("a refusal does not", func(t *testing.T) {
		s := newStage(t)
		old := s.mustEnter()
		s.fail()
		assert.Equal(t, effect{}, s.meets(old, "b", Result{Status: 404}))
		assert.True(t, s.held)
	})
	t.Run("a success does not end what the destination asked for", func(t *testing.T) {
		s := newStage(t)
		old := s.mustEnter()
		s.try("a", Result{Status: 429, RetryAfter: time.Minute})
		assert.Equal(t, effect{}, s.meets(old, "b", ok))
		assert.True(t, s.held)
	})
	t.Run("a longer Retry-After lengthens the pause, a shorter one does not shorten it", func(t *testing.T) {
		s := newStage(t)
		long, short := s.mustEnter(), s.mustEnter()
		s.fail()
		assert.True(t, s.meets(long, "b", Result{Status: 503, RetryAfter: time.Minute}).release)
		assert.Equal(t, s.now.Add(time.Minute), s.until)
		s.meets(short, "c", Result{Status: 503, RetryAfter: time.Second})
		assert.Equal(t, s.now.Add(time.Minute), s.until)
	})
	t.Run("trouble after the end counts for nothing", func(t *testing.T) {
		s := newStage(t)
		var old []ticket
		for range 2 * runLength {
			old = append(old, s.mustEnter())
		}
		s.fail()
		s.pass(time.Second)
		s.try("b", ok)
		for _, o := range old {
			assert.Equal(t, effect{release: true}, s.meets(o, "b", down))
		}
		assert.False(t, s.held)
	})
}

func TestACancelledProbeChangesNothing(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(time.Second)
	until := s.until
	assert.Equal(t, effect{}, s.try("a", Result{Cancelled: true}))
	assert.Equal(t, until, s.until)
	s.mustEnter()
}

func TestATaskThatAsksAlone(t *testing.T) {
	busy := Result{Status: 429, RetryAfter: time.Minute}
	s := newStage(t)
	require.True(t, s.try("a", busy).began)
	s.pass(time.Minute)
	require.True(t, s.try("a", busy).release, "as a probe it is believed: nothing speaks against it")
	assert.Equal(t, s.now.Add(time.Minute), s.until)
	s.pass(time.Minute)
	require.True(t, s.try("b", ok).ended)

	assert.Equal(t, effect{}, s.try("a", busy), "others are served: it holds only itself, and is spent")
	assert.False(t, s.held)
	require.True(t, s.try("c", busy).began, "another is believed")
	s.pass(time.Minute)
	e := s.try("a", busy)
	assert.Equal(t, s.now.Add(2*time.Second), s.until, "as a probe it no longer says how long")
	assert.False(t, e.due.Before(s.now.Add(time.Minute)), "but waits that long itself")

	for i := range 3 * maxDistrusted {
		s.distrust(fmt.Sprint(i))
		s.distrust(fmt.Sprint(i))
	}
	assert.Len(t, s.distrusted, maxDistrusted)
}

func TestATaskThatAskedAndWasServedIsStillBelieved(t *testing.T) {
	busy := Result{Status: 429, RetryAfter: time.Minute}
	s := newStage(t)
	require.True(t, s.try("a", busy).began)
	s.pass(time.Minute)
	require.True(t, s.try("a", ok).ended)
	s.pass(quiet)
	assert.True(t, s.try("a", busy).began)
}

func TestNewSettingsAreTriedAtOnce(t *testing.T) {
	s := newStage(t)
	old := s.mustEnter()
	s.try("a", Result{Status: 429, RetryAfter: time.Hour})
	s.pass(time.Second)
	s.refused()
	s.renew(time.Minute, s.now)
	assert.True(t, s.held)
	probe := s.mustEnter()
	s.refused()

	assert.Equal(t, effect{}, s.meets(old, "b", ok), "the old destination does not speak for the new")
	assert.True(t, s.held)
	e := s.meets(probe, "a", down)
	assert.Equal(t, effect{longer: true, release: true, due: s.until.Add(500 * time.Millisecond)}, e)
	assert.Equal(t, s.now.Add(2*time.Second), s.until, "pauses begin anew")
}

func TestAProbeOfOldSettingsDoesNotDelayTheNewOne(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(time.Second)
	first := s.mustEnter()
	s.renew(time.Hour, s.now)
	second := s.mustEnter()
	s.renew(time.Hour, s.now)
	s.refused()
	assert.True(t, s.meets(first, "a", down).release, "not spent")
	third := s.mustEnter()
	assert.Equal(t, effect{}, s.meets(second, "a", ok), "the old destination does not speak for the new")
	assert.True(t, s.meets(third, "a", ok).ended)
	assert.Zero(t, s.probes)
}

func TestTroubleOfOldSettingsDoesNotHoldTheNew(t *testing.T) {
	s := newStage(t)
	var old []ticket
	for range 2 * runLength {
		old = append(old, s.mustEnter())
	}
	s.renew(time.Hour, s.now)
	for _, o := range old {
		assert.Equal(t, effect{release: true}, s.meets(o, "a", down))
	}
	late := s.mustEnter()
	s.renew(time.Hour, s.now)
	assert.Equal(t, effect{release: true, due: s.now.Add(time.Minute)}, s.meets(late, "a", Result{Status: 503, RetryAfter: time.Minute}))
	assert.False(t, s.held)
}

// What an event may wait at most can be next to nothing; the destination is spared all
// the same.
func TestPausesAreNotAsShortAsTheWaitsOfAnEvent(t *testing.T) {
	s := newStage(t)
	s.max, s.spared = time.Millisecond, spared
	s.fail()
	assert.Equal(t, s.now.Add(firstPause), s.until)
	for range 10 {
		s.now = s.until
		s.try("a", down)
		assert.Equal(t, s.now.Add(spared), s.until)
	}
	s.now = s.until
	s.try("a", Result{Status: 503, RetryAfter: time.Hour})
	assert.Equal(t, s.now.Add(spared), s.until, "what it asks for is longer than max, too")

	s.now = s.until
	require.True(t, s.try("a", ok).ended)
	s.hears(time.Hour)
	assert.Equal(t, s.now.Add(spared), s.until, "and what a peer has heard")

	s = newStage(t)
	s.max, s.spared = 5*time.Second, spared
	s.fail()
	for range 10 {
		s.now = s.until
		s.try("a", down)
	}
	assert.Equal(t, s.now.Add(5*time.Second), s.until, "max is a limit where it is longer")
}

func TestADestinationThatIsDownIsNotHammered(t *testing.T) {
	for name, answer := range map[string]Result{"down": down, "asks to wait": {Status: 503, RetryAfter: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, always(answer), func(s *Settings) { s.First, s.Max = time.Millisecond, time.Millisecond })
				r.box.putMany("e", 100)
				pass(time.Minute)
				before := r.up.attempts()
				pass(time.Minute)
				assert.LessOrEqual(t, r.up.attempts()-before, 60, "half of the pause is random")
				r.up.set(func() { r.up.answer = always(ok) })
				pass(spared + maxAside)
				assert.Equal(t, 100, r.box.count(inbox.Delivered))
			})
		})
	}
}
