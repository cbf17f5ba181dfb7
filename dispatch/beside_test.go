package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// mayTry reports whether an attempt at an event that was never tried is permitted, and
// begins it.
func (s *stage) mayTry() (ticket, bool) { return s.enter(true, s.now) }

// besides begins a probe, and one beside it after the time for which that has to wait.
func (s *stage) besides() (first, second ticket) {
	s.t.Helper()
	first = s.mustEnter()
	s.pass(longestNew)
	second, may := s.mayTry()
	require.True(s.t, may)
	require.True(s.t, second.probe)
	return first, second
}

func TestBesideAProbeThatLastsLongMayBeAnother(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(firstPause)
	s.mustEnter()
	s.pass(longestNew - 1)
	_, may := s.mayTry()
	assert.False(t, may, "not so soon")
	s.pass(1)
	s.refused() // what was tried waits
	_, may = s.mayTry()
	assert.True(t, may)
	s.pass(time.Hour)
	_, may = s.mayTry()
	assert.False(t, may, "no more than two")
}

func TestTheProbeBesideIsBelieved(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(firstPause)
	first, second := s.besides()
	assert.True(t, s.meets(second, "b", ok).ended)
	assert.False(t, s.held)
	assert.Equal(t, effect{release: true}, s.meets(first, "a", down), "the older one says nothing after that")
	assert.False(t, s.held)
	assert.Zero(t, s.probes)
}

func TestTheOlderOfTwoProbesEndsTheHoldToo(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(firstPause)
	first, second := s.besides()
	assert.True(t, s.meets(first, "a", ok).ended)
	assert.Equal(t, effect{release: true}, s.meets(second, "b", down))
	assert.False(t, s.held)
}

// Two probes that fail at about the same time are one finding.
func TestTwoProbesAreOneFinding(t *testing.T) {
	for name, olderFirst := range map[string]bool{"the older ends first": true, "the younger ends first": false} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.fail()
			s.pass(firstPause)
			first, second := s.besides()
			s.pass(time.Millisecond)
			if !olderFirst {
				first, second = second, first
			}
			e := s.meets(first, "a", down)
			assert.True(t, e.longer)
			until := s.now.Add(2 * firstPause)
			assert.Equal(t, until, s.until)
			reason := s.reason
			s.pass(time.Millisecond)
			assert.Equal(t, effect{release: true, due: until}, s.meets(second, "b", sick))
			assert.Equal(t, until, s.until, "the second one is about an earlier time")
			assert.Equal(t, reason, s.reason)
			s.refused()
			s.pass(2 * firstPause)
			assert.True(t, s.try("c", down).longer)
			assert.Equal(t, s.now.Add(4*firstPause), s.until)
		})
	}
}

func TestAnAnswerFromBeforeTheDestinationAskedToWait(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(firstPause)
	first, second := s.besides()
	s.meets(second, "b", Result{Status: 503, RetryAfter: time.Minute})
	s.pass(time.Millisecond)
	assert.Equal(t, effect{}, s.meets(first, "a", ok))
	assert.True(t, s.held)
	assert.Empty(t, s.distrusted)
}

// While one probe hangs, those beside it follow each other as all probes of events that
// were never tried do.
func TestProbesBesideOneThatHangsKeepTheirPauses(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(firstPause)
	_, second := s.besides()
	for range 10 {
		s.meets(second, "b", down)
		s.pass(min(s.until.Sub(s.now)/4, longestNew) - 1)
		_, may := s.mayTry()
		assert.False(t, may)
		s.pass(longestNew) // the one before began no sooner than that
		second, may = s.mayTry()
		assert.True(t, may)
		_, may = s.mayTry()
		assert.False(t, may)
	}
}

func TestAProbeOfBeforeAReloadCountsBeside(t *testing.T) {
	s := newStage(t)
	s.fail()
	s.pass(firstPause)
	first := s.mustEnter()
	s.renew(time.Hour, s.now)
	second := s.mustEnter()
	s.pass(time.Hour)
	_, may := s.mayTry()
	assert.False(t, may, "two are under way")
	s.meets(first, "a", down)
	third, may := s.mayTry()
	require.True(t, may)
	s.renew(time.Hour, s.now)
	s.refused()
	s.meets(second, "a", down)
	assert.True(t, s.meets(s.mustEnter(), "a", ok).ended)
	s.meets(third, "a", down)
	assert.False(t, s.held)
	assert.Zero(t, s.probes)
}

