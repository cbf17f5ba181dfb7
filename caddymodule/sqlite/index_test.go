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
				entries, next := x.step(rapid.IntRange(1, 10).Draw(t, "step"))
				if frozen, _ := x.pending(); !frozen {
					require.Empty(t, entries)
					return
				}
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

func TestFilterHasWhatWasAdded(t *testing.T) {
	f := newBloomFilter(0, &defaultLimits)
	const n = 50_000
	key := func(i int) int64 { return int64(uint64(i) * 0x9e3779b97f4a7c15) } //nolint:gosec // spread over the whole range
	for i := range n {
		f.add(key(i))
	}
	wrong := 0
	for i := range n {
		require.True(t, f.has(key(i)))
		if f.has(key(n + i)) {
			wrong++
		}
	}
	require.Less(t, wrong, n/1000)
}

// With a byte for each key, one look-up in 33 is a false positive.
func TestFilterGrowsWithTheTable(t *testing.T) {
	l := limits{bloomLeast: 1 << 10, bloomMost: 1 << 15}
	key := func(i int) int64 { return int64(uint64(i) * 0x9e3779b97f4a7c15) } //nolint:gosec // spread over the whole range
	for keys, size := range map[int64]int{0: 1 << 10, 1023: 1 << 10, 1024: 1 << 11, 20_000: 1 << 15, 1 << 40: 1 << 15} {
		require.Equal(t, size, newBloomFilter(keys, &l).size(), "%d keys", keys)
	}
	f := newBloomFilter(1<<13-1, &l)
	n := f.size()
	for i := range n {
		require.False(t, f.crowded(&l))
		f.add(key(i))
	}
	wrong := 0
	for i := range 10 * n {
		if f.has(key(n + i)) {
			wrong++
		}
	}
	require.InDelta(t, 0.03, float64(wrong)/float64(10*n), 0.01)
	f.add(key(n))
	require.True(t, f.crowded(&l))
	f = newBloomFilter(1<<40, &l)
	for i := range 2 * f.size() {
		f.add(key(i))
	}
	require.False(t, f.crowded(&l), "it is as large as may be")
}
