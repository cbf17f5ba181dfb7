package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// buildCaddy builds Caddy as it is released.
func buildCaddy(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "caddy")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-C", filepath.Join("..", "..", ".."), "-o", path, "./cmd/caddy").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}

// serveNATS starts a NATS server with JetStream and returns its URL.
func serveNATS(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(patience))
	return s.ClientURL()
}

// caddy is a running Caddy.
type caddy struct {
	t           *testing.T
	admin, http string // addresses
}

// freeAddress returns an address at which nobody listens. Its port is below those of outgoing
// connections, which others take until it is used.
func freeAddress(t *testing.T) string {
	t.Helper()
	const lowest, highest = 15000, 32000
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", lowest+rand.IntN(highest-lowest))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

// startCaddy starts a Caddy with these options of its handler.
func startCaddy(t *testing.T, binary, options string) *caddy {
	t.Helper()
	c := &caddy{t: t, admin: freeAddress(t), http: freeAddress(t)}
	home := t.TempDir()
	file := filepath.Join(home, "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(c.config(options)), 0o600))
	cmd := exec.Command(binary, "run", "--config", file) //nolint:noctx // it is killed below
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", output.String())
		}
	})
	name := nameIn(options)
	c.await("it to serve", func() bool {
		status, handlers, err := c.ask(http.MethodGet, "http://"+c.admin+"/fotor_webhook", "", "")
		return err == nil && status == http.StatusOK && strings.Contains(handlers, `"`+name+`"`)
	})
	c.await("it to listen", func() bool {
		status, _, err := c.ask(http.MethodGet, "http://"+c.http, "", "")
		return err == nil && status == http.StatusOK
	})
	return c
}

func (c *caddy) config(options string) string {
	name := nameIn(options)
	return fmt.Sprintf("{\n admin %s\n auto_https off\n persist_config off\n log {\n level ERROR\n}\n}\n"+
		"http://%s {\n fotor_webhook /hook {\n allow 127.0.0.1\n%s\n}\n fotor_tasks /v1/* %s\n}\n", c.admin, c.http, options, name)
}

// nameIn returns the handler's name, which options begin with after the word name.
func nameIn(options string) string { return strings.Fields(options)[1] }

// load loads a config with these options of the handler.
func (c *caddy) load(options string) {
	c.t.Helper()
	status, body, err := c.ask(http.MethodPost, "http://"+c.admin+"/load", "text/caddyfile", c.config(options))
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, status, body)
}

// callback sends a callback and checks the status of the answer.
func (c *caddy) callback(body string, want int) {
	c.t.Helper()
	status, answer, err := c.ask(http.MethodPost, "http://"+c.http+"/hook", "application/json", body)
	require.NoError(c.t, err)
	require.Equal(c.t, want, status, answer)
}

// do asks the admin API for something.
func (c *caddy) do(method, path, body string) {
	c.t.Helper()
	status, answer, err := c.ask(method, "http://"+c.admin+"/fotor_webhook/"+path, "application/json", body)
	require.NoError(c.t, err)
	require.Less(c.t, status, 300, answer)
}

// metrics returns what Prometheus would scrape.
func (c *caddy) metrics() string {
	c.t.Helper()
	status, body, err := c.ask(http.MethodGet, "http://"+c.admin+"/metrics", "", "")
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, status)
	return body
}

func (c *caddy) ask(method, url, mediaType, body string) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewBufferString(body))
	if err != nil {
		return 0, "", err
	}
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// await waits until a condition holds.
func (c *caddy) await(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		require.True(c.t, time.Now().Before(deadline), "waiting for %s", what)
	}
}
