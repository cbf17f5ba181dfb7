package sqlite

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// spread returns keys that are spread over the whole range as those of tasks are.
func spread(i int) int64 { return keyOf(mustID(inbox.NewID(strconv.Itoa(i), nil))) }

func mustID(text string) inbox.RawID {
	id, err := inbox.ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// falsePositives returns the share of keys that a filter has although they were not added.
func falsePositives(t *testing.T, f *bloomFilter, added int) float64 {
	t.Helper()
	wrong := 0
	for i := range added {
		require.True(t, f.has(spread(i)))
		if f.has(spread(added + i)) {
			wrong++
		}
	}
	return float64(wrong) / float64(added)
}

// With two bytes for each key, one look-up in 300 is a false positive, and with one byte one
// in 33.
func TestFilterHasWhatWasAdded(t *testing.T) {
	const n = 1 << 17
	f := newBloomFilter(n, &limits{filtersMost: 1 << 30})
	require.Equal(t, filterWidth*n, f.size())
	for i := range n {
		f.add(spread(i))
	}
	require.InDelta(t, 0.0033, falsePositives(t, f, n), 0.001)
	f.fold()
	require.Equal(t, n, f.size())
	require.InDelta(t, 0.03, falsePositives(t, f, n), 0.005)
}

func TestSizeOfFilters(t *testing.T) {
	l := limits{filtersMost: 1 << 16}
	for keys, size := range map[int64]int{0: leastFilter, 32: 64, 33: 128, 1000: 2048, 1 << 40: 1 << 15} {
		require.Equal(t, size, newBloomFilter(keys, &l).size(), "%d keys", keys)
	}
	require.Zero(t, (*bloomFilter)(nil).size())
}
