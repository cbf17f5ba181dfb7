package callback

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawSpelled draws a JSON string in one of its spellings. Surrogate pairs,
// what sorts around them, and what must be escaped are frequent.
func drawSpelled(t *rapid.T, text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch spelling := rapid.IntRange(0, 3).Draw(t, "spelling"); {
		case spelling == 0 && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case spelling == 0:
			fmt.Fprintf(&b, `\u%04X\u%04X`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case r == '/' && spelling == 1:
			b.WriteString(`\/`)
		default:
			quoted, err := jsontext.AppendQuote(nil, string(r))
			require.NoError(t, err)
			b.Write(quoted[1 : len(quoted)-1])
		}
	}
	b.WriteByte('"')
	return b.String()
}

func drawText(t *rapid.T) string {
	return rapid.StringOfN(rapid.SampledFrom([]rune("ab\"\\/\x00\x1f\x7f\u0080é€\ud7ff\ue000\uffff\U00010000\U0001f600")), 0, 4, -1).Draw(t, "text")
}

func drawJSON(t *rapid.T, level int) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", " ", "\n\t", " \r"}).Draw(t, "space") }
	kinds := 5
	if level > 4 {
		kinds = 3 // no deeper
	}
	var b strings.Builder
	b.WriteString(space())
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		b.WriteString(rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "literal"))
	case 1:
		fmt.Fprint(&b, rapid.IntRange(0, 999_999).Draw(t, "number"))
	case 2:
		b.WriteString(drawSpelled(t, drawText(t)))
	case 3:
		b.WriteByte('[')
		for i := range rapid.IntRange(0, 4).Draw(t, "length") {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(drawJSON(t, level+1))
		}
		b.WriteString(space() + "]")
	case 4:
		b.WriteByte('{')
		names := make(map[string]bool)
		for range rapid.IntRange(0, 6).Draw(t, "size") {
			name := drawText(t)
			if names[name] {
				continue
			}
			if len(names) > 0 {
				b.WriteByte(',')
			}
			names[name] = true
			b.WriteString(space() + drawSpelled(t, name) + space() + ":" + drawJSON(t, level+1))
		}
		b.WriteString(space() + "}")
	}
	b.WriteString(space())
	return b.String()
}

// The canonical form must be the library's, for any text without a number that the
// library would change. One canonicalizer is used for all, as a parser reuses its own.
func TestCanonicalFormIsTheLibrarys(t *testing.T) {
	var c canonicalizer
	rapid.Check(t, func(t *rapid.T) {
		text := drawJSON(t, 0)
		want := jsontext.Value(text)
		require.NoError(t, want.Canonicalize(), text)
		got, _ := c.canonicalize([]byte(text))
		require.Equal(t, string(want), string(got), text)
		again, _ := c.canonicalize(append([]byte(nil), got...))
		require.Equal(t, string(want), string(again), "the canonical form is its own")
	})
}

func TestCanonicalizeTellsTheDepth(t *testing.T) {
	var c canonicalizer
	for text, want := range map[string]int{
		`1`: 0, `[]`: 1, `{}`: 1, `[[],{"a":[1]}]`: 3, `"[[["`: 0, `{"a":"}","b":[]}`: 2,
	} {
		_, depth := c.canonicalize([]byte(text))
		assert.Equal(t, want, depth, text)
	}
	for _, brackets := range []string{"[]", `{"b":1,"a":}`} {
		open, end := brackets[:len(brackets)-1], brackets[len(brackets)-1:]
		for _, depth := range []int{maxDepth - 1, maxDepth, maxDepth + 1, 2 * maxDepth} {
			text := strings.Repeat(open, depth) + "0" + strings.Repeat(end, depth)
			_, got := c.canonicalize([]byte(text))
			assert.Equal(t, min(depth, maxDepth+1), got, "%d of %s", depth, brackets)
		}
		short, _ := c.canonicalize([]byte(`{"b":2,"a":1}`))
		assert.Equal(t, `{"a":1,"b":2}`, string(short), "nothing is left of the one before")
	}
}
