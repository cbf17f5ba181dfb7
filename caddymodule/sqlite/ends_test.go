package sqlite

import (
	"database/sql/driver"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// knows reports whether an event that has ended then would be found.
func (r *retirement) knows(seq, at int64) bool {
	for _, s := range []span{r.block, r.unknown} {
		if s.after < seq && seq <= s.last {
			return true
		}
	}
	for _, b := range r.ends.blocks {
		if b.n == seq>>r.ends.shift() {
			return r.ends.first <= b.first && b.first <= at
		}
	}
	return false
}

// requireEndsKnown checks that the retirement would find each event that stays only for a
// while. Nothing else would remove it.
func requireEndsKnown(t require.TestingT, s *store) {
	var missed []int64
	require.NoError(t, inWriter(s, func(t *tx) error {
		return t.c.query(readAllEnds, func(row []driver.Value) error {
			if e := scanEnded(row); e.isDone() && !t.w.maintenance.retirement.knows(e.seq, e.settledAt) {
				missed = append(missed, e.seq)
			}
			return nil
		}, int64(0), int64(math.MaxInt64), int64(math.MaxInt64))
	}))
	require.Empty(t, missed)
}

// Whatever is added and taken in whatever order, no event is forgotten, and what is taken
// has one that may be too old.
func TestEndsMissNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e ends
		times := make(map[int64]int64)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				seq, at := rapid.Int64Range(1, 20<<blockShift).Draw(t, "seq"), rapid.Int64Range(0, 100).Draw(t, "at")
				times[seq] = at
				e.add(seq, at)
			},
			"take": func(t *rapid.T) {
				limit := rapid.Int64Range(0, 100).Draw(t, "limit")
				s := e.take(limit)
				if s.empty() {
					require.Greater(t, e.earliest(), limit)
					for seq, at := range times {
						require.Greater(t, at, limit, "event %d", seq)
					}
				}
				for seq := range times {
					if s.after < seq && seq <= s.last {
						require.LessOrEqual(t, s.first, times[seq])
						delete(times, seq)
					}
				}
			},
			"lengthen": func(*rapid.T) { e.lengthen() },
			"": func(t *rapid.T) {
				r := retirement{ends: e}
				for seq, at := range times {
					require.True(t, r.knows(seq, at), "event %d", seq)
				}
			},
		})
	})
}

// However far apart the events are, the memory is bounded.
func TestEndsAreBounded(t *testing.T) {
	var r retirement
	const n, apart = 3 * maxBlocks, 5 << blockShift
	for i := range int64(n) {
		r.ends.add(i*apart, i)
		require.LessOrEqual(t, len(r.ends.blocks), maxBlocks)
	}
	for i := range int64(n) {
		require.True(t, r.knows(i*apart, i))
	}
	last := int64(-1)
	for s := r.ends.take(math.MaxInt64); !s.empty(); s = r.ends.take(math.MaxInt64) {
		require.GreaterOrEqual(t, s.after, last, "in order of arrival")
		last = s.last
	}
	require.GreaterOrEqual(t, last, int64((n-1)*apart))
	require.EqualValues(t, blockShift, r.ends.shift(), "blocks are short again")
}
