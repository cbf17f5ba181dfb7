package history

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	apples = iota
	pears
	fruits
)

// clock is a clock that a test sets.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

func start(t *testing.T) (*Recorder, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 11, 23, 12, 7, 30, 0, time.UTC)}
	return New(fruits, c.now), c
}

func TestStepsBeginAtFullMinutesQuartersAndHours(t *testing.T) {
	r, _ := start(t)
	for span, want := range map[Span]string{Hour: "2026-11-23T11:08:00Z", Day: "2026-11-22T12:15:00Z", Week: "2026-11-16T14:00:00Z"} {
		got := r.Over(span)
		assert.Equal(t, want, got.From.Format(time.RFC3339))
		assert.Len(t, got.Points, int(span.Length()/span.Step()))
		assert.Equal(t, []int64{0, 0}, got.Sum)
		assert.Equal(t, Times{}, got.Took)
	}
}

func TestWhatHappensIsCountedInEverySpan(t *testing.T) {
	r, c := start(t)
	assert.Zero(t, r.Last())
	r.Add(apples)
	r.Took(pears, 100*time.Millisecond)
	c.pass(20 * time.Minute)
	r.Took(pears, time.Second)
	assert.Equal(t, c.Time, r.Last())
	for span, first := range map[Span]int{Hour: 39, Day: 94, Week: 83} {
		got := r.Over(span)
		last := len(got.Points) - 1
		assert.Equal(t, []int64{1, 2}, got.Sum)
		if first == last {
			assert.Equal(t, []int64{1, 2}, got.Points[last].Counts)
			continue
		}
		assert.Equal(t, []int64{1, 1}, got.Points[first].Counts)
		assert.Equal(t, []int64{0, 1}, got.Points[last].Counts)
		assert.InEpsilon(t, 100*time.Millisecond, got.Points[first].Took.P99, 0.125)
		assert.InEpsilon(t, time.Second, got.Points[last].Took.P50, 0.125)
		assert.InEpsilon(t, 100*time.Millisecond, got.Took.P50, 0.125)
		assert.InEpsilon(t, time.Second, got.Took.P95, 0.125)
	}
}

func TestWhatIsOlderThanASpanLeavesIt(t *testing.T) {
	r, c := start(t)
	r.Took(apples, time.Second)
	for _, after := range []struct {
		pass time.Duration
		sum  [spans]int64
	}{
		{59 * time.Minute, [spans]int64{1, 1, 1}},
		{time.Minute, [spans]int64{0, 1, 1}},
		{23 * time.Hour, [spans]int64{0, 0, 1}},
		{6 * 24 * time.Hour, [spans]int64{0, 0, 0}},
	} {
		c.pass(after.pass)
		for span := range spans {
			got := r.Over(span)
			assert.Equal(t, after.sum[span], got.Sum[apples], "span %d after %s more", span, after.pass)
			assert.Equal(t, after.sum[span] == 0, got.Took == Times{})
		}
	}
}

func TestWhatHappenedEarlierIsCountedWhereItBelongs(t *testing.T) {
	r, c := start(t)
	r.Happened(apples, c.Add(-30*time.Minute), untimed)
	r.Happened(apples, c.Add(-2*time.Hour), time.Minute)
	r.Happened(apples, c.Add(-3*24*time.Hour), untimed)
	r.Happened(apples, c.Add(-30*24*time.Hour), untimed)
	r.Happened(apples, c.Add(time.Second), untimed)
	for span, want := range map[Span]int64{Hour: 1, Day: 2, Week: 3} {
		assert.Equal(t, want, r.Over(span).Sum[apples])
	}
	assert.Equal(t, int64(1), r.Over(Hour).Points[29].Counts[apples])
	assert.Zero(t, r.Over(Hour).Took)
	assert.InEpsilon(t, time.Minute, r.Over(Day).Took.P50, 0.125)
	assert.Equal(t, c.Add(-30*time.Minute), r.Last())
}

// Whatever the clock does, a chart shows times that have been, and nothing panics.
func TestTheClockMayJump(t *testing.T) {
	r, c := start(t)
	r.Add(apples)
	for _, to := range []time.Time{
		c.AddDate(10, 0, 0), c.Time, time.Unix(0, 0), time.Unix(-100*365*24*3600, 0), c.Add(5 * time.Hour),
	} {
		c.Time = to
		r.Add(pears)
		for span := range spans {
			got := r.Over(span)
			assert.Equal(t, int64(1), got.Points[len(got.Points)-1].Counts[pears], "at %s", to)
			assert.False(t, got.From.After(to))
		}
	}
}

// A sum over all steps is the number of what was counted, whatever the order of times.
func TestNothingIsCountedTwice(t *testing.T) {
	r, c := start(t)
	const n = 10_000
	var jobs sync.WaitGroup
	for range 4 {
		jobs.Go(func() {
			for range n / 4 {
				r.Happened(rand.N(fruits), c.Add(-rand.N(50*time.Minute)), rand.N(time.Hour))
			}
		})
	}
	jobs.Wait()
	for span := range spans {
		got := r.Over(span)
		assert.Equal(t, int64(n), got.Sum[apples]+got.Sum[pears])
		points := int64(0)
		for _, p := range got.Points {
			points += p.Counts[apples] + p.Counts[pears]
		}
		assert.Equal(t, int64(n), points)
	}
}

func TestTimesAreAtMostAnEighthOff(t *testing.T) {
	for _, scale := range []time.Duration{2 * time.Millisecond, time.Second, time.Hour, 200 * time.Hour} {
		var s, half spread
		all := make([]time.Duration, 1001)
		for i := range all {
			all[i] = scale/4 + rand.N(scale)
			if i%2 == 0 {
				half.add(all[i])
			} else {
				s.add(all[i])
			}
		}
		s.merge(&half)
		slices.Sort(all)
		got := s.times()
		for share, d := range map[float64]time.Duration{0.5: got.P50, 0.95: got.P95, 0.99: got.P99} {
			require.InEpsilon(t, all[int(share*1000)], d, 0.125, "%s, %v", scale, share)
		}
	}
	var extremes spread
	extremes.add(0)
	extremes.add(1 << 62)
	require.Equal(t, time.Microsecond, extremes.quantile(0.5).Truncate(time.Microsecond))
	require.Greater(t, extremes.quantile(1), 10*24*time.Hour)
}

func BenchmarkTook(b *testing.B) {
	r := New(8, time.Now)
	for b.Loop() {
		r.Took(1, 3*time.Millisecond)
	}
}
