package dashboard

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/moduletest"
)

func init() { caddy.RegisterModule(fakeApp{}) }

// fakeApp stands for the app of the gateway.
type fakeApp struct{}

func (fakeApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: caddymodule.AppID, New: func() caddy.Module { return new(fakeApp) }}
}

func (fakeApp) Start() error { return nil }

func (fakeApp) Stop() error { return nil }

func (fakeApp) Handlers() []string { return nil }

func (fakeApp) OnStart(func() error) {}

func (fakeApp) Asks(string) bool { return false }

func TestCaddyfile(t *testing.T) {
	moduletest.UnmarshalCaddyfile(t, func() caddyfile.Unmarshaler { return new(Handler) }, []moduletest.Case{
		{Name: "nothing", In: `fotor_webhook_dashboard`, Want: `{}`},
		{Name: "an empty block", In: "fotor_webhook_dashboard {\n}", Want: `{}`},
		{Name: "public", In: "fotor_webhook_dashboard {\npublic\n}", Want: `{"public": true}`},
		{Name: "hosts", In: "fotor_webhook_dashboard {\nimage_hosts a.example b.example:8443\nimage_hosts *.c.example\n}", Want: `{"image_hosts": ["a.example", "b.example:8443", "*.c.example"]}`},
		{Name: "actions", In: "fotor_webhook_dashboard {\nallow_actions\n}", Want: `{"allow_actions": true}`},
		{Name: "actions with an argument", In: "fotor_webhook_dashboard {\nallow_actions replay\n}", Err: "allow_actions has 1 arguments: expected no arguments"},
		{Name: "no hosts", In: "fotor_webhook_dashboard {\nimage_hosts off\n}", Want: `{"image_hosts": []}`},
		{Name: "an argument", In: `fotor_webhook_dashboard a b`, Err: "unexpected argument 'a': expected a matcher, a block, or nothing"},
		{Name: "public with an argument", In: "fotor_webhook_dashboard {\npublic yes\n}", Err: "public has 1 arguments: expected no arguments"},
		{Name: "hosts without any", In: "fotor_webhook_dashboard {\nimage_hosts\n}", Err: "image_hosts: expected one host or more, such as images.example.com, or off"},
		{Name: "hosts with a block", In: "fotor_webhook_dashboard {\nimage_hosts a {\nb\n}\n}", Err: "image_hosts: expected one host or more"},
		{Name: "an unknown option", In: "fotor_webhook_dashboard {\nimagehosts a\n}", Err: "unknown option 'imagehosts': expected image_hosts, public or allow_actions"},
	})
}

func TestHostsAreChecked(t *testing.T) {
	for _, host := range []string{"images.example.com", "*.example.com", "localhost:8080", "192.0.2.7", "a_b.example"} {
		require.NoError(t, moduletest.Provision(&provisioned{&Handler{ImageHosts: []string{host}}}), host)
	}
	// whatever gets into the header is a host
	for _, host := range []string{
		"", "*", "*.", "https://example.com", "example.com/a", "example.com; script-src *", "a b", "'unsafe-inline'",
		"EXAMPLE.com", "a..b", "-a", "a:", "a:b", "[::1]", "a\n", strings.Repeat("a", 256), "data:", "off a",
	} {
		err := moduletest.Provision(&provisioned{&Handler{ImageHosts: []string{host}}})
		require.ErrorContains(t, err, "expected a host in lower case without scheme and path", host)
	}
	require.ErrorContains(t, moduletest.Provision(&provisioned{&Handler{ImageHosts: make([]string, 33)}}), "image_hosts has 33 hosts: expected at most 32")
}

// provisioned is the handler without an app.
type provisioned struct{ *Handler }

func (p *provisioned) Provision(caddy.Context) error { return nil }