// Whatever happens, no more than two probes are under way, and a second one of the same
// era only beside one that has lasted.
func TestProbesAreBounded(t *testing.T) {
	results := []Result{ok, down, sick, {Status: 404}, {Cancelled: true}, {Status: 503, RetryAfter: time.Minute}}
	rapid.Check(t, func(t *rapid.T) {
		h := hold{max: time.Hour, random: func() float64 { return 0.5 }}
		now := epoch
		var out []ticket
		current := func() (n int) {
			for _, o := range out {
				if o.probe && o.era == h.era {
					n++
				}
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				before, probed := current(), h.probed
				untried := rapid.Bool().Draw(t, "untried")
				tk, granted := h.enter(untried, now)
				if !granted {
					return
				}
				if out = append(out, tk); tk.probe && before == 1 && (!untried || now.Sub(probed) < longestNew) {
					t.Fatal("beside another one too soon, or one that was tried")
				}
			},
			"leave": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("nobody is under way")
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				r := rapid.SampledFrom(results).Draw(t, "result")
				until, newest := h.until, out[i].probe && !out[i].began.Before(h.judged)
				held := h.held && out[i].era == h.era
				h.leave(out[i], "task", &r, now)
				out = append(out[:i], out[i+1:]...)
				if held && h.held && !newest && r.RetryAfter == 0 && h.until != until {
					t.Fatal("an older attempt has changed the pause")
				}
			},
			"pass": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "time")))
			},
			"renew": func(*rapid.T) { h.renew(time.Hour, now) },
			"": func(t *rapid.T) {
				if n := current(); n > 2 || h.probing != (n > 0) || h.beside != (n > 1) || h.probes > maxProbes {
					t.Fatalf("%d probes of this era; the hold has %t, %t, %d", n, h.probing, h.beside, h.probes)
				}
			},
		})
	})
}

// However long an attempt may take, what is new is tried soon.
func TestNewEventsDoNotWaitForAProbeThatHangs(t *testing.T) {
	hangs := mute(time.Hour)
	simulate(t, map[string]func() Result{"bad": refusing, "good": quick}, func(s *simulated, up *service, d *Dispatcher) {
		s.put("bad", 10, false)
		time.Sleep(time.Minute)
		require.Len(t, d.Holds(), 1)
		up.set("bad", hangs)
		d.Resume()
		synctest.Wait()
		require.Equal(t, 1, d.UnderWay(), "the probe")
		s.put("good", 1, true)
		time.Sleep(longestNew + 10*time.Millisecond)
		_, _, delivered, _ := s.measured()
		assert.Equal(t, 1, delivered)
		assert.Empty(t, d.Holds())
	})
}

// Waiting for a new event does not keep those that were tried from their turn.
func TestWhatWasTriedIsProbedAfterAProbeThatHung(t *testing.T) {
	simulate(t, map[string]func() Result{"bad": refusing}, func(s *simulated, up *service, d *Dispatcher) {
		s.put("bad", 10, false)
		time.Sleep(time.Minute)
		require.Len(t, d.Holds(), 1)
		up.set("bad", mute(time.Minute))
		d.Resume()
		time.Sleep(time.Minute)
		before := up.attempts()
		up.set("bad", quick)
		time.Sleep(firstPause << 2)
		assert.Greater(t, up.attempts(), before)
		assert.Empty(t, d.Holds())
	})
}

func TestWithoutAFreeWorkerThereIsNoProbeBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simulated{change: make(chan struct{})}
		up := &service{kinds: map[string]func() Result{"bad": refusing, "good": quick}}
		d := New(s, Settings{Attempt: up.attempt, Concurrency: 1})
		d.Start()
		s.put("bad", 10, false)
		time.Sleep(time.Minute)
		up.set("bad", mute(time.Hour))
		d.Resume()
		synctest.Wait()
		s.put("good", 1, true)
		time.Sleep(time.Minute)
		assert.Equal(t, 1, s.freshLeft(), "it stays in the inbox")
		require.NoError(t, d.Stop(t.Context()))
	})
}
