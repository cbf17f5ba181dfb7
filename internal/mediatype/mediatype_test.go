package mediatype

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func mediaHeader(types, encodings []string) http.Header {
	header := http.Header{}
	for _, v := range types {
		header.Add("Content-Type", v)
	}
	for _, v := range encodings {
		header.Add("Content-Encoding", v)
	}
	return header
}

func TestMediaTypeAndEncoding(t *testing.T) {
	list := func(values ...string) []string { return values }
	for _, test := range []struct {
		types, encodings []string
		want             string
	}{
		{types: list("application/json")},
		{types: list(`application/json; charset="utf-8"; x=y`)},
		{types: list("APPLICATION/json")},
		{types: list(" application/json\t; charset")},
		{types: list("application/json;charset=")},
		{types: list("application/json;;")},
		{types: list("application/json charset=utf-8")},
		{types: list(`application/json; charset="utf-8`)},
		{types: list(`application/json; x="a, text/plain; \", text/plain"`)},
		{types: list("application/json", "Application/JSON; charset=utf-8")},
		{types: list("application/json, application/json;charset=utf-8")},
		{types: list("application/json, ,"), encodings: list("")},
		{types: list("application/json"), encodings: list("identity")},
		{types: list("application/json"), encodings: list("Identity, IDENTITY", "", " identity ,")},

		{want: "There is no Content-Type; expected application/json"},
		{types: list(""), want: "There is no Content-Type; expected application/json"},
		{types: list("text/plain; charset=utf-8"), want: `The Content-Type is "text/plain; charset=utf-8"; expected application/json`},
		{types: list("application/json", "text/plain"), want: `The Content-Type is "application/json, text/plain"; expected application/json`},
		{types: list("application/json, text/plain"), want: `The Content-Type is "application/json, text/plain"; expected application/json`},
		{types: list(`application/json; x="a\""`, `text/plain"`), want: `The Content-Type is "application/json; x=\"a\\\"\", text/plain\""; expected application/json`},
		{types: list("application/problem+json"), want: `The Content-Type is "application/problem+json"; expected application/json`},
		{types: list("application/jsonp"), want: `The Content-Type is "application/jsonp"; expected application/json`},
		{types: list(";application/json"), want: `The Content-Type is ";application/json"; expected application/json`},
		{types: list("json;;"), want: `The Content-Type is "json;;"; expected application/json`},
		{types: list("<b>\x00\xff\u00e9"), want: `The Content-Type is "<b>\x00\xff\u00e9"; expected application/json`},
		{types: list("application/json"), encodings: list("gzip"), want: `The body has the Content-Encoding "gzip"; expected none`},
		{types: list("application/json"), encodings: list("", "gzip"), want: `The body has the Content-Encoding ", gzip"; expected none`},
		{types: list("application/json"), encodings: list("identity, br"), want: `The body has the Content-Encoding "identity, br"; expected none`},
		{types: list("text/plain"), encodings: list("br"), want: `The body has the Content-Encoding "br"; expected none`},
	} {
		assert.Equal(t, test.want, Unsupported(mediaHeader(test.types, test.encodings)), "%q %q", test.types, test.encodings)
	}
}

// The text is in the answer, in the log and in the quarantine.
func TestQuotedHeadersAreBounded(t *testing.T) {
	for _, hostile := range []string{"x", "\x00", "\xff", "\U0001f600", `"`, ",", ";"} {
		types := []string{strings.Repeat(hostile, 100_000), strings.Repeat(hostile, 100_000)}
		detail := Unsupported(mediaHeader(types, nil))
		assert.NotEmpty(t, detail)
		assert.Less(t, len(detail), 512, "%q", hostile)
		for _, c := range []byte(strings.ReplaceAll(detail, "…", "")) {
			assert.True(t, ' ' <= c && c <= '~', "%q", detail)
		}
	}
}
