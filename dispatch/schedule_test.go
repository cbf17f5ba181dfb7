package dispatch

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestKindOfAResult(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Result
		want kind
	}{
		{"200", Result{Status: 200}, taken},
		{"299", Result{Status: 299}, taken},
		{"a 200 that broke off", Result{Status: 200, Unreachable: true}, trouble},
		{"101", Result{Status: 101}, refused},
		{"302", Result{Status: 302}, refused},
		{"400", Result{Status: 400}, refused},
		{"410", Result{Status: 410}, gone},
		{"a 410 that broke off", Result{Status: 410, Unreachable: true}, trouble},
		{"429", Result{Status: 429}, trouble},
		{"499", Result{Status: 499}, refused},
		{"500", Result{Status: 500}, trouble},
		{"599", Result{Status: 599}, trouble},
		{"a status beyond HTTP", Result{Status: 700}, trouble},
		{"no answer", Result{}, trouble},
		{"cancelled", Result{Status: 200, Cancelled: true}, cancelled},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.r.kind()) })
	}
}

func TestAResultSaysWhyItFailed(t *testing.T) {
	for _, c := range []struct {
		r    Result
		want string
	}{
		{Result{Status: 500, Reason: "boom"}, "boom"},
		{Result{Status: 404}, "the upstream answered 404"},
		{Result{Status: 200, Unreachable: true}, "no usable answer from the upstream (status 200)"},
		{Result{Unreachable: true}, "no answer from the upstream"},
	} {
		assert.Equal(t, c.want, c.r.failure())
	}
}

func TestCancelledCountsOnlyIfTheDispatcherDidIt(t *testing.T) {
	for _, c := range []struct {
		name    string
		r       Result
		stopped bool
		want    kind
	}{
		{"claimed without cause", Result{Cancelled: true}, false, trouble},
		{"true", Result{Cancelled: true}, true, cancelled},
		{"a failure after the cancellation", Result{Status: 499}, true, cancelled},
		{"a delivery in spite of the cancellation", Result{Status: 204}, true, taken},
		{"gone in spite of the cancellation", Result{Status: 410}, true, gone},
		{"a 200 that broke off by the cancellation", Result{Status: 200, Unreachable: true}, true, cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.complete(c.stopped)
			assert.Equal(t, c.want, c.r.kind())
		})
	}
}

func TestACompleteResultHasABoundedReasonAndNoNegativeWait(t *testing.T) {
	long := string(make([]byte, inbox.MaxReason-1)) + "é"
	failed := Result{Status: 404, Reason: long, RetryAfter: -time.Second}
	failed.complete(false)
	assert.Len(t, failed.Reason, inbox.MaxReason-1, "half a rune is not kept")
	assert.Zero(t, failed.RetryAfter)

	taken := Result{Status: 200, Reason: "thanks"}
	taken.complete(false)
	assert.Empty(t, taken.Reason)
}

func genSettings(t *rapid.T) *Settings {
	d := func(name string) time.Duration {
		// Durations of every order of magnitude, up to the largest.
		return time.Duration(rapid.Int64Range(1, 1<<rapid.IntRange(1, 62).Draw(t, name+" bits")).Draw(t, name))
	}
	return Settings{First: d("first"), Max: d("max"), GiveUp: d("give up")}.withDefaults()
}

// ceiling is min(Max, First·2^(attempt-1)) without overflow.
func ceiling(s *Settings, attempt int) time.Duration {
	c := big.NewInt(int64(s.First))
	c.Lsh(c, uint(min(attempt-1, 200)))
	if c.Cmp(big.NewInt(int64(s.Max))) > 0 {
		return s.Max
	}
	return time.Duration(c.Int64())
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSettings(t)
		attempt := rapid.OneOf(rapid.IntRange(1, 70), rapid.IntRange(1, math.MaxInt)).Draw(t, "attempt")
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		top := ceiling(s, attempt)
		got := s.backoff(attempt, random)
		if got <= 0 || got > top {
			t.Fatalf("backoff %d, want more than 0 and at most %d", got, top)
		}
		if floor := min(shortestWait, top/10); got < floor {
			t.Fatalf("backoff %d, want at least %d", got, floor)
		}
	})
}

func TestBackoffIsSpreadOverTheWholeRange(t *testing.T) {
	s := Settings{First: 5 * time.Second, Max: time.Hour}.withDefaults()
	assert.Equal(t, 5*time.Second, s.backoff(1, 0))
	assert.Equal(t, 20*time.Second, s.backoff(3, 0))
	assert.Equal(t, 10*time.Second, s.backoff(3, 0.5))
	assert.Equal(t, time.Hour, s.backoff(100, 0))
	assert.Equal(t, shortestWait, s.backoff(100, math.Nextafter(1, 0)))
	assert.Equal(t, 5*time.Second, s.backoff(0, 0), "a number below 1 is taken as 1")
}

