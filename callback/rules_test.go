package callback

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// sampleRules are the rules of a handler without options.
var sampleRules = newSampleRules(nil, map[string]string{BucketPrefix: BucketURL})

func newSampleRules(statuses map[int]string, urls map[string]string) *Rules {
	rules, err := NewRules(statuses, urls)
	if err != nil {
		panic(err)
	}
	return rules
}

func TestRulesSayWhatIsWrong(t *testing.T) {
	many := map[string]string{}
	for i := range maxURLPrefixes + 1 {
		many["s3://"+strconv.Itoa(i)+"/"] = "https://h/"
	}
	const begins = "is not what a URL begins with: expected http, https or s3, a host and a path, such as s3://bucket/"
	for _, test := range []struct {
		statuses map[int]string
		urls     map[string]string
		want     string
	}{
		{statuses: map[int]string{2: "failed"}, want: "map_status 2: expected a number from 3 to 999"},
		{statuses: map[int]string{0: "in_progress"}, want: "map_status 0: expected a number from 3 to 999"},
		{statuses: map[int]string{-1: "failed"}, want: "map_status -1: expected a number from 3 to 999"},
		{statuses: map[int]string{1000: "failed"}, want: "map_status 1000: expected a number from 3 to 999"},
		{statuses: map[int]string{3: "Failed"}, want: `map_status 3 is "Failed": expected in_progress, completed or failed`},
		{
			statuses: map[int]string{4: "", 3: "unknown"},
			want:     "map_status 3 is \"unknown\": expected in_progress, completed or failed\nmap_status 4 is \"\": expected in_progress, completed or failed",
		},
		{urls: many, want: "result_url has 101 prefixes: expected at most 100"},
		{urls: map[string]string{"": "https://h/"}, want: `result_url "": the prefix ` + begins},
		{urls: map[string]string{"s3://b": "https://h/"}, want: `result_url "s3://b": the prefix ` + begins},
		{urls: map[string]string{"s3://": "https://h/"}, want: `result_url "s3://": the prefix ` + begins},
		{urls: map[string]string{"gs://b/": "https://h/"}, want: `result_url "gs://b/": the prefix ` + begins},
		{urls: map[string]string{"s3://b/%2": "https://h/"}, want: `result_url "s3://b/%2": the prefix ` + begins},
		{urls: map[string]string{"s3://b/\xff": "https://h/"}, want: `result_url "s3://b/\xff": the prefix ` + begins},
		{urls: map[string]string{"s3://b/?x": "https://h/"}, want: `result_url "s3://b/?x": the prefix has one of "?#", which it must not`},
		{urls: map[string]string{"s3://b/": "https://h"}, want: `result_url "s3://b/": the replacement "https://h" ` + begins},
		{urls: map[string]string{"s3://b/": "https://h?x="}, want: `result_url "s3://b/": the replacement "https://h?x=" ` + begins},
		{urls: map[string]string{"s3://b/": "/a/"}, want: `result_url "s3://b/": the replacement "/a/" ` + begins},
		{urls: map[string]string{"s3://b/": "ftp://h/"}, want: `result_url "s3://b/": the replacement "ftp://h/" ` + begins},
		{urls: map[string]string{"s3://b/": "https://h/#a"}, want: `result_url "s3://b/": the replacement "https://h/#a" has one of "#", which it must not`},
		{urls: map[string]string{"s3://b/": "https://h/" + strings.Repeat("x", 1015)}, want: `result_url "s3://b/": the replacement "https://h/` + strings.Repeat("x", 90) + `" has 1025 bytes: expected at most 1024`},
	} {
		_, err := NewRules(test.statuses, test.urls)
		require.EqualError(t, err, test.want)
	}
	_, err := NewRules(map[int]string{3: "failed", 999: "in_progress"}, map[string]string{
		"s3://b/":        "https://h/?key=",
		"HTTP://u@h:1/a": "s3://b/" + strings.Repeat("x", 1017),
	})
	require.NoError(t, err)
}

func TestStatusesAreMapped(t *testing.T) {
	rules := newSampleRules(map[int]string{3: "failed", 4: "in_progress", 999: "completed"}, nil)
	for spelling, want := range map[string]struct {
		code   int
		status inbox.Status
	}{
		"0": {0, inbox.InProgress}, "1": {1, inbox.Completed}, "2": {2, inbox.Failed},
		"3": {3, inbox.Failed}, "3.0": {3, inbox.Failed}, "0.03e2": {3, inbox.Failed}, "4": {4, inbox.InProgress}, "40e-1": {4, inbox.InProgress},
		"999": {999, inbox.Completed}, "9.99E+2": {999, inbox.Completed}, "999000e-3": {999, inbox.Completed},
	} {
		body := `{"taskId":"a","status":` + spelling + `,"type":"b"}`
		callback, err := Parse([]byte(body), rules)
		require.NoError(t, err, body)
		event := callback.Event(sampleArrival)
		assert.Equal(t, want.status, event.Status, body)
		assert.Contains(t, string(event.Body), fmt.Sprintf(`"status":"%s","statusCode":%d,`, want.status, want.code))
		assert.Equal(t, inbox.NewID("a", fmt.Appendf(nil, `{"status":%d,"taskId":"a","type":"b"}`, want.code)), event.ID)
	}
	const expected = "must be the integer 0 (in progress), 1 (completed) or 2 (failed)"
	for spelling, want := range map[string]string{
		"5": expected + ", or one that map_status takes, which 5 is not", "30": expected + ", or one that map_status takes, which 30 is not",
		"-3": expected, "3.5": expected, "1000": expected, "3e3": expected, "3e999999999999999999999": expected, `"3"`: expected + ", not a string",
	} {
		_, err := Parse([]byte(`{"taskId":"a","status":`+spelling+`,"type":"b"}`), rules)
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid)
		assert.Equal(t, []Problem{{"/status", want}}, invalid.Problems, spelling)
	}
}

