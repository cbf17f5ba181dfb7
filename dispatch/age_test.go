package dispatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// at is so many minutes after the epoch of the tables.
func at(minutes int) time.Time { return epoch.Add(time.Duration(minutes) * time.Minute) }

// Whatever is remembered in whatever order, past stays in order, apart and
// bounded, and an age leaves out exactly the moments that are in a span.
func TestAgeIsWhatNoSpanCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const last = 200
		minute := rapid.IntRange(0, last)
		h := hold{healthy: true}
		var covered [last]bool
		cover := func(from, to int) {
			for m := from; m < to; m++ {
				covered[m] = true
			}
		}
		for range rapid.IntRange(0, 30).Draw(t, "spans") {
			from, to := minute.Draw(t, "from"), minute.Draw(t, "to")
			h.remember(span{at(from), at(to)})
			cover(from, to)
		}
		if h.held = rapid.Bool().Draw(t, "held"); h.held {
			from := minute.Draw(t, "since")
			h.since = at(from)
			cover(from, last)
		}
		received := minute.Draw(t, "received")
		want := time.Duration(0)
		for m := received; m < last; m++ {
			if !covered[m] {
				want += time.Minute
			}
		}
		if got := h.lived(at(received), at(last)); got != want {
			t.Fatalf("lived %s, expected %s; past: %v", got, want, h.past)
		}
		for i, s := range h.past {
			if !s.to.After(s.from) || (i > 0 && !s.from.After(h.past[i-1].to)) {
				t.Fatalf("not in order and apart: %v", h.past)
			}
		}
	})
}

func TestAnOldHoldGivenLateIsRememberedInBoundedMemory(t *testing.T) {
	s := newStage(t)
	for i := range maxPast {
		s.remember(span{at(10 * i), at(10*i + 1)})
	}
	s.remember(span{at(-1000), at(-999)})
	assert.Len(t, s.past, maxPast)
	assert.Equal(t, span{at(-1000), at(1)}, s.past[0], "the two oldest have grown together")
	s.remember(span{at(-2000), at(10*maxPast - 5)})
	assert.Equal(t, []span{{at(-2000), at(10*maxPast - 5)}}, s.past)
}
