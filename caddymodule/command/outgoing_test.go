package command

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// heard is a gateway that remembers the last request.
type heard struct{ last *http.Request }

func (h *heard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.last = r
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, `{"id":"`+id(1)+`"}`)
}

func TestOutgoingErrors(t *testing.T) {
	for name, args := range map[string]string{
		"send_header_no_colon":      "send http://fotor.test -H X-Forwarded-For",
		"send_header_bad_name":      "send http://fotor.test --header X\u00a0Y:1",
		"send_header_two_lines":     "send http://fotor.test --header X-Test:a\nHost:b",
		"send_header_length":        "send http://fotor.test --header content-length:5",
		"send_header_host":          "send http://fotor.test --header Host:",
		"send_resolve_bad":          "send https://fotor.test --resolve fotor.test:443",
		"send_resolve_name":         "send https://fotor.test --resolve fotor.test:443:localhost",
		"send_resolve_port":         "send https://fotor.test --resolve fotor.test:99999:127.0.0.1",
		"send_resolve_another_host": "send https://fotor.test --resolve fotor.test:80:127.0.0.1 --resolve app.test:443:127.0.0.1",
	} {
		t.Run(name, func(t *testing.T) {
			given := strings.Split(args, " ")
			golden(t, name, given, run(t, testEnvironment(), given...))
		})
	}
}

// TestSendHeaders checks that headers are sent as with curl's -H.
func TestSendHeaders(t *testing.T) {
	h := new(heard)
	target, _ := serve(t, h)
	r := run(t, testEnvironment(), "send", target, "-H", "Content-Type: text/plain; charset=x", "-H", "Host: fotor.test",
		"--header", "x-forwarded-for: 203.0.113.7, 10.0.0.1", "--header", "X-Twice: 1", "--header", "X-Twice:2",
		"--header", "X-Empty;", "--header", "User-Agent:", "--header", "X-Name: 任务\t1")
	require.Zero(t, r.code, r.stdout)
	assert.Equal(t, "fotor.test", h.last.Host)
	assert.Equal(t, []string{"text/plain; charset=x"}, h.last.Header["Content-Type"])
	assert.Equal(t, []string{"203.0.113.7, 10.0.0.1"}, h.last.Header["X-Forwarded-For"])
	assert.Equal(t, []string{"1", "2"}, h.last.Header["X-Twice"])
	assert.Equal(t, []string{""}, h.last.Header["X-Empty"])
	assert.Equal(t, []string{"任务\t1"}, h.last.Header["X-Name"])
	assert.NotContains(t, h.last.Header, "User-Agent")

	require.Zero(t, run(t, testEnvironment(), "send", target).code)
	assert.Equal(t, []string{"application/json"}, h.last.Header["Content-Type"])
	assert.Equal(t, "caddy-fotor-webhook-send", h.last.UserAgent())
}

// TestSendInsecure has a server with a certificate that nobody knows.
func TestSendInsecure(t *testing.T) {
	server := httptest.NewTLSServer(new(heard))
	defer server.Close()
	r := run(t, testEnvironment(), "send", server.URL)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout, "certificate signed by unknown authority; --insecure sends all the same")
	require.Empty(t, r.stderr)

	r = run(t, testEnvironment(), "send", server.URL, "-k")
	require.Zero(t, r.code, r.stdout)
	require.Equal(t, "The certificate is not verified (--insecure): whoever answers may be anyone.\n", r.stderr)
}

// TestSendResolve connects to addresses in place of the URL's host, the first of which
// does not listen.
func TestSendResolve(t *testing.T) {
	h := new(heard)
	target, _ := serve(t, h)
	u, err := url.Parse(target)
	require.NoError(t, err)
	for _, entry := range []string{"FOTOR.test:PORT:127.0.0.1", "fotor.test:PORT:[::1],127.0.0.1", "*:PORT:127.0.0.1"} {
		entry = strings.ReplaceAll(entry, "PORT", u.Port())
		r := run(t, testEnvironment(), "send", "http://Fotor.test:"+u.Port(), "--resolve", entry)
		require.Zero(t, r.code, r.stdout)
		require.Equal(t, "Fotor.test:"+u.Port(), h.last.Host)
	}
}

// TestResolveGoesAroundAProxy checks that --resolve connects to its address itself: a proxy
// would connect elsewhere.
func TestResolveGoesAroundAProxy(t *testing.T) {
	o := &outgoing{url: "http://fotor.test"}
	require.NotNil(t, o.client(nil, 1).Transport.(*http.Transport).Proxy)
	o.addresses = map[string][]string{"fotor.test:80": {"127.0.0.1:80"}}
	require.Nil(t, o.client(nil, 1).Transport.(*http.Transport).Proxy)
}

func TestParseResolve(t *testing.T) {
	for entry, want := range map[string][]string{ // the target, then the addresses
		"a.example:443:127.0.0.1":      {"a.example:443", "127.0.0.1:443"},
		"A.example:80:::1":             {"a.example:80", "[::1]:80"},
		"a.example:80:[::1],127.0.0.1": {"a.example:80", "[::1]:80", "127.0.0.1:80"},
		"[2001:DB8::1]:80:127.0.0.1":   {"[2001:db8::1]:80", "127.0.0.1:80"},
		"*:8080:10.0.0.1":              {"*:8080", "10.0.0.1:8080"},
		"a.example:443":                nil,
		"a.example:443:":               nil,
		"a.example:https:127.0.0.1":    nil,
		"a.example:0:127.0.0.1":        nil,
		"a.example:80:127.0.0.1,":      nil,
		":80:127.0.0.1":                nil,
		"-a.example:80":                nil,
		"[::1:80:127.0.0.1":            nil,
		"":                             nil,
	} {
		target, addresses, ok := parseResolve(entry)
		require.Equal(t, want != nil, ok, entry)
		if ok {
			require.Equal(t, want, append([]string{target}, addresses...), entry)
		}
	}
}
