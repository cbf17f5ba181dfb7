package fotorapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestConfigsThatAreRefused(t *testing.T) {
	for target, want := range map[string]string{
		"api-b.fotor.com":              `the url of Fotor's API is "api-b.fotor.com"`,
		"ftp://api-b.fotor.com":        `the url of Fotor's API is "ftp://api-b.fotor.com"`,
		"https://":                     "the url of Fotor's API is",
		"https://a\nb":                 "is no URL",
		"https://me:secret@fotor.test": "has a user or password",
		"https://fotor.test/?a=b":      "has a query or fragment",
		"https://fotor.test/#a":        "has a query or fragment",
	} {
		_, err := New(Config{URL: target, Key: testKey})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "expected http or https and a host, such as https://api-b.fotor.com")
		require.NotContains(t, err.Error(), "secret")
		_, err = AccountOf(target, testKey)
		require.ErrorContains(t, err, want)
	}
	const expected = ": expected 1 to 4096 visible ASCII characters in one line"
	for key, want := range map[string]string{
		"":                         "is empty",
		"secretkey\n":              "has a line break as byte 10 of 10",
		"secret\r\nX: y":           "has a line break as byte 7 of 12",
		" secret":                  "has a space or tab as byte 1 of 7",
		"secret\x00":               "has a control character as byte 7 of 7",
		"secret密":                  "has a character that is not ASCII as byte 7 of 9",
		strings.Repeat("s", 1<<16): "has 65536 bytes",
	} {
		_, err := New(Config{Key: key})
		require.EqualError(t, err, "the key of Fotor's API "+want+expected)
	}
	_, err := New(Config{Key: testKey, Timeout: -1})
	require.ErrorContains(t, err, "the timeout is -1ns: expected more than 0")
	c, err := New(Config{Key: testKey})
	require.NoError(t, err)
	require.InDelta(t, DefaultRate, c.Rate(), 0)
}

func TestAccountStandsForURLAndKey(t *testing.T) {
	of := func(target, key string) string {
		t.Helper()
		c := newClient(t, Config{URL: target, Key: key})
		found, err := AccountOf(target, key)
		require.NoError(t, err)
		require.Equal(t, c.Account(), found)
		require.NotContains(t, found, key)
		return found
	}
	one := of("https://fotor.test", "key-one")
	require.Equal(t, one, of("HTTPS://Fotor.test/", "key-one"))
	require.Equal(t, of("", "key-one"), of(DefaultURL, "key-one"))
	for _, other := range []string{of("https://fotor.test", "key-two"), of("http://fotor.test", "key-one"), of("https://fotor.test/A", "key-one")} {
		require.NotEqual(t, one, other)
	}
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNoErrorHasTheKey lets everything repeat the key, in every spelling that is known.
func TestNoErrorHasTheKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[!-~]{8,40}`).Draw(t, "key")
		spelled := rapid.SampledFrom([]string{key, url.QueryEscape(key), url.PathEscape(key), strconv.Quote(key), "x" + key + key, "\x1b" + key}).Draw(t, "spelled")
		junk := strings.Repeat("y", rapid.IntRange(0, 300).Draw(t, "junk"))
		text := junk + spelled + junk
		status := rapid.SampledFrom([]int{200, 201, 302, 400, 401, 404, 407, 429, 500, 503}).Draw(t, "status")
		body := rapid.SampledFrom([]string{
			text, `{"code":` + strconv.Quote(text) + `,"msg":` + strconv.Quote(text) + `}`, `{` + strconv.Quote(text) + `:1,` + strconv.Quote(text) + `:1}`,
			`{"code":"000","data":{"taskId":` + strconv.Quote(text) + `}}`, `{"code":"000","data":` + strconv.Quote(text) + `}`,
		}).Draw(t, "body")
		fails := rapid.Bool().Draw(t, "fails")
		c, err := New(Config{URL: "http://fotor.test", Key: key, Budget: NewAdaptive(MaxRate), Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if fails {
				return nil, errors.New(text + r.Header.Get("Authorization"))
			}
			return &http.Response{
				StatusCode: status, Body: io.NopCloser(strings.NewReader(body)),
				Header: http.Header{"Location": {"http://" + key + ".test/" + text}, "Content-Encoding": {rapid.SampledFrom([]string{"", text}).Draw(t, "encoding")}},
			}, nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		_, failed := c.Task(context.Background(), "task")
		_, failedCheck := c.Check(context.Background())
		for _, err := range []error{failed, failedCheck} {
			e, failed := errors.AsType[*Error](err)
			if !failed { // credits that look like a key
				continue
			}
			for _, shown := range []string{err.Error(), e.Code, fmt.Sprintf("%+v %#v", *e, *e)} {
				for _, spelling := range []string{key, url.QueryEscape(key), url.PathEscape(key)} {
					if strings.Contains(shown, spelling) {
						t.Fatalf("the key %q is shown as %q", key, shown)
					}
				}
			}
		}
	})
}
