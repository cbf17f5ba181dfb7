package command

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the adapter
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAddresses makes a request to every form of address.
func TestAddresses(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	_, port, err := net.SplitHostPort(f.addr)
	require.NoError(t, err)

	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	overSocket := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Origin"))
		assert.Equal(t, "127.0.0.1", r.Host)
		writeBody(w, `{"handlers":[]}`)
	})}
	go overSocket.Serve(listener) //nolint:errcheck // ends with the test
	t.Cleanup(func() { overSocket.Close() })

	for _, address := range []string{
		"127.0.0.1:" + port, "tcp/127.0.0.1:" + port, "tcp4/127.0.0.1:" + port,
		"unix/" + socket, "unix/" + socket + "|0220",
	} {
		t.Run(address, func(t *testing.T) {
			c, err := newClient(address, nil)
			require.NoError(t, err)
			_, err = c.handlers(t.Context())
			require.NoError(t, err)
		})
	}
}

// TestWrongAddresses checks that each common mistake is answered with the right form.
func TestWrongAddresses(t *testing.T) {
	for address, expected := range map[string]string{
		"http://localhost:2020":     ", but a URL: expected localhost:2020",
		"http://[::1]:2020/config/": ", but a URL: expected [::1]:2020",
		"https://localhost":         ", but a URL: expected localhost:2019",
		"unix:///run/caddy.sock":    ", but a URL: expected unix//run/caddy.sock",
		"unix:/run/caddy.sock":      ": expected unix//run/caddy.sock",
		"unix:run/caddy.sock":       ": expected unix//run/caddy.sock",
		"/run/caddy.sock":           ", but a path: expected unix//run/caddy.sock",
		"unix/run/caddy.sock":       ": with one slash it is the file run/caddy.sock in this directory, which is not there: expected unix//run/caddy.sock",
		"unix/\x1b[1m":              ": with one slash it is the file \x1b[1m in this directory, which is not there: expected \"unix//\\x1b[1m\"",
		"fd/3":                      ", but a file descriptor that Caddy listens at: expected the address behind it, host:port or unix//path",
		"udp/localhost:2019":        ": expected host:port or unix//path",
		"localhost":                 ": expected one port, such as localhost:2019",
		"localhost:2019-2025":       ": expected one port, such as localhost:2019",
		"localhost:0":               ": expected one port, such as localhost:2019",
		"localhost:port":            ` (invalid start port: strconv.ParseUint: parsing "port": invalid syntax): expected host:port or unix//path`,
	} {
		_, err := newClient(address, nil)
		require.EqualError(t, err, fmt.Sprintf("%q is no address of an admin endpoint%s", address, expected))
	}
	c, err := newClient(":2019", nil)
	require.NoError(t, err)
	require.Equal(t, "http://localhost:2019", c.origin)
}

// TestAddressOfAConfig reads the address of the admin endpoint from configs.
func TestAddressOfAConfig(t *testing.T) {
	t.Setenv("FOTOR_TEST_ADMIN", "127.0.0.1:2021")
	for _, c := range []struct{ name, text, adapter, address, err string }{
		{"Caddyfile", "{\nadmin off\n}\n:80", "", "", "turns the admin endpoint off (admin off), and this command asks it"},
		{"off.json", `{"admin":{"disabled":true,"listen":"localhost:2020"}}`, "", "", "turns the admin endpoint off (admin off)"},
		{"Caddyfile", "{\nadmin unix//run/x.sock\n}\n:80", "", "unix//run/x.sock", ""},
		{"other.conf", "{\nadmin localhost:2020\n}\n:80", "caddyfile", "localhost:2020", ""},
		{"Caddyfile", ":80", "", caddy.DefaultAdminListen, ""},
		{"env.json", `{"admin":{"listen":"{env.FOTOR_TEST_ADMIN}"}}`, "", "127.0.0.1:2021", ""},
		{"Caddyfile", "{\nadmin {env.FOTOR_TEST_ADMIN}\n}\n:80", "", "127.0.0.1:2021", ""},
		{"env.json", `{"admin":{"listen":"{env.FOTOR_TEST_NOWHERE}"}}`, "", "", "the environment here may not be that of Caddy"},
		{"odd.json", `{"admin":{"listen":7}}`, "", "", "reading the address of the admin endpoint"},
		{"bad.json", `{`, "", "", "--config"},
	} {
		file := filepath.Join(t.TempDir(), c.name)
		require.NoError(t, os.WriteFile(file, []byte(c.text), 0o600))
		address, err := adminAddress("", file, c.adapter)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.text)
			r := run(t, testEnvironment(), "status", "--config", file)
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.stderr, c.err)
			continue
		}
		require.NoError(t, err, c.text)
		require.Equal(t, c.address, address, c.text)
	}
	_, err := adminAddress("", "", "caddyfile")
	require.EqualError(t, err, "--adapter is for --config, which is not given")
	address, err := adminAddress("unix//x", "/nowhere", "")
	require.NoError(t, err)
	require.Equal(t, "unix//x", address, "--address goes before --config")
}

