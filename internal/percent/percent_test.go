package percent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEncodedTextIsSafeInAHeader(t *testing.T) {
	tests := map[string]string{
		"":                         "",
		"39371b3800cc4a7e":         "39371b3800cc4a7e",
		"video Enhancer":           "video%20Enhancer",
		"a\r\nSet-Cookie: x":       "a%0D%0ASet-Cookie:%20x",
		"50%":                      "50%25",
		`say "hi"`:                 "say%20%22hi%22",
		"主图":                       "%E4%B8%BB%E5%9B%BE",
		"\x00\x7f":                 "%00%7F",
		"{env.X}":                  "{env.X}",
		strings.Repeat("a", 1024):  strings.Repeat("a", 1024),
		strings.Repeat("a", 1025):  strings.Repeat("a", 1022),
		strings.Repeat("\n", 5000): strings.Repeat("%0A", 341),
	}
	for in, want := range tests {
		assert.Equal(t, want, Encode(in, ""), "%.20q", in)
	}
}

func TestMoreBytesCanBeEncoded(t *testing.T) {
	assert.Equal(t, "%7Benv.X%7D", Encode("{env.X}", "{}"))
	assert.Equal(t, "avatar", Encode("avatar", "{}"))
}
