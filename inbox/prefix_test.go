package inbox

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrefixes(t *testing.T) {
	const id = "d43f7d0975a061bf49b7ffab7d5cb30720da6a1949559304"
	for s, long := range map[string]bool{
		id[:4]: false, id[:8]: false, id[:11]: false, id[:12]: true, id[:16]: true, id[:17]: true, id: true,
		"d43f-4": false, "d43f7d09-49b7": true, "d43f7d0975a061bf-49b7ffab7d5cb30720da6a1949559304": true,
	} {
		p, err := ParsePrefix(s)
		require.NoError(t, err, s)
		require.True(t, p.Matches(id), s)
		require.Equal(t, long, p.Long(), s)
		require.False(t, p.Matches(""), s)
		first, last := p.TaskKeys()
		raw, err := ParseID(id)
		require.NoError(t, err)
		require.LessOrEqual(t, first, raw.TaskKey(), s)
		require.GreaterOrEqual(t, last, raw.TaskKey(), s)
		require.Equal(t, p.OfTask(), first == last, s)
		again, err := ParsePrefix(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	}
	for _, s := range []string{"d43e", "d43f7d0a", "d43f7d09-49b8", id[:47] + "5", "d43f7d0975a061bf5"} {
		p, err := ParsePrefix(s)
		require.NoError(t, err, s)
		require.False(t, p.Matches(id), s)
	}
	p, err := ParsePrefix("ffff")
	require.NoError(t, err)
	first, last := p.TaskKeys()
	require.Equal(t, uint64(0xffff000000000000), first)
	require.Equal(t, uint64(0xffffffffffffffff), last)
}

func TestWhatIsNoPrefix(t *testing.T) {
	for _, s := range []string{
		"", "d43", "abc-d43f", "d43g", "D43F", "d43f-", "d43f-4-9", "d43f 7", "-d43f", "d43f7d0975a061bf1-4",
		"d43f-" + strings.Repeat("a", 33), strings.Repeat("a", 49),
	} {
		_, err := ParsePrefix(s)
		require.EqualError(t, err, "expected the first digits of an event's id, 4 to 48 of 0-9 and a-f, such as d43f7d09 or d43f7d09-49b7", s)
	}
}

func TestShortIDs(t *testing.T) {
	const id = "d43f7d0975a061bf49b7ffab7d5cb30720da6a1949559304"
	require.Equal(t, "d43f7d09-49b7", ShortID(id))
	require.Equal(t, "d43f7d09-49b7ff", ShortIDOf(id, 6))
	require.Equal(t, "d43f7d09-49b7ffab7d5cb30720da6a1949559304", ShortIDOf(id, 32))
	require.Equal(t, "no id", ShortID("no id"))
	for digits := 1; digits <= 32; digits++ {
		p, err := ParsePrefix(ShortIDOf(id, digits))
		require.NoError(t, err)
		require.True(t, p.Matches(id))
	}
}
