package clip

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTextsEndBetweenCharacters(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"ab€", 5, "ab€"},
		{"ab€", 4, "ab"},
		{"ab€", 3, "ab"},
		{"ab€", 2, "ab"},
		{"😀😀", 7, "😀"},
		{"€", 1, ""},
		{"€", 0, ""},
		{"a\xffb", 5, "ab"},
		{"\xff\xff\xff", 6, ""},
		{"a" + strings.Repeat("\x80", 50), 9, "a"},
	} {
		got := Text(c.text, c.most)
		require.Equal(t, c.want, got, "%q in %d bytes", c.text, c.most)
	}
}

func TestOnlyWhatIsCutHasAnEllipsis(t *testing.T) {
	require.Equal(t, "ab€", Ellipsis("ab€", 5))
	require.Equal(t, "ab…", Ellipsis("ab€", 4))
}