// A guard is found wherever a config may have it; none is imagined.
func TestGuards(t *testing.T) {
	const hash = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"
	const auth = "basic_auth {\nbob " + hash + "\n}\n"
	const dashboard = "fotor_webhook_dashboard\n"
	for name, c := range map[string]struct {
		config  string
		guarded bool
	}{
		"none":                          {":80 {\n" + dashboard + "}", false},
		"none, in a handle":             {":80 {\nhandle_path /a/* {\n" + dashboard + "}\n}", false},
		"none, on an address":           {"http://192.0.2.7 {\nbind 192.0.2.7\n" + dashboard + "}", false},
		"none, beside one":              {":80 {\nhandle /a/* {\n" + auth + "}\nhandle {\n" + dashboard + "}\n}", false},
		"none, before one":              {":80 {\nroute {\n" + dashboard + auth + "}\n}", false},
		"none, with a plain proxy":      {":80 {\nroute {\nreverse_proxy /a 127.0.0.1:1\n" + dashboard + "}\n}", false},
		"none, with an answer":          {":80 {\nrespond /a 403\n" + dashboard + "}", false},
		"none, on one of two sites":     {":80 {\n" + auth + dashboard + "}\n:81 {\n" + dashboard + "}", false},
		"none, on another site":         {"http://a.example {\n" + auth + "}\nhttp://b.example {\n" + dashboard + "}", false},
		"basic_auth":                    {":80 {\n" + auth + dashboard + "}", true},
		"basic_auth outside":            {":80 {\nbasic_auth /a/* {\nbob " + hash + "\n}\nhandle_path /a/* {\n" + dashboard + "}\n}", true},
		"basic_auth inside":             {":80 {\nhandle_path /a/* {\n" + auth + dashboard + "}\n}", true},
		"forward_auth":                  {":80 {\nroute {\nforward_auth 127.0.0.1:1 {\nuri /a\n}\n" + dashboard + "}\n}", true},
		"an address may":                {":80 {\n@in client_ip 192.0.2.0/24\nhandle @in {\n" + dashboard + "}\n}", true},
		"an address may, on the module": {":80 {\n@in remote_ip 192.0.2.0/24\nfotor_webhook_dashboard @in\n}", true},
		"others may not":                {":80 {\n@out not client_ip private_ranges\nabort @out\n" + dashboard + "}", true},
		"a named route":                 {"&(d) {\n" + dashboard + "}\n:80 {\n" + auth + "invoke d\n}", true},
		"a named route without":         {"&(d) {\n" + dashboard + "}\n:80 {\ninvoke d\n}", false},
		"client certificates":           {"a.example {\ntls internal {\nclient_auth {\nmode require\n}\n}\n" + dashboard + "}", true},
		"client certificates, or not":   {"a.example {\ntls internal {\nclient_auth {\nmode request\n}\n}\n" + dashboard + "}", false},
		"this machine":                  {"http://localhost {\nbind 127.0.0.1 ::1\n" + dashboard + "}", true},
		"a socket":                      {"http:// {\nbind unix//run/a.sock\n" + dashboard + "}", true},
		"localhost as a name only":      {"http://localhost {\n" + dashboard + "}", false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.guarded, guarded(t, c.config)) })
	}
}

// The style and the script are compressed, and cached for ever.
func TestAssets(t *testing.T) {
	s := newSite(&Handler{})
	for name, a := range assets {
		for _, accept := range []string{"", "br, gzip;q=0.5", "gzip;q=0, identity"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/any/prefix/"+a.name, nil)
			r.Header.Set("Accept-Encoding", accept)
			w := httptest.NewRecorder()
			require.NoError(t, s.serve(w, r))
			require.Equal(t, http.StatusOK, w.Code, name)
			require.Equal(t, "public, max-age=31536000, immutable", w.Header().Get("Cache-Control"))
			body := io.Reader(w.Body)
			if strings.Contains(accept, "0.5") {
				require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
				unzipped, err := gzip.NewReader(body)
				require.NoError(t, err)
				body = unzipped
			}
			content, err := io.ReadAll(body)
			require.NoError(t, err)
			require.Equal(t, a.content, content, "%s for %q", name, accept)
		}
	}
	require.Less(t, len(assets["app.js"].content), 20<<10)
}

// The headers are on every answer, those of failures and files included.
func TestHeaders(t *testing.T) {
	s := newSite(&Handler{ImageHosts: []string{"a.example", "*.b.example"}})
	for _, path := range []string{"/", "/events", "/nonsense", "/" + assets["app.css"].name} {
		w := httptest.NewRecorder()
		require.NoError(t, s.serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, path, nil)))
		require.Equal(t, "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "+
			"img-src 'self' a.example *.b.example; media-src 'self' a.example *.b.example; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", w.Header().Get("Content-Security-Policy"))
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
		require.Zero(t, w.Body.Len(), "that is HEAD")
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodOptions, "EVIL"} {
		for path, h := range map[string]*Handler{"/events": {AllowActions: true}, "/replay": {}, "/try": {}} {
			w := httptest.NewRecorder()
			err := newSite(h).serve(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			require.ErrorContains(t, err, "the dashboard takes GET and HEAD", method)
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
	}
}

// Without a handler, pages say what to do.
func TestNoHandlerRuns(t *testing.T) {
	for path, status := range map[string]int{"/": 200, "/events": 404, "/problems": 404, "/whitelist": 404} {
		w := httptest.NewRecorder()
		require.NoError(t, newSite(&Handler{}).serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)))
		require.Equal(t, status, w.Code, path)
		require.Contains(t, w.Body.String(), "No handler is running", path)
	}
}

func TestJSONKeepsAnEmptyList(t *testing.T) {
	var h Handler
	require.NoError(t, json.Unmarshal([]byte(`{"image_hosts": []}`), &h))
	require.NotNil(t, h.ImageHosts)
	require.Empty(t, h.ImageHosts)
}