// TestUnreachable checks that the error names the address and what to do.
func TestUnreachable(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	for _, address := range []string{addr, "unix/" + filepath.Join(t.TempDir(), "none.sock")} {
		r := run(t, testEnvironment(), "list", "--address", address)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stderr, "Error: no answer from "+address+": dial ")
		require.Contains(t, r.stderr, "is Caddy running, and is its admin endpoint at "+address+"? --address or --config tell another\n")
		require.NotContains(t, r.stderr, "fotor_webhook/") // the user does not know the URL
	}
}

// TestAnswers has answers that the API does not give.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		code   int
		want   string
	}{
		"not found without a word": {404, "", exitNotFound, "no reason given (HTTP 404 from the admin endpoint at ADDRESS); does this Caddy have the fotor_webhook module?"},
		"not Caddy's not found":    {404, "404 page not found\n", exitNotFound, "404 page not found (HTTP 404 from the admin endpoint at ADDRESS); does this Caddy have the fotor_webhook module?"},
		"Caddy's not found":        {404, `{"error":"no such handler"}`, exitNotFound, "no such handler (HTTP 404 from the admin endpoint at ADDRESS)\n"},
		"Caddy's error":            {400, `{"error":"limit \"x\": expected 1 to 1000"}`, exitFailed, `limit "x": expected 1 to 1000 (HTTP 400 from`},
		"hostile":                  {500, `{"error":"\u001b[31m\u202e"}`, exitFailed, `Error: "\x1b[31m\u202e" (HTTP 500 from`},
		"text":                     {502, "bad gateway\n", exitFailed, "bad gateway (HTTP 502 from"},
		"no JSON":                  {200, "<html>", exitFailed, "the answer of ADDRESS is not what this version expects: invalid character '<'"},
		"other JSON":               {200, `{"handlers":7}`, exitFailed, "the answer of ADDRESS is not what this version expects: json: cannot unmarshal number"},
		"no rows":                  {200, `{"handlers":[{"name":"h"}]}`, exitFailed, `the answer of ADDRESS is not what this version expects: it has no "events"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				writeBody(w, c.body)
			}))
			r := run(t, testEnvironment(), "list", "--address", addr)
			require.Equal(t, c.code, r.code)
			require.Contains(t, strings.ReplaceAll(r.stderr, addr, "ADDRESS"), c.want)
		})
	}
}

// TestCanceled ends the context while the server does not answer.
func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	released := make(chan struct{})
	_, addr := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-released
	}))
	t.Cleanup(func() { close(released) })
	c, err := newClient(addr, nil)
	require.NoError(t, err)
	_, err = c.handlers(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 340 * time.Microsecond: "340µs", 12345678: "12.35ms", 999 * time.Millisecond: "999ms",
		59 * time.Second: "59s", 61 * time.Second: "1m 1s", time.Hour: "1h", 90 * time.Minute: "1h 30m",
		25 * time.Hour: "1d 1h", 168 * time.Hour: "7d", -time.Minute: "-1m",
	} {
		require.Equal(t, want, span(d))
	}
	require.Equal(t, "1.23s", latency(1234*time.Millisecond))
	require.Equal(t, `"\x1b"`, configDuration("\x1b"))
}

// TestColor checks that the flag, the terminal and the environment decide about colours.
func TestColor(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	for _, c := range []struct {
		flag     string
		terminal bool
		variable string
		want     bool
	}{
		{"auto", true, "", true},
		{"auto", false, "", false},
		{"auto", true, "NO_COLOR=1", false},
		{"auto", true, "TERM=dumb", false},
		{"always", false, "NO_COLOR=1", true},
		{"never", true, "", false},
	} {
		env := testEnvironment()
		env.stdoutTerminal = c.terminal
		env.getenv = func(name string) string {
			value, _ := strings.CutPrefix(c.variable, name+"=")
			if value == c.variable {
				return ""
			}
			return value
		}
		r := run(t, env, "list", "--address", f.addr, "--color", c.flag)
		require.Equal(t, c.want, strings.Contains(r.stdout, "\x1b["), "%+v", c)
	}
}

// TestOutputFails checks that a full disk is an error, and a reader that has gone is not.
func TestOutputFails(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	for _, command := range []string{"list --limit 0", "list --json --limit 0", "status", "show " + id(1)} {
		for _, c := range []struct {
			err    error
			code   int
			stderr string
		}{
			{errBrokenPipe, exitDone, ""},
			{errDiskFull, exitFailed, "Error: writing the output: no space left on device\n"},
		} {
			env := testEnvironment()
			var stderr strings.Builder
			env.stdout, env.stderr = &output{w: &failingWriter{left: 100, err: c.err}}, &stderr
			before := len(f.asked())
			code := runTo(t, env, append(strings.Fields(command), "--address", f.addr)...)
			require.Equal(t, c.code, code, command)
			require.Equal(t, c.stderr, stderr.String())
			require.LessOrEqual(t, len(f.asked())-before, 2, "it goes on to ask though nobody reads")
		}
	}
}
