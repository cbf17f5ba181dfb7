package callback

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const callbackSamples = "../testdata/callbacks"

func readFile(t testing.TB, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	require.NoError(t, err)
	return data
}

// validSamples returns the paths of the sample bodies that are callbacks.
func validSamples(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(callbackSamples, "valid", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

// invalidSamples returns the bodies that are not callbacks, by file name, and
// how each must be refused.
func invalidSamples(t testing.TB) map[string]refused {
	t.Helper()
	var expected map[string]refused
	require.NoError(t, json.Unmarshal(readFile(t, callbackSamples, "invalid", "expect.json"), &expected))
	entries, err := os.ReadDir(filepath.Join(callbackSamples, "invalid"))
	require.NoError(t, err)
	require.Len(t, entries, len(expected)+1, "every file but expect.json itself has an entry in expect.json")
	return expected
}

type refused struct {
	Status   int      `json:"status"`
	Problems []string `json:"problems"`
}

func requireInvalid(t testing.TB, body []byte) *InvalidError {
	t.Helper()
	callback, err := Parse(body, sampleRules)
	require.Nil(t, callback)
	var invalid *InvalidError
	require.ErrorAs(t, err, &invalid)
	return invalid
}

func requireValid(t testing.TB, body string) *Callback {
	t.Helper()
	callback, err := Parse([]byte(body), sampleRules)
	require.NoError(t, err, body)
	return callback
}

func pointers(problems []Problem) []string {
	list := make([]string, len(problems))
	for i, p := range problems {
		list[i] = p.Pointer
	}
	return list
}

func TestInvalidSamplesAreRefusedWithEveryProblem(t *testing.T) {
	for name, want := range invalidSamples(t) {
		t.Run(name, func(t *testing.T) {
			invalid := requireInvalid(t, readFile(t, callbackSamples, "invalid", name))
			assert.Equal(t, want.Status == http.StatusBadRequest, invalid.NotJSON)
			assert.Equal(t, want.Problems, pointers(invalid.Problems))
		})
	}
}

func TestProblemsSayWhatIsWrongAndWhatIsExpected(t *testing.T) {
	const status = "must be the integer 0 (in progress), 1 (completed) or 2 (failed)"
	for _, test := range []struct {
		name, body string
		want       []Problem
	}{
		{"empty", ``, []Problem{{"", "empty; a JSON object is expected"}}},
		{"syntax", `{"taskId" 1}`, []Problem{{"", "invalid character '1' after object name (expecting ':') at byte offset 10"}}},
		{"end", `{"taskId":"a`, []Problem{{"", "unexpected end in the middle of a value at byte offset 12"}}},
		{"second value", ` {} []`, []Problem{{"", "more than one JSON value; the first ends at byte offset 3"}}},
		{"syntax wins over the rest", `{"taskId":1,"status":1,"type":"a"]`, []Problem{{"", "invalid character ']' after object value (expecting ',' or '}') at byte offset 33"}}},
		{"after a byte order mark", "\ufeff" + `{"taskId" 1}`, []Problem{{"", "invalid character '1' after object name (expecting ':') at byte offset 13"}}},
		{"end after a byte order mark", "\ufeff" + `{"taskId":"a`, []Problem{{"", "unexpected end in the middle of a value at byte offset 15"}}},
		{"second value after a byte order mark", "\ufeff {} []", []Problem{{"", "more than one JSON value; the first ends at byte offset 6"}}},
		{"duplicate after a byte order mark", "\ufeff" + `{"a":1,"a":2}`, []Problem{{"/a", "is the second member of this name in its object, at byte offset 10"}}},
		{"only a byte order mark", "\ufeff", []Problem{{"", "empty; a JSON object is expected"}}},
		{"two byte order marks", "\ufeff\ufeff{}", []Problem{{"", "invalid character '\\ufeff' at start of value at byte offset 3"}}},
		{"duplicate", `{"a":1,"a":2}`, []Problem{{"/a", "is the second member of this name in its object, at byte offset 7"}}},
		{"null", `null`, []Problem{{"", "must be an object, not null"}}},
		{"string", `"a"`, []Problem{{"", "must be an object, not a string"}}},
		{
			"types", `{"taskId":true,"status":{},"type":null,"avatarResult":"x"}`,
			[]Problem{
				{"/avatarResult", "must be an array, not a string"},
				{"/status", status + ", not an object"},
				{"/taskId", "must be a string, not a boolean"},
				{"/type", "is required"},
			},
		},
		{
			"values", `{"taskId":"","status":-1,"type":"a","resultUrl":"a"}`,
			[]Problem{
				{"/resultUrl", "must be an absolute http, https or s3 URL with a host"},
				{"/status", status},
				{"/taskId", "must not be empty"},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, requireInvalid(t, []byte(test.body)).Problems)
		})
	}
}

func TestWhatIsNotOneJSONDocumentIsRefusedAsAWhole(t *testing.T) {
	for _, body := range []string{
		`{"taskId":]}`, `{"taskId"}`, `{"taskId":}`, `{"taskId":1,}`, `{"taskId":1 "status":1}`, `{1:2}`, `{,}`, `}`, `]`, `:`, `,`, `{]`, `[}`,
		`{"avatarResult":[}]}`, `{"avatarResult":[{]}]}`, `{"avatarResult":[{},]}`, `{"avatarResult":[{}{}]}`, `{"avatarResult":[{"images":[{}}]}`,
		`{"status":01}`, `{"status":+1}`, `{"status":.5}`, `{"status":1.}`, `{"status":1e}`, `{"status":NaN}`, `{"status":0x1}`, `{"status":tru}`,
		"{\"taskId\":\"\x00\"}", "{\"taskId\":\"\n\"}", `{"taskId":"\x"}`, `{"taskId":"\u12"}`, `{'taskId':1}`, `{} x`, `{}{}`, `// x`,
		"{\"\xff\":1}", "{\"x\":[\"\xc3\x28\"]}", "{\"x\":\"\xed\xa0\x80\"}", `{"\udc00":1}`, `{"a":{"b":["\ud800\u0041"]}}`,
	} {
		invalid := requireInvalid(t, []byte(body))
		assert.True(t, invalid.NotJSON, body)
		require.Len(t, invalid.Problems, 1, body)
		assert.Empty(t, invalid.Problems[0].Pointer, body)
		assert.Regexp(t, `( at byte offset \d+|; a JSON object is expected)$`, invalid.Problems[0].Detail, body)
	}
}

func TestErrorNamesTheFirstProblems(t *testing.T) {
	invalid := requireInvalid(t, []byte(`{"taskId":1,"status":true,"type":"a","resultUrl":1,"businessId":1}`))
	require.EqualError(t, invalid, `body is not a Fotor callback: "/businessId" must be a string, not a number; `+
		`"/resultUrl" must be a string, not a number; `+
		`"/status" must be the integer 0 (in progress), 1 (completed) or 2 (failed), not a boolean; and 1 more`)
	require.EqualError(t, requireInvalid(t, []byte(` `)), "body is not JSON: empty; a JSON object is expected")
}

func TestStatusIsAnIntegerAsJSONSchemaHasIt(t *testing.T) {
	const body = `{"taskId":"a","status":%s,"type":"a"}`
	for status, spellings := range map[inbox.Status][]string{
		inbox.InProgress: {"0", "-0", "0.0", "0e7", "-0.00E-9", "0e99999999999999999999"},
		inbox.Completed:  {"1", "1.0", "1e0", "10e-1", "0.1e1", "1E+0", "1.000e-0000000000000000000000", "1000e-3"},
		inbox.Failed:     {"2", "2.0", "0.0002e4"},
	} {
		for _, spelling := range spellings {
			assert.Equal(t, status, requireValid(t, fmt.Sprintf(body, spelling)).Status, spelling)
		}
	}
	for _, spelling := range []string{
		"1.5", `"1"`, "3", "4", "999", "-1", "-2.0", "10", "1e1", "1e-1", "0.1", "20", "true", "[1]", "11",
		"1e999999999", "1e-999999999", "1e99999999999999999999", "-1e99999999999999999999", "1e18446744073709551616", "1e9223372036854775808", "2.000000000000000000000001",
	} {
		invalid := requireInvalid(t, fmt.Appendf(nil, body, spelling))
		assert.False(t, invalid.NotJSON, spelling)
		assert.Equal(t, []string{"/status"}, pointers(invalid.Problems), spelling)
	}
}

func TestEitherSpellingOfTheSensitiveFlagCounts(t *testing.T) {
	for _, test := range []struct {
		members   string
		sensitive bool
		problems  []string
	}{
		{members: `"hasHsfw":true`, sensitive: true},
		{members: `"hasHsfw":false`},
		{members: `"hasNsfw":true`, sensitive: true},
		{members: `"hasNsfw":false,"hasHsfw":null`},
		{members: `"hasNsfw":true,"hasHsfw":false`, sensitive: true},
		{members: `"hasNsfw":false,"hasHsfw":true`, sensitive: true},
		{members: `"hasHsfw":null`, problems: []string{"hasHsfw"}},
		{members: `"hasNsfw":null`, problems: []string{"hasHsfw"}},
		{members: `"hasnsfw":true`, problems: []string{"hasHsfw"}},
		{members: `"hasNsfw":1`, problems: []string{"hasNsfw"}},
		{members: `"hasNsfw":true,"hasHsfw":"true"`, problems: []string{"hasHsfw"}},
		{members: `"hasNsfw":[],"hasHsfw":{}`, problems: []string{"hasHsfw", "hasNsfw"}},
	} {
		body := `{"taskId":"a","status":1,"type":"a","avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h",` + test.members + `}]}]}`
		if test.problems == nil {
			assert.Equal(t, test.sensitive, requireValid(t, body).sensitive(), test.members)
			continue
		}
		for i := range test.problems {
			test.problems[i] = "/avatarResult/0/images/0/" + test.problems[i]
		}
		assert.Equal(t, test.problems, pointers(requireInvalid(t, []byte(body)).Problems), test.members)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	const images = 1000
	body := `{"avatarResult":[{"templateId":"t","images":[` + strings.Repeat(`{"id":"i"},`, images) + `{}]}],"hasHsfw":0,"hasNsfw":0,"resultUrl":0,"businessId":0,"status":0.5}`
	invalid := requireInvalid(t, []byte(body))

	const found = images*2 + 3
	assert.Equal(t, Problem{"", fmt.Sprintf("has %d more problems within avatarResult, which are not listed", found-maxProblems)}, invalid.Problems[0])
	assert.True(t, slices.IsSorted(pointers(invalid.Problems)))
	top := slices.DeleteFunc(pointers(invalid.Problems), func(p string) bool { return p == "" || strings.HasPrefix(p, "/avatarResult") })
	assert.Equal(t, []string{"/businessId", "/hasHsfw", "/hasNsfw", "/resultUrl", "/status", "/taskId", "/type"}, top, "the document's own problems are all listed")
	assert.Len(t, invalid.Problems, 1+maxProblems+len(top))
}

func TestPointersAndDetailsAreBounded(t *testing.T) {
	long := strings.Repeat("名/", 200)
	body := `{"a":[{"` + long + `":{"b":1,"b":2}}]}`
	problem := requireInvalid(t, []byte(body)).Problems[0]
	assert.Equal(t, "/a/0", problem.Pointer, "the nearest value around it whose pointer is short enough")
	assert.Regexp(t, `^holds an object with two members of the same name, the second at byte offset \d+$`, problem.Detail)

	assert.Equal(t, "ab", boundText("abc", 2))
	assert.Equal(t, "a", boundText("a名", 3), "no half characters")
	for _, p := range []jsontext.Pointer{"", "/a", "/" + jsontext.Pointer(strings.Repeat("x", maxPointer))} {
		assert.LessOrEqual(t, len(boundPointer(p)), maxPointer)
	}
}

// Whatever a body consists of, it may be nested at most maxDepth levels deep, or the
// event would be too deep for receivers.
func TestDepthIsBounded(t *testing.T) {
	nested := func(depth int) string {
		n := (depth - 1) / 2
		return `{"taskId":"a","status":1,"type":"a","x":` + strings.Repeat(`[{"y":`, n) + `[]` + strings.Repeat(`}]`, n) + `}`
	}
	requireValid(t, nested(maxDepth-1))
	requireValid(t, strings.Replace(nested(maxDepth-1), `"x"`, `"updateTime"`, 1))
	invalid := requireInvalid(t, []byte(strings.Replace(nested(maxDepth+1), `"x"`, `"updateTime"`, 1)))
	assert.True(t, invalid.NotJSON, "also in what the identity does without")
	for _, depth := range []int{maxDepth + 1, 9_999, 20_001, 200_001} {
		invalid := requireInvalid(t, []byte(nested(depth)))
		assert.True(t, invalid.NotJSON)
		assert.Equal(t, []string{""}, pointers(invalid.Problems))
	}
	invalid = requireInvalid(t, []byte(strings.Repeat("[", maxDepth+1)+strings.Repeat("]", maxDepth+1)))
	assert.Equal(t, []Problem{{"", "nested 501 levels deep; at most 500 are read"}}, invalid.Problems, "not JSON comes before not a callback")
}

// A parser is reused; nothing of one body may show in the next.
func TestParserIsCleanForTheNextBody(t *testing.T) {
	full := string(readFile(t, callbackSamples, "valid", "extra-everywhere.json"))
	want := string(eventBody(t, requireValid(t, full)))
	minimal := `{"taskId":"a","status":0,"type":"b"}`
	wantMinimal := string(eventBody(t, requireValid(t, minimal)))
	for range 50 {
		_ = requireInvalid(t, []byte(`{"avatarResult":[{"images":[{}`))
		_ = requireInvalid(t, []byte(`{"avatarResult":[{"images":[{}`+strings.Repeat(`,{}`, maxProblems)+`]}]}`))
		assert.Equal(t, wantMinimal, string(eventBody(t, requireValid(t, minimal))))
		assert.Equal(t, want, string(eventBody(t, requireValid(t, full))))
		_ = requireInvalid(t, []byte(minimal[:len(minimal)-1]))
		assert.Equal(t, []string{"/status", "/taskId", "/type"}, pointers(requireInvalid(t, []byte(`{}`)).Problems))
	}
}

func TestParserReadsBodiesLongerThanItKeeps(t *testing.T) {
	id := strings.Repeat("x", 2*MaxPooledBody)
	assert.Equal(t, id, requireValid(t, `{"taskId":"`+id+`","status":0,"type":"b"}`).TaskID)
	assert.Equal(t, "a", requireValid(t, `{"taskId":"a","status":0,"type":"b"}`).TaskID)
}

func TestTextsKeepEveryCharacter(t *testing.T) {
	c := requireValid(t, string(readFile(t, callbackSamples, "valid", "escaped.json")))
	assert.Equal(t, "a\x00b\r\nc\x7f\u2028😀", c.TaskID)
	assert.Equal(t, `a/b, "c"; é`, c.Type)
	assert.True(t, utf8.ValidString(c.TaskID))
}

var acceptedURLs = []string{
	"http://h", "https://h", "HtTpS://h", "http://h/", "http://h?", "http://h#", "http://h?a/b", "http://h#a?b",
	"http://h:", "http://h:0", "http://h:99999999/", "http://@h", "http://a:b@h", "http://a:b:c%40@h:1/",
	"http://1.2.3.4", "http://[::]", "http://[::1]:80/", "http://[1:2:3:4:5:6:7:8]", "http://[1:2:3:4:5:6:1.2.3.4]",
	"http://[::ffff:255.249.99.0]/", "http://[1::8]", "http://[1:2:3:4:5:6:7::]", "http://[::2:3:4:5:6:7:8]", "http://[ABCD::]",
	"http://host_name", "http://a.b.", "http://-", "http://!$&'()*+,;=", "http://图片.example/", "http://%e5%9b%be/",
	"http://h/a b", "http://h/%E4%BD", `http://h/\^|{}<>"`, "http://h/[]", "http://h//a:b@c", "http://h/\u0085\u2028",
	"http://h?100%", "http://h?a=%zz&b=[]", "http://h#%20", "http://h#a#b",
	"s3://b", "S3://b/", "s3://img-pub-fotor/aigc/a b.jpg", "s3://a:b@b:1/?x#y", "s3://[::1]/",
}

var refusedURLs = []string{
	"", " ", "h", "/a", "//h", "//h/a", "http", "http:", "http:/", "http://", "http:///", "http://?", "http://#", "http:h", "http:/h", "http:\\\\h",
	"ftp://h", "file:///a", "javascript:alert(1)", "data:,a", "httpss://h", "xhttp://h", " http://h", "\nhttp://h", "http ://h", "mailto:a@b",
	"s3:", "s3:///a", "s3:/b", "s3:b", "s33://b", "s4://b", "xs3://b", "s3s://b", "gs://b/a", "s3://b/%", "s3://b c/",
	"http://:80", "http://a@", "http://a@:80", "http://a@b@c", "http://h:a", "http://h:-1", "http://h:1:2", "http://h:80:80/", "http://::1", "http://1:2:3:4:5:6:7:8",
	"http://h h", "http://h\\a", "http://h\t", "http://h\n", "http://h/\n", "http://h/\x7f", "http://h?\x00", "http://h#\x1f", "http://h<", "http://h\"", "http://h|", "http://h^", "http://h`", "http://{h}",
	"http://a b@h", "http://图@h", "http://%zz@h", "http://a[@h", "http://%41", "http://%2e", "http://%", "http://%e5%9", "http://%25",
	"http://[]", "http://[", "http://[::1", "http://::1]", "http://[::1]a", "http://[::1]:a", "http://[::1]]", "http://[[::1]]", "http://a[::1]", "http://[1.2.3.4]",
	"http://[:::]", "http://[::1::]", "http://[1:2:3:4:5:6:7]", "http://[1:2:3:4:5:6:7:8:9]", "http://[::1:2:3:4:5:6:7:8]", "http://[1:2:3:4::5:6:7:8]", "http://[12345::]", "http://[g::]",
	"http://[::1.2.3]", "http://[::01.2.3.4]", "http://[::256.2.3.4]", "http://[1.2.3.4::]", "http://[fe80::1%25eth0]", "http://[fe80::1%eth0]", "http://[v1.a]",
	"http://h/%", "http://h/%1", "http://h/%1g", "http://h/%%20", "http://h#%", "http://h#%2",
}

func TestURLs(t *testing.T) {
	for _, u := range acceptedURLs {
		assert.True(t, isResultURL([]byte(u)), "%q", u)
	}
	for _, u := range refusedURLs {
		assert.False(t, isResultURL([]byte(u)), "%q", u)
	}
}

// A flag counts in the callback and in an image; a template has none.
func TestFlagOfATemplateIsNotDocumented(t *testing.T) {
	for _, flag := range []string{nameHsfw, nameNsfw} {
		body := string(eventBody(t, requireValid(t, callbackWith(`"avatarResult":[{"templateId":"t","`+flag+`":true}]`))))
		assert.Contains(t, body, `"sensitive":false`)
		assert.Contains(t, body, `"extra":{"`+flag+`":true}}]`)
	}
}

// Spellings of a number make no difference up to 18 digits of its exponent, as documented.
func TestSpellingsOfNumbersWithLongExponents(t *testing.T) {
	same := func(one, other string) bool {
		return requireParsed(t, callbackWith(`"x":`+one)).id == requireParsed(t, callbackWith(`"x":`+other)).id
	}
	assert.True(t, same("1e100000000000000000", "10e99999999999999999"))
	assert.True(t, same("1e0000000000000000000000001", "10"))
	assert.True(t, same("0e1000000000000000000", "0"))
	assert.False(t, same("1e1000000000000000000", "1.0e1000000000000000000"))
}
