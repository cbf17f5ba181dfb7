package asking

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// answering serves one answer, and returns its URL and the requests.
func answering(t *testing.T, status int, body string) (url string, requests chan *http.Request) {
	t.Helper()
	requests = make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, err := w.Write([]byte(body))
		assert.NoError(t, err)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func provisioned(t *testing.T, c *Config) (*Fotor, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	c.SetDefaults()
	require.NoError(t, c.Validate())
	f, err := c.Provision(ctx)
	if err == nil {
		t.Cleanup(f.Close)
	}
	return f, err
}

func ask(t *testing.T, c *Config) (string, error) {
	t.Helper()
	f, err := provisioned(t, c)
	require.NoError(t, err)
	turn, err := f.Turn(t.Context())
	require.NoError(t, err)
	data, err := turn.Ask(t.Context(), "4711")
	return string(data), err
}

func TestAQuestionHasTheKeyOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("sk-live-4711"), 0o600))
	url, requests := answering(t, 200, `{"code":"000","msg":"success","data":{"taskId":"4711","status":1}}`)
	data, err := ask(t, &Config{Key: "{file." + file + "}", URL: url, Rate: 100})
	require.NoError(t, err)
	assert.JSONEq(t, `{"taskId":"4711","status":1}`, data)
	r := <-requests
	assert.Equal(t, "Bearer sk-live-4711", r.Header.Get("Authorization"))
	assert.Equal(t, "/v1/aiart/tasks/4711", r.URL.Path)
}

func TestWhatAnswersMean(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		want       error
	}{
		{"a refused key", "", 401, reconcile.ErrKeyRefused},
		{"too often", "", 429, reconcile.ErrTooOften},
		{"an unknown error of Fotor's", `{"code":"999","msg":"unknown error"}`, 200, reconcile.ErrNotKnown},
		{"no such task", "", 404, reconcile.ErrNotKnown},
		{"another task", `{"code":"000","data":{"taskId":"4712","status":1}}`, 200, reconcile.ErrUnusable},
		{"no JSON", "<html>", 200, reconcile.ErrUnusable},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, _ := answering(t, c.status, c.body)
			_, err := ask(t, &Config{Key: "secret" + strings.ReplaceAll(c.name, " ", ""), URL: url, Rate: 100})
			require.ErrorIs(t, err, c.want)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("trouble", func(t *testing.T) {
		url, _ := answering(t, 502, "")
		_, err := ask(t, &Config{Key: "trouble", URL: url})
		require.Error(t, err)
		for _, meaning := range meanings {
			require.NotErrorIs(t, err, meaning)
		}
	})
}

func TestQuestionsGoThroughAProxy(t *testing.T) {
	proxy, requests := answering(t, 200, `{"code":"000","data":{"taskId":"4711"}}`)
	_, err := ask(t, &Config{Key: "proxied", URL: "http://api.example.invalid/base", TransportRaw: []byte(
		`{"protocol":"http","network_proxy":{"from":"url","url":"` + proxy + `"}}`)})
	require.NoError(t, err)
	assert.Equal(t, "http://api.example.invalid/base/v1/aiart/tasks/4711", (<-requests).RequestURI)
}

func TestTheBudgetOfAnAccountOutlivesAConfig(t *testing.T) {
	url, _ := answering(t, 429, "")
	c := Config{Key: "budget", URL: url, Rate: 100}
	before, err := provisioned(t, &c)
	require.NoError(t, err)
	turn, err := before.Turn(t.Context())
	require.NoError(t, err)
	_, err = turn.Ask(t.Context(), "a")
	require.ErrorIs(t, err, reconcile.ErrTooOften)
	require.InDelta(t, 50, before.Rate(), 1e-9)

	reloaded, err := provisioned(t, &Config{Key: "budget", URL: url, Rate: 100})
	require.NoError(t, err)
	assert.InDelta(t, 50, reloaded.Rate(), 1e-9)
	other, err := provisioned(t, &Config{Key: "another account", URL: url, Rate: 100})
	require.Error(t, err, "a key with a space")
	require.Nil(t, other)
	other, err = provisioned(t, &Config{Key: "another-account", URL: url, Rate: 100})
	require.NoError(t, err)
	assert.InDelta(t, 100, other.Rate(), 1e-9)
}

func TestATurnThatIsNotUsedTeachesNothing(t *testing.T) {
	f, err := provisioned(t, &Config{Key: "unused", Rate: 100})
	require.NoError(t, err)
	turn, err := f.Turn(t.Context())
	require.NoError(t, err)
	turn.Unused()
	assert.InDelta(t, 100, f.Rate(), 1e-9)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Turn(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestErrorsOfTheConfigDoNotShowTheKey(t *testing.T) {
	for _, c := range []Config{
		{Key: "secret key"},
		{Key: "secret\nkey"},
		{Key: "secret", URL: "ftp://x"},
		{Key: "{env.NO_SUCH_VARIABLE}secret"},
		{Key: "secret", URL: "http://user:secret@host"},
		{Key: "secret", TransportRaw: []byte(`{"protocol":"fastcgi"}`)},
	} {
		_, err := provisioned(t, &c)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "secret")
		assert.Contains(t, err.Error(), "fotor_api: ")
	}
}

func TestOnlySchemeAndHostAreShown(t *testing.T) {
	f, err := provisioned(t, &Config{Key: "a", URL: "https://api.example.com:8443/token"})
	require.NoError(t, err)
	assert.Equal(t, "https://api.example.com:8443", f.Target())
}

func TestAKeyThatOthersCanReadIsNoticed(t *testing.T) {
	for url, want := range map[string]bool{
		"https://api-b.fotor.com": false, "http://localhost:8080": false, "http://api.localhost/base": false,
		"http://127.3.2.1": false, "http://[::1]:80": false, "http://[::ffff:127.0.0.1]": false,
		"http://api-b.fotor.com": true, "HTTP://10.0.0.1:8080": true, "http://[2001:db8::1]": true, "http://notlocalhost": true,
	} {
		assert.Equal(t, want, inTheOpen(url), url)
	}
}
