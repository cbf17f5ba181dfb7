package inbox

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPageStart(t *testing.T) {
	for name, c := range map[string]struct {
		page  Page
		past  int64
		limit int
	}{
		"the newest":           {Page{}, math.MaxInt64, 100},
		"the oldest":           {Page{OldestFirst: true}, 0, 100},
		"one row":              {Page{Limit: 1}, math.MaxInt64, 1},
		"as many as there can": {Page{Limit: 1000}, math.MaxInt64, 1000},
		"before the seventh":   {Page{Cursor: "7"}, 7, 100},
		"after the seventh":    {Page{Cursor: "a7", OldestFirst: true}, 7, 100},
	} {
		t.Run(name, func(t *testing.T) {
			past, limit, err := c.page.Start()
			require.NoError(t, err)
			require.Equal(t, c.past, past)
			require.Equal(t, c.limit, limit)
		})
	}
}

func TestPageThatCannotBe(t *testing.T) {
	for _, limit := range []int{-1, 1001} {
		_, _, err := Page{Limit: limit}.Start()
		require.ErrorContains(t, err, "it must be 1 to 1000")
	}
	for _, oldestFirst := range []bool{false, true} {
		for _, cursor := range []string{"x", "-1", "0", "01", " 1", "+1", "a", "a0", "a-1", "a01", "aa1", "1a", "A1", "99999999999999999999"} {
			_, _, err := Page{Cursor: cursor, OldestFirst: oldestFirst}.Start()
			require.ErrorIs(t, err, ErrCursor, cursor)
		}
	}
}

// A cursor is only good for the order in which it was returned.
func TestCursorBelongsToItsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Page{OldestFirst: rapid.Bool().Draw(t, "oldest first")}
		want := rapid.Int64Min(1).Draw(t, "past")
		p.Cursor = p.Next(want)
		past, _, err := p.Start()
		require.NoError(t, err)
		require.Equal(t, want, past)
		p.OldestFirst = !p.OldestFirst
		_, _, err = p.Start()
		require.ErrorIs(t, err, ErrCursor)
	})
}