// urlsOf returns the URLs of an event.
func urlsOf(t require.TestingT, body []byte) (urls []string) {
	var event struct {
		ResultURL *string
		Avatars   []struct{ Images []struct{ URL string } }
	}
	require.NoError(t, json.Unmarshal(body, &event))
	if event.ResultURL != nil {
		urls = append(urls, *event.ResultURL)
	}
	for _, a := range event.Avatars {
		for _, i := range a.Images {
			urls = append(urls, i.URL)
		}
	}
	return urls
}

func withURLs(urls ...string) []byte {
	images := make([]map[string]any, 0, len(urls))
	for i, u := range urls {
		images = append(images, map[string]any{"id": strconv.Itoa(i), "url": u, "hasHsfw": false})
	}
	body, _ := json.Marshal(map[string]any{"taskId": "a", "status": 1, "type": "avatar", "resultUrl": urls[0], "avatarResult": []any{map[string]any{"templateId": "t", "images": images}}})
	return body
}

func TestURLPrefixesAreReplaced(t *testing.T) {
	for _, test := range []struct {
		rules     *Rules
		url, want string
	}{
		{sampleRules, "s3://img-pub-fotor/a/b.jpg", "https://pub-static.fotor.com/a/b.jpg"},
		{sampleRules, "s3://img-pub-fotor/", "https://pub-static.fotor.com/"},
		{sampleRules, "s3://img-pub-fotor", "s3://img-pub-fotor"},
		{sampleRules, "s3://img-pub-fotor-2/a.jpg", "s3://img-pub-fotor-2/a.jpg"},
		{sampleRules, "S3://img-pub-fotor/a.jpg", "S3://img-pub-fotor/a.jpg"},
		{sampleRules, "https://h/s3://img-pub-fotor/a.jpg", "https://h/s3://img-pub-fotor/a.jpg"},
		{nil, "s3://img-pub-fotor/a.jpg", "s3://img-pub-fotor/a.jpg"},
		{newSampleRules(nil, map[string]string{"s3://b/": "https://h/", "s3://b/c/": "https://i/x?y="}), "s3://b/c/d?e#f", "https://i/x?y=d?e#f"},
		{newSampleRules(nil, map[string]string{"s3://b/": "https://h/", "s3://b/c/": "s3://b/c/"}), "s3://b/c/d", "s3://b/c/d"},
		{newSampleRules(nil, map[string]string{"s3://b/": "https://h/", "s3://b/c/": "s3://b/c/"}), "s3://b/d", "https://h/d"},
		{newSampleRules(nil, map[string]string{`s3://b/\"名`: `https://h/"\`}), `s3://b/\"名<"\>`, `https://h/"\<"\>`},
	} {
		callback, err := Parse(withURLs(test.url), test.rules)
		require.NoError(t, err)
		assert.Equal(t, []string{test.want, test.want}, urlsOf(t, callback.Event(sampleArrival).Body))
	}
}

// Whatever is replaced, the event is JSON, its URLs are URLs, and its id is that of the
// content as Fotor sent it. The model replaces prefixes of texts.
func TestReplacedURLsAreURLs(t *testing.T) {
	all := loadSchemas(t)
	replaced := 0
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b/", "/", `"`, `\`, "%41", "名", "<", " ", ""})
		text := func(name string) string { return strings.Join(rapid.SliceOfN(part, 0, 4).Draw(t, name), "") }
		urls := make(map[string]string)
		for range rapid.IntRange(0, 3).Draw(t, "rules") {
			urls["s3://b/"+text("prefix")] = rapid.SampledFrom([]string{"https://h/", "s3://c/", "http://h:1/?"}).Draw(t, "begin") + text("replacement")
		}
		rules, err := NewRules(nil, urls)
		require.NoError(t, err)
		url := "s3://b/" + text("rest") + rapid.SampledFrom([]string{"", "?100%", "#%41", "?a#b"}).Draw(t, "end")
		want := url
		prefixes := slices.Collect(maps.Keys(urls))
		slices.SortFunc(prefixes, func(a, b string) int { return len(b) - len(a) })
		for _, prefix := range prefixes {
			if rest, ok := strings.CutPrefix(url, prefix); ok {
				want = urls[prefix] + rest
				replaced++
				break
			}
		}
		body := withURLs(url)
		callback, err := Parse(body, rules)
		require.NoError(t, err)
		event := callback.Event(sampleArrival)
		require.Equal(t, []string{want, want}, urlsOf(t, event.Body))
		require.True(t, isResultURL([]byte(want)), "%q", want)
		require.NoError(t, validate(all.event, event.Body))
		plain, err := Parse(body, nil)
		require.NoError(t, err)
		require.Equal(t, plain.id, callback.id)
		require.Equal(t, plain.formerID, callback.formerID)
	})
	assert.Positive(t, replaced)
}

// MaxEvent holds with long replacements too.
func TestReplacedURLsAreWithinTheLargestEvent(t *testing.T) {
	source := netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")
	for _, length := range []int{10, 20, 40, 100, maxURLPrefix} {
		rules := newSampleRules(nil, map[string]string{"s3://b/": "https://h/" + strings.Repeat(`"`, length-10)})
		for _, count := range []int{1, 10, 5000} {
			body := withURLs(slices.Repeat([]string{"s3://b/"}, count)...)
			callback, err := Parse(body, rules)
			require.NoError(t, err)
			require.LessOrEqual(t, len(callback.Event(Arrival{At: sampleTime, Source: source}).Body), rules.MaxEvent(int64(len(body))), "%d URLs, %d", count, length)
		}
	}
}
