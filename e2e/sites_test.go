package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documented returns the Caddyfile on a page that has the site of that name.
func documented(t *testing.T, page, site string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(page)))
	require.NoError(t, err)
	for _, fence := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
		if strings.Contains(fence[1], "\n"+site+" {\n") || strings.HasPrefix(fence[1], site+" {\n") {
			return fence[1]
		}
	}
	require.FailNow(t, "no such site", "%s in %s", site, page)
	return ""
}

// Each example of a site with further handlers accepts callbacks, and the other handlers
// still work.
func TestDocumentedSites(t *testing.T) {
	t.Setenv("FOTOR_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	www := t.TempDir()
	for name, content := range map[string]string{"index.html": "the app", "page.txt": "a file", "index.php": "<?php"} {
		require.NoError(t, os.WriteFile(filepath.Join(www, name), []byte(content), 0o600))
	}
	php := listen(t, "127.0.0.1:0")
	go fcgi.Serve(php, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:errcheck // it ends with the test
		fmt.Fprint(w, "php ran "+r.URL.Path)
	}))
	for _, c := range []struct {
		page, site    string
		path, content string // for another handler of the site
		status        int
		elsewhere     int // status for a callback to another path
	}{
		{"README.md", "callbacks.example.com", "/", "", 404, 404},
		{"docs/production.md", "handle.example.com", "/page", "the service", 200, 200},
		{"docs/production.md", "spa.example.com", "/some/view", "the app", 200, 405},
		{"docs/production.md", "php.example.com", "/some/view", "php ran ", 200, 200},
		{"docs/production.md", "files.example.com", "/page.txt", "a file", 200, 404},
	} {
		t.Run(c.site, func(t *testing.T) {
			up := newUpstream(t, nil)
			g := newGateway(t)
			_, body, _ := strings.Cut("\n"+documented(t, c.page, c.site), "\n"+c.site+" {\n")
			site := strings.NewReplacer(
				"fotor_webhook /fotor/callback https://app.example.com/fotor-events\n",
				"fotor_webhook /fotor/callback "+up.URL+"/fotor-events {\nallow 127.0.0.1\ninbox sqlite "+g.DB+"\n}\n",
				"https://app.example.com/fotor-events", up.URL+"/fotor-events",
				"forward http://app.internal:8080", "forward "+up.URL,
				"app.internal:8080", service(t),
				"app.internal:9000", php.Addr().String(),
				"/srv/www", www, "/srv/php", www,
				"fotor_webhook {", "fotor_webhook {\nallow 127.0.0.1\ninbox sqlite "+g.DB,
				"fotor_webhook /fotor/callback {", "fotor_webhook /fotor/callback {\nallow 127.0.0.1\ninbox sqlite "+g.DB,
			).Replace(body)
			t.Cleanup(g.Stop)
			require.NoError(t, g.Load(g.Globals(silent)+g.Site(strings.TrimSuffix(site, "}\n"))))
			url := fmt.Sprintf("http://127.0.0.1:%d", g.Port)
			sent := g.CLI("send", url+"/fotor/callback", "--repeat", "3")
			assert.Zero(t, sent.Code, "%s%s", sent.Out, sent.ErrOut)
			await(t, func() bool { return len(up.Deliveries()) == 3 }, "the events to arrive")

			status, content := fetch(t, url+c.path)
			assert.Equal(t, c.status, status)
			assert.Contains(t, content, c.content)

			lost := g.CLI("send", url+"/fotor/elsewhere")
			assert.Equal(t, 5, lost.Code, "%s%s", lost.Out, lost.ErrOut)
			assert.Contains(t, lost.Out, fmt.Sprintf("HTTP %d\t1", c.elsewhere))
			assert.Contains(t, lost.ErrOut, "1 answer came from something else than fotor_webhook")
			assert.Zero(t, g.CLI("status", "--check").Code)
		})
	}
}

// If no route matches, Caddy answers an empty 200, which does not mean accepted.
func TestSendWhereNoRouteMatches(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", silent)
	lost := g.CLI("send", fmt.Sprintf("http://127.0.0.1:%d/nowhere", g.Port), "--json")
	assert.Equal(t, 5, lost.Code)
	assert.Contains(t, lost.Out, `"httpStatus":200,"accepted":false,"error":"not accepted: this is no answer of fotor_webhook: it is empty"`)
	assert.Contains(t, lost.ErrOut, "is its path that of the URL")
}

func fetch(t *testing.T, url string) (status int, content string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := roundTrip(client, r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// service starts another service of a site and returns its address.
func service(t *testing.T) string {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "the service")
	})}
	go server.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}
