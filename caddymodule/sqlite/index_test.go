package sqlite

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBucketsAscendWithTheKey(t *testing.T) {
	require.Equal(t, 0, bucket(math.MinInt64))
	require.Equal(t, buckets/2, bucket(0))
	require.Equal(t, buckets-1, bucket(math.MaxInt64))
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		if a <= b {
			require.LessOrEqual(t, bucket(a), bucket(b))
		} else {
			require.GreaterOrEqual(t, bucket(a), bucket(b))
		}
	})
}

// At every moment an entry is in memory or in the table, and the table gets
// each generation in the order of the keys.
func TestIndexHandsEveryEntryToTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		x := newTaskIndex(limit)
		want := make(map[int64][]int64)
		table := make(map[int64][]int64)
		var seq, lastKey, indexed int64
		lastKey = math.MinInt64
		writing := false // a generation
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				var added []entry
				for _, key := range rapid.SliceOfN(rapid.Int64Range(-3, 3), 0, 5).Draw(t, "keys") {
					seq++
					added = append(added, entry{key << 60, seq})
					want[key<<60] = append(want[key<<60], seq)
				}
				x.add(added...)
			},
			"flush": func(t *rapid.T) {
				entries, begun, next := x.step(rapid.IntRange(1, 10).Draw(t, "step"))
				if frozen, _ := x.pending(); !frozen {
					require.Empty(t, entries)
					return
				}
				require.Equal(t, begun, writing)
				writing = !next.atEnd()
				for _, e := range entries {
					require.GreaterOrEqual(t, e.key, lastKey)
					lastKey = e.key
					table[e.key] = append(table[e.key], e.seq)
				}
				if next.atEnd() {
					indexed, lastKey = x.frozenLast(), math.MinInt64
				}
				x.markWritten(next)
			},
			"": func(t *rapid.T) {
				for key, seqs := range want {
					got := slices.Concat(table[key], x.lookup(key, nil))
					slices.Sort(got)
					require.Equal(t, seqs, slices.Compact(got))
					for _, s := range seqs {
						if s <= indexed {
							require.Contains(t, table[key], s, "it is told to be in the table")
						}
					}
				}
			},
		})
	})
}