func TestTheLastAttemptIsNotPutOffBeyondGiveUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSettings(t)
		attempt := rapid.IntRange(1, 70).Draw(t, "attempt")
		lived := time.Duration(rapid.Int64Range(math.MinInt64, int64(s.GiveUp)-1).Draw(t, "lived"))
		got := s.retryIn(attempt, &Result{Status: 404}, lived, rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random"))
		if left := s.GiveUp - max(lived, 0); got > max(left, shortestWait) {
			t.Fatalf("next attempt in %s, but the event is dead in %s", got, left)
		}
		if got <= 0 || got > s.Max {
			t.Fatalf("next attempt in %d, want more than 0 and at most %d", got, s.Max)
		}
	})
}

func TestRetryAfterIsObeyedUpToMax(t *testing.T) {
	s := Settings{First: time.Second, Max: time.Minute, GiveUp: time.Hour}.withDefaults()
	wait := func(after time.Duration) time.Duration {
		return s.retryIn(9, &Result{Status: 404, RetryAfter: after}, 0, 0)
	}
	assert.Equal(t, 7*time.Second, wait(7*time.Second))
	assert.Equal(t, time.Minute, wait(time.Minute+1))
	assert.Equal(t, time.Minute, wait(math.MaxInt64))
	assert.Equal(t, shortestWait, wait(1), "no busy loop")
}

func TestTheTimeThatAttemptsTakeHasNoOverflow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSettings(t)
		attempts := rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(0, math.MaxInt)).Draw(t, "attempts")
		want := new(big.Int)
		for n := 1; n <= min(attempts, 70); n++ {
			want.Add(want, big.NewInt(int64(ceiling(s, n)/2)))
		}
		got := s.scheduled(attempts)
		if got < 0 || attempts <= 70 && want.IsInt64() && (int64(got) < want.Int64() || int64(got) > want.Int64()+70) {
			t.Fatalf("%d attempts take %d, want about %s", attempts, got, want)
		}
		if more := s.scheduled(max(attempts, attempts+1)); more < got {
			t.Fatalf("%d attempts take %d, one more takes %d", attempts, got, more)
		}
	})
}

func TestVerdicts(t *testing.T) {
	s := Settings{First: time.Second, Max: time.Minute, GiveUp: time.Hour}.withDefaults()
	for _, c := range []struct {
		name      string
		r         Result
		attempt   int
		lived     time.Duration
		mayGiveUp bool
		want      inbox.Verdict
		wait      time.Duration
	}{
		{"delivered", Result{Status: 201}, 9, 2 * time.Hour, true, inbox.Deliver, 0},
		{"gone at once", Result{Status: 410}, 1, 0, true, inbox.GiveUp, 0},
		{"gone though immortal", Result{Status: 410}, 1, 0, false, inbox.GiveUp, 0},
		{"young", Result{Status: 404}, 1, time.Minute, true, inbox.Retry, time.Second},
		{"young after many attempts", Result{Status: 404}, 1000, time.Minute, true, inbox.Retry, time.Minute},
		{"just before its end", Result{Status: 404}, 9, time.Hour - 300*time.Millisecond, true, inbox.Retry, 300 * time.Millisecond},
		{"at its end", Result{Status: 404}, 5, time.Hour, true, inbox.GiveUp, 0},
		{"beyond its end, but immortal", Result{Status: 500}, 5, 2 * time.Hour, false, inbox.Retry, 16 * time.Second},
		{"older than its end at the first attempt", Result{Status: 404}, 1, 57 * 8766 * time.Hour, true, inbox.Retry, time.Second},
		{"older than its end at the last but one", Result{Status: 404}, 4, 2 * time.Hour, true, inbox.Retry, 8 * time.Second},
		{"from the future, after few attempts", Result{Status: 404}, 100, -8766 * time.Hour, true, inbox.Retry, time.Minute},
		{"from the future, after as many as have time", Result{Status: 404}, 130, -8766 * time.Hour, true, inbox.GiveUp, 0},
		{"cancelled", Result{Cancelled: true}, 9, 2 * time.Hour, true, inbox.Release, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			verdict, wait := s.decide(c.attempt, &c.r, c.lived, c.mayGiveUp, 0)
			assert.Equal(t, c.want, verdict)
			assert.Equal(t, c.wait, wait)
		})
	}
}

func TestDefaults(t *testing.T) {
	s := Settings{}.withDefaults()
	assert.Equal(t, 32, s.Concurrency)
	assert.Equal(t, 30*time.Second, s.Timeout)
	assert.Equal(t, 5*time.Second, s.First)
	assert.Equal(t, time.Hour, s.Max)
	assert.Equal(t, 72*time.Hour, s.GiveUp)
	require.NotNil(t, s.Observer)
	assert.Equal(t, 2*time.Hour, Settings{First: 2 * time.Hour, Max: time.Hour}.withDefaults().Max)
}
