package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// While a hold goes on, its reason and the end of its pause are those of the last
// attempt; only its beginning stays.
func TestAHoldTellsOfTheLastTry(t *testing.T) {
	s := newStage(t)
	s.fail()
	for _, c := range []struct {
		r      Result
		reason string
		pause  time.Duration
	}{
		{Result{Status: 500, Reason: "HTTP 500: migrating"}, "the last probe failed: HTTP 500: migrating", 2 * time.Second},
		{Result{Status: 503, RetryAfter: time.Minute}, "the upstream answered 503 with Retry-After 1m0s", time.Minute},
		{down, "the last probe failed: connection refused", 8 * time.Second},
	} {
		s.now = s.until
		assert.True(t, s.try("b", c.r).longer)
		assert.Equal(t, Holding{Since: epoch, Until: s.now.Add(c.pause), Reason: c.reason}, s.holding())
	}
}

func TestAHoldsReasonIsBounded(t *testing.T) {
	s := newStage(t)
	for range runLength {
		s.try("a", Result{Unreachable: true, Reason: strings.Repeat("x", 5000)})
	}
	assert.Len(t, s.reason, maxReason)
}
