package show

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextHidesNothing(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"two\nlines\x1b\xff\t": "two\nlines\\x1b\\xff\\t",
		"evil\u202etxt":        `evil\u202etxt`,
		"\u0301\u0302":         `\u0301\u0302`,
		"a \u0301":             `a \u0301`,
		"a\n\u0301":            "a\n\\u0301",
		"a\u202e\u0301":        `a\u202e\u0301`,
		"a\xff\u0301":          `a\xff\u0301`,
		`"` + "\u0301":         `"\u0301`,
		"\u20dd":               `\u20dd`,
		"\ufe0f":               `\ufe0f`,
		"\u034f":               `\u034f`,
		"a\u034fb":             `a\u034fb`,
		"\u17b4":               `\u17b4`,
		"a\u3164":              `a\u3164`,
		"\u115f\u1160\uffa0":   `\u115f\u1160\uffa0`,
		"\u2800\u0301":         `\u2800\u0301`,
		"\U00013441\U0001d159": `\U00013441\U0001d159`,
		"e\u0301té":            "e\u0301té",
		"ที่นี่ नमस्ते হিন্দি":    "ที่นี่ नमस्ते হিন্দি",
		"❤\ufe0f 1\ufe0f\u20e3":   "❤\ufe0f 1\ufe0f\u20e3",
		"a\u0301\u0302\u0303":     "a\u0301\u0302\u0303",
		"任务 한국어 \ufffd":           "任务 한국어 \ufffd",
		"  spaces between words ": "  spaces between words ",
	} {
		assert.Equal(t, want, Text(text), "%+q", text)
	}
}

func TestValueHasEnds(t *testing.T) {
	for text, want := range map[string]string{
		"": "", " ": `\x20`, "   ": `\x20\x20\x20`, "abc ": `abc\x20`, " a b\n": `\x20a b\n`, "\n": `\n`,
		"a b": "a b", " \u0301": `\x20\u0301`, "a\u0301 ": "a\u0301" + `\x20`, " \t ": `\x20\t\x20`,
	} {
		assert.Equal(t, want, Value(text), "%+q", text)
	}
}

func TestJSONHidesNothing(t *testing.T) {
	for raw, want := range map[string]string{
		"{\"a\":\n \"   \"}": "{\"a\":\n \"   \"}",
		"[\"\u0301\u3164\"]": `["\u0301\u3164"]`,
		"[\"e\u0301\"]":      "[\"e\u0301\"]",
		"[\"\U00013441\"]":   `["\ud80d\udc41"]`,
		"[\"\xff\u0301\"]":   `["\ufffd\u0301"]`,
	} {
		assert.Equal(t, want, string(JSON([]byte(raw))), "%+q", raw)
	}
}

// Whatever comes, what is shown is printable, and JSON means the same.
func FuzzShown(f *testing.F) {
	f.Add("a\u0301 \u0301\xff\u202e\n\U0001d159")
	f.Fuzz(func(t *testing.T, text string) {
		require.True(t, Printable(strings.ReplaceAll(Text(text), "\n", "")))
		value := Value(text)
		require.Equal(t, strings.TrimSpace(value), value)
		require.Equal(t, text == "", value == "")
		document, err := json.Marshal(text)
		require.NoError(t, err)
		shown := JSON(document)
		require.True(t, Printable(string(shown)))
		var before, after string
		require.NoError(t, json.Unmarshal(document, &before), strconv.Quote(text))
		require.NoError(t, json.Unmarshal(shown, &after))
		require.Equal(t, before, after)
	})
}
