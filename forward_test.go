package fotorwebhook

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRetryAfterIsSecondsOrDate(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := map[string]time.Duration{
		"":                                      0,
		"120":                                   2 * time.Minute,
		" 5 ":                                   5 * time.Second,
		"0":                                     0,
		"-5":                                    0,
		"1.5":                                   0,
		"soon":                                  0,
		"18446744073709551615":                  maxDuration,
		"99999999999999999999999999":            maxDuration,
		"000000000000000000000000000007":        7 * time.Second,
		"+5":                                    0,
		"1e3":                                   0,
		"５":                                     0,
		"120, 60":                               0,
		"120;60":                                0,
		"Mon, 23 Nov 2026 12:00:30 GMT":         30 * time.Second,
		"Monday, 23-Nov-26 12:00:30 GMT":        30 * time.Second,
		"Mon Nov 23 12:00:30 2026":              30 * time.Second,
		"Mon, 23 Nov 2026 11:00:00 GMT":         0,
		"Mon, 23 Nov 2999 11:00:00 GMT":         maxDuration,
		"Fri, 31 Dec 9999 23:59:59 GMT":         maxDuration,
		"Tue, 29 Feb 10000 00:00:00 GMT":        maxDuration,
		"Sun, 04 Dec 292277026596 15:30:08 GMT": maxDuration,
		"Sun, 99 Dec 292277026596 15:30:08 GMT": 0,
		"Thu, 01 Jan 1970 00:00:00 GMT":         0,
		"Mon, 23 Nov 2026 12:00:30 GMT, Mon, 23 Nov 2026 12:00:30 GMT": 0,
		strings.Repeat("9", 100_000):                                   maxDuration,
	}
	for value, want := range tests {
		header := http.Header{}
		if value != "" {
			header.Set("Retry-After", value)
		}
		assert.Equal(t, want, retryAfterOf(header, now), "%q", value)
	}
}

func TestOfSeveralRetryAfterTheLongestIsObeyed(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for want, values := range map[time.Duration][]string{
		2 * time.Minute:  {"5", "120", "60"},
		30 * time.Second: {"soon", "Mon, 23 Nov 2026 12:00:30 GMT", "-7"},
		0:                {"soon", "later"},
	} {
		assert.Equal(t, want, retryAfterOf(http.Header{"Retry-After": values}, now), "%q", values)
	}
}

func TestARetryAfterDateIsTakenAgainstTheAnswersOwnClock(t *testing.T) {
	ours := time.Date(1970, 1, 1, 0, 0, 9, 0, time.UTC)
	header := http.Header{"Retry-After": {"Mon, 23 Nov 2026 12:00:30 GMT"}, "Date": {"Mon, 23 Nov 2026 12:00:00 GMT"}}
	assert.Equal(t, 30*time.Second, retryAfterOf(header, ours))
	header.Set("Date", "yesterday")
	assert.Equal(t, maxDuration, retryAfterOf(header, ours))
}

func TestReadableIsOneBoundedLine(t *testing.T) {
	assert.Equal(t, "no such task", readable([]byte(" no such\r\n\ttask\x00\n")))
	assert.Equal(t, "bad bytes", readable([]byte("bad\xff\xfebytes")))
	assert.LessOrEqual(t, len(readable([]byte(strings.Repeat("主", 5000)))), 1024)
	assert.Empty(t, readable(nil))
}

func TestForwardURLIsChecked(t *testing.T) {
	t.Setenv("FOTOR_TEST_UPSTREAM", "http://app:8080/events")
	for _, good := range []string{
		"http://app", "https://app.example.com/events?x=1", "h2c://app:8080/", "http://[::1]:8080/", "{env.FOTOR_TEST_UPSTREAM}",
	} {
		_, err := parseForwardURL(good)
		require.NoError(t, err, good)
	}
	for bad, want := range map[string]string{
		"app.example.com":        `has the scheme ""`,
		"app:8080":               `has the scheme "app"`,
		"ftp://app/":             `has the scheme "ftp"`,
		"http:///events":         "has no host",
		"http://:8080/":          "has no host",
		"http://app/#part":       "has a fragment",
		"http://app:port/":       "cannot be read",
		"http://app:99999/":      "has the port 99999: expected 1 to 65535",
		"http://app:0/":          "has the port 0: expected 1 to 65535",
		"unix//run/app.sock":     "expected a block in its place, such as forward { reverse_proxy unix//run/app.sock }",
		"unix:///run/app.sock":   "a Unix socket has no URL",
		"unix+h2c//run/app.sock": "a Unix socket has no URL",
		"http://user:pw@a b/":    "cannot be read",
		"{env.FOTOR_TEST_UNSET}": "{env.FOTOR_TEST_UNSET} is empty",
		"http://{http.nonsense}": "{http.nonsense} is unknown",
		"http://{pw}/":           "a placeholder that is unknown or empty",
	} {
		_, err := parseForwardURL(bad)
		require.ErrorContains(t, err, want, bad)
		assert.NotContains(t, err.Error(), "pw", "an error must not show credentials")
	}
}

func TestLocationShowsNoSecret(t *testing.T) {
	for value, want := range map[string]string{
		"":                                 "",
		"/events/":                         "/events/",
		"https://app.example/x y":          "https://app.example/x%20y",
		"https://user:secret@app/?secret":  "https://app/?…",
		"https://app/#secret":              "https://app/?…",
		"//app/?secret":                    "//app/?…",
		"mailto:secret":                    "mailto:…",
		"https://app/\x01secret":           "what is no URL",
		"https://app/" + "\xff":            "https://app/%FF",
		"/" + strings.Repeat("x", 100_000): "/" + strings.Repeat("x", maxLocation-1) + "…",
	} {
		got := location(http.Header{"Location": {value}})
		assert.Equal(t, want, got)
	}
}

// A body that is read again begins again, also after it was read in part.
func TestBodyIsReplayed(t *testing.T) {
	const text = "some text"
	b := &replayedBody{data: []byte(text)}
	for range 3 {
		whole, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, text, string(whole))
	}
	_, err := io.ReadFull(b, make([]byte, 4))
	require.NoError(t, err)
	require.NoError(t, b.Close())
	whole, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, text, string(whole))
	// as net/http does when it knows the length: so much, and then once more
	_, err = io.CopyN(io.Discard, b, int64(len(text)))
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, b)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestAnInboxThatIsNotBuiltInSaysHowToGetIt(t *testing.T) {
	require.NoError(t, checkInbox("sqlite"))
	require.EqualError(t, checkInbox("redis"), `this Caddy has no inbox module "redis": expected sqlite or nats`)
	if _, err := caddy.GetModule("http.fotor_webhook.inbox.nats"); err == nil {
		t.Fatal("the root package must not bring the module nats")
	}
	require.EqualError(t, checkInbox("nats"),
		"this Caddy is built without the module nats: build it with --with github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats")
}

func TestAnErrorNamesThePlaceholderOfASecretAndNothingElse(t *testing.T) {
	_, err := parseSecret("{env.FOTOR_TEST_UNSET}")
	require.EqualError(t, err, "{env.FOTOR_TEST_UNSET} is empty")
	_, err = parseSecret("c2VjcmV0{hunter2}c2VjcmV0")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter2")
}
