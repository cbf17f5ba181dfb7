package reconcile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPausesDoubleUpToHalfAnHour(t *testing.T) {
	s := Schedule{Every: 2 * time.Minute}
	for asked, want := range map[int]time.Duration{
		1: 2 * time.Minute, 2: 4 * time.Minute, 4: 16 * time.Minute, 5: 30 * time.Minute, 6: 30 * time.Minute, 1 << 40: 30 * time.Minute,
	} {
		assert.Equal(t, want*3/4, s.pause(asked, 0), asked)
		assert.Equal(t, want, s.pause(asked, 0.5), asked)
		assert.LessOrEqual(t, s.pause(asked, 0.9999), want*5/4, asked)
	}
}

func TestTheLongestPause(t *testing.T) {
	for _, s := range []Schedule{{After: time.Second, Every: time.Second}, {Every: 2 * time.Hour}, {After: 48 * time.Hour, Every: time.Minute}} {
		longest := s.After
		for asked := 1; asked < 100; asked++ {
			longest = max(longest, s.pause(asked, 0.99999))
		}
		assert.InDelta(t, longest, s.Longest(), float64(time.Second))
	}
}

func TestALongerPauseThanHalfAnHourStays(t *testing.T) {
	s := Schedule{Every: time.Hour}
	assert.Equal(t, time.Hour, s.pause(1, 0.5))
	assert.Equal(t, time.Hour, s.pause(9, 0.5))
}
