package callback

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// hugeExponent matches numbers that the schema library would write out digit by digit
// to compare them.
var hugeExponent = regexp.MustCompile(`[eE][+-]?[0-9]{4,}`)

// FuzzParse passes anything to Parse. It must not panic, must agree with the schemas,
// and a callback must have the same id however it is written.
func FuzzParse(f *testing.F) {
	for _, kind := range []string{"valid", "invalid"} {
		entries, err := os.ReadDir(filepath.Join(callbackSamples, kind))
		require.NoError(f, err)
		for _, entry := range entries {
			f.Add(readFile(f, callbackSamples, kind, entry.Name()))
		}
	}
	f.Add([]byte(callbackWith(`"x":[1e400,-0,9007199254740993,0.1000000000000000000001,1E-999999999999999999999]`)))
	f.Add([]byte(callbackWith(`"createTime":1,"x":{"a":null,"b":[null]},"hasNsfw":null,"avatarResult":[{"templateId":"t","images":[]}]`)))
	f.Add([]byte("\ufeff" + callbackWith(`"resultUrl":"s3://img-pub-fotor/\"\u002f\\","status":3`)))
	f.Add([]byte(callbackWith(`"resultUrl":"http://u%40:p@[2001:db8::1.2.3.4]:80/a%20b?c#d"`)))

	all := loadSchemas(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		original := slices.Clone(body)
		callback, err := Parse(body, sampleRules)
		require.Equal(t, original, body, "the body was changed")
		if err != nil {
			requireGoodError(t, body, err)
		}
		var invalid *InvalidError
		if notJSON := errors.As(err, &invalid) && invalid.NotJSON; !notJSON && !hugeExponent.Match(body) {
			all.requireAgreement(t, body)
		}
		if err != nil {
			return
		}
		requireFormerID(t, body, callback)
		event := callback.Event(sampleArrival)
		require.True(t, jsontext.Value(event.Body).IsValid(), "%s", event.Body)
		require.NoError(t, validate(all.event, event.Body))

		again, err := Parse(body, sampleRules)
		require.NoError(t, err)
		require.Equal(t, event, again.Event(sampleArrival))
		for _, spelling := range respell(t, body) {
			same, err := Parse(spelling, sampleRules)
			require.NoError(t, err, "%s", spelling)
			require.Equal(t, callback.id, same.id, "%s", spelling)
			require.Equal(t, callback.Outcome(), same.Outcome(), "%s", spelling)
		}
	})
}

// requireGoodError checks that an error is as InvalidError's documentation says.
func requireGoodError(t *testing.T, body []byte, err error) {
	t.Helper()
	var invalid *InvalidError
	require.ErrorAs(t, err, &invalid)
	require.NotEmpty(t, invalid.Problems)
	require.LessOrEqual(t, len(invalid.Problems), maxProblems+9)
	require.True(t, slices.IsSorted(pointers(invalid.Problems)))
	for _, p := range invalid.Problems {
		require.True(t, jsontext.Pointer(p.Pointer).IsValid(), "%q", p.Pointer)
		require.LessOrEqual(t, len(p.Pointer), maxPointer)
		require.NotEmpty(t, p.Detail)
		require.LessOrEqual(t, len(p.Detail), maxDetail)
		require.True(t, utf8.ValidString(p.Detail))
	}
	if invalid.NotJSON {
		require.Len(t, invalid.Problems, 1)
	} else {
		require.True(t, jsontext.Value(bytes.TrimPrefix(body, byteOrderMark)).IsValid(), "JSON, but not a callback")
	}
}

// respell writes a callback in other spellings.
func respell(t *testing.T, body []byte) [][]byte {
	t.Helper()
	body = bytes.TrimPrefix(body, byteOrderMark)
	spaced := jsontext.Value(slices.Clone(body))
	require.NoError(t, spaced.Indent(jsontext.SpaceAfterComma(true)))
	sorted := jsontext.Value(slices.Clone(body))
	require.NoError(t, sorted.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)))
	marked := slices.Concat(byteOrderMark, body)
	nothing := bytes.Replace(body, []byte("{"), []byte(`{"nothing, it is to be hoped":null,`), 1)
	return [][]byte{spaced, sorted, []byte(shuffled(t, body)), marked, nothing}
}

// shuffled writes a JSON text with each object's members in reverse order, each string
// escaped, and each number with an exponent.
func shuffled(t *testing.T, value jsontext.Value) string {
	t.Helper()
	dec := jsontext.NewDecoder(strings.NewReader(string(value)))
	switch kind := dec.PeekKind(); kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		_, err := dec.ReadToken()
		require.NoError(t, err)
		var parts []string
		for k := dec.PeekKind(); k != jsontext.KindEndObject && k != jsontext.KindEndArray; k = dec.PeekKind() {
			v, err := dec.ReadValue()
			require.NoError(t, err)
			part := shuffled(t, v.Clone())
			if kind == jsontext.KindBeginObject {
				v, err := dec.ReadValue()
				require.NoError(t, err)
				part += ":" + shuffled(t, v.Clone())
			}
			parts = append(parts, part)
		}
		if kind == jsontext.KindBeginArray {
			return "[" + strings.Join(parts, ",") + "]"
		}
		slices.Reverse(parts)
		return "{" + strings.Join(parts, ",") + "}"
	case jsontext.KindString:
		s, err := jsontext.AppendUnquote(nil, value)
		require.NoError(t, err)
		var b strings.Builder
		for _, unit := range utf16.Encode([]rune(string(s))) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
		return `"` + b.String() + `"`
	case jsontext.KindNumber:
		if text := strings.TrimSpace(string(value)); !strings.ContainsAny(text, ".eE") {
			return text + ".0E+0"
		}
		return string(value)
	default:
		return string(value)
	}
}
