package dispatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// stage drives a hold with a clock that the test sets. Pauses have no jitter: they
// last 1, 2, 4 … seconds.
type stage struct {
	t *testing.T
	hold
	now time.Time
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return &stage{t: t, hold: hold{max: time.Hour, random: func() float64 { return 1 }}, now: epoch}
}

func (s *stage) pass(d time.Duration) { s.now = s.now.Add(d) }

// mustEnter begins an attempt, which must be permitted.
func (s *stage) mustEnter() ticket {
	s.t.Helper()
	t, ok := s.enter(false, s.now)
	require.True(s.t, ok, "no permission to attempt")
	return t
}

// refused checks that no attempt is permitted.
func (s *stage) refused() {
	s.t.Helper()
	_, ok := s.enter(false, s.now)
	require.False(s.t, ok, "permission to attempt while it should be held")
}

// meets ends an attempt at an event of that task.
func (s *stage) meets(t ticket, task string, r Result) effect {
	s.t.Helper()
	return s.leave(t, task, &r, s.now)
}

// try makes an attempt that takes no time.
func (s *stage) try(task string, r Result) effect {
	s.t.Helper()
	return s.meets(s.mustEnter(), task, r)
}

// fail makes attempts fail until the hold begins.
func (s *stage) fail() {
	s.t.Helper()
	for i := range runLength {
		require.Equal(s.t, i == runLength-1, s.try("a", down).began)
	}
	require.True(s.t, s.held)
}
