package command

import (
	"fmt"
	"maps"
	"math"
	"math/bits"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// summary is the result of all callbacks.
type summary struct {
	statuses map[int]int64 // answers by HTTP status; 0: no answer
	accepted int64
	repeats  int64     // of the accepted ones, what the gateway had already
	foreign  int64     // answers that are not a gateway's
	times    histogram // of answers
	elapsed  time.Duration
}

func newSummary() summary { return summary{statuses: make(map[int]int64)} }

// add counts a reply and returns its number.
func (s *summary) add(r *reply) int64 {
	s.statuses[r.HTTPStatus]++
	if r.Accepted {
		s.accepted++
		if r.Answer.Duplicate {
			s.repeats++
		}
	}
	if r.foreign {
		s.foreign++
	}
	if r.HTTPStatus != 0 {
		s.times.add(r.took)
	}
	return s.sent()
}

func (s *summary) sent() int64 {
	sum := int64(0)
	for _, n := range s.statuses {
		sum += n
	}
	return sum
}

// code returns the exit code.
func (s *summary) code() int {
	switch {
	case s.statuses[0] > 0:
		return exitFailed
	case s.accepted < s.sent():
		return exitNo
	}
	return exitDone
}

func (s *summary) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.sent()) / s.elapsed.Seconds()
}

// quantiles are the quantiles in the summary, with their names.
var quantiles = []struct {
	name string
	q    float64
}{{"min", 0}, {"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}}

func (s *summary) text(p printer, alone bool) string {
	f := &fields{printer: p}
	elapsed := span(s.elapsed)
	if s.elapsed < time.Minute {
		elapsed = latency(s.elapsed)
	}
	f.add("Sent", fmt.Sprintf("%s in %s (%.1f/s)", plural(s.sent(), "callback"), elapsed, s.rate()))
	f.add("Accepted", p.paint(count(s.accepted), acceptedColor(s.accepted == s.sent())))
	if s.repeats > 0 {
		f.add("Duplicates", count(s.repeats))
	}
	for _, status := range slices.Sorted(maps.Keys(s.statuses)) {
		name := "HTTP " + strconv.Itoa(status)
		if status == 0 {
			name = "No answer"
		}
		f.add(name, p.paint(count(s.statuses[status]), acceptedColor(status == http.StatusOK && s.foreign == 0)))
	}
	if s.times.count > 0 {
		times := make([]string, 0, len(quantiles))
		for _, q := range quantiles {
			times = append(times, q.name+" "+latency(s.times.quantile(q.q)))
		}
		f.add("Latency", strings.Join(times, "  "))
	}
	if alone {
		return f.String()
	}
	return "\n" + f.String()
}

// document returns the last line of --json.
func (s *summary) document() any {
	statuses := make(map[string]int64, len(s.statuses))
	for status, n := range s.statuses {
		statuses[strconv.Itoa(status)] = n
	}
	times := make(map[string]float64, len(quantiles))
	if s.times.count > 0 {
		for _, q := range quantiles {
			times[q.name] = float64(s.times.quantile(q.q).Microseconds()) / 1000
		}
	}
	return map[string]any{"summary": map[string]any{
		"sent":       s.sent(),
		"accepted":   s.accepted,
		"duplicates": s.repeats,
		"statuses":   statuses,
		"durationMs": float64(s.elapsed.Microseconds()) / 1000,
		"rate":       s.rate(),
		"latencyMs":  times,
	}}
}

// histogram counts durations in buckets whose width is less than 1 % of their value, so
// that any number of them takes the same memory.
type histogram struct {
	buckets  [(64 - stepBits) << stepBits]uint64
	count    uint64
	min, max time.Duration
}

// stepBits sets the width of the buckets: each power of two has 2^stepBits of them.
const stepBits = 7

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	if h.count == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.count++
	h.buckets[bucketOf(uint64(d))]++
}

func bucketOf(n uint64) int {
	shift := max(bits.Len64(n)-stepBits-1, 0)
	return shift<<stepBits + int(n>>shift)
}

// quantile returns the duration that the fraction q of all durations does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	if q == 0 {
		return h.min
	}
	rank := uint64(math.Ceil(q * float64(h.count)))
	seen := uint64(0)
	for i, n := range h.buckets {
		if seen += n; n > 0 && seen >= rank {
			return min(highest(i), h.max)
		}
	}
	return h.max
}

// highest returns the longest duration of a bucket.
func highest(bucket int) time.Duration {
	shift := max(bucket>>stepBits-1, 0)
	base := uint64(bucket - shift<<stepBits)
	return time.Duration((base+1)<<shift - 1)
}
