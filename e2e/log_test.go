package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logger returns global options that log everything to a file, and the file's path.
func logger(t *testing.T, format string) (options, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "caddy.log")
	return fmt.Sprintf("log {\noutput file %s\nformat %s\nlevel DEBUG\n}", path, format), path
}

// logged returns the gateway's lines of a log in JSON.
func logged(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for raw := range strings.Lines(string(text)) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(raw), &line), "%s", raw)
		if line["logger"] == "http.handlers.fotor_webhook" {
			lines = append(lines, line)
		}
	}
	return lines
}

// having returns the lines that have that value of a field.
func having(lines []map[string]any, field string, value any) (found []map[string]any) {
	for _, line := range lines {
		if line[field] == value {
			found = append(found, line)
		}
	}
	return found
}

func TestOneLineForEachCallbackAndAttempt(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, failTimes(2, status(http.StatusTeapot)))
		g := newGateway(t)
		options, path := logger(t, "json")
		g.Start(forward(up.URL)+quick, "", options)
		ids := map[string]string{}
		for _, task := range []string{"a", "b", "c"} {
			ids[task] = g.Accept(avatar(task))
		}
		g.Accept(avatar("a"))
		g.Post(`{"taskId":"d","status":7}`)
		g.delivered(3)
		g.Stop()

		lines := logged(t, path)
		assert.Len(t, having(lines, "msg", "callback accepted"), 4)
		for task, id := range ids {
			own := having(lines, "event_id", id)
			accepted := having(own, "msg", "callback accepted")
			require.NotEmpty(t, accepted)
			assert.Equal(t, task, accepted[0]["task_id"])
			assert.Equal(t, "info", accepted[0]["level"])
			assert.Equal(t, "127.0.0.1", accepted[0]["source_ip"])
			assert.Equal(t, "avatar", accepted[0]["type"])
			assert.Equal(t, "completed", accepted[0]["status"])

			failed := having(own, "msg", "attempt failed")
			require.Len(t, failed, 2)
			for i, line := range failed {
				assert.Equal(t, task, line["task_id"])
				assert.Equal(t, "warn", line["level"])
				assert.InDelta(t, i+1, line["attempt"], 0)
				assert.InDelta(t, http.StatusTeapot, line["upstream_status"], 0)
				assert.Contains(t, line["reason"], "418")
			}
			done := having(own, "msg", "event delivered")
			require.Len(t, done, 1)
			assert.Equal(t, task, done[0]["task_id"])
			assert.InDelta(t, 3, done[0]["attempt"], 0)
			assert.Len(t, own, len(accepted)+3, "and no more")
		}
		invalid := having(lines, "msg", "invalid callback")
		require.Len(t, invalid, 1)
		assert.Len(t, invalid[0]["problems"], 2)
		assert.NotZero(t, invalid[0]["quarantine_id"])
	})
}

// Refused callers cannot fill the disk with log lines.
func TestFloodOfRefusalsIsSampled(t *testing.T) {
	const flood, clients = 5000, 10
	g := newGateway(t)
	options, path := logger(t, "json")
	g.Start("forward http://127.0.0.1:9\nallow 192.0.2.1", "", options)
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			client := &http.Client{Transport: new(http.Transport)}
			defer client.CloseIdleConnections()
			for range flood / clients {
				response, err := client.Do(newRequest(t, g.URL(), http.NoBody))
				if assert.NoError(t, err) {
					assert.Equal(t, http.StatusForbidden, response.StatusCode)
					assert.NoError(t, response.Body.Close())
				}
			}
		})
	}
	wg.Wait()
	seconds := int(time.Since(began)/time.Second) + 2 // the first and the last are not whole
	g.Stop()
	lines := logged(t, path)
	assert.NotEmpty(t, having(lines, "msg", "caller refused"))
	assert.LessOrEqual(t, len(lines), 10*seconds+flood/1000, "ten a second and each thousandth")
	first := having(lines, "msg", "caller refused")[0]
	assert.Equal(t, "127.0.0.1", first["client_ip"])
	assert.Contains(t, first["peer"], "127.0.0.1:")
	assert.NotEmpty(t, first["error"])
}

// Secrets of the config appear nowhere: not in the log, even at level DEBUG, nor in
// metrics, answers and the errors of a load.
func TestSecretsStaySecret(t *testing.T) {
	const signing, password, token = "c2VjcmV0LXNpZ25pbmcta2V5LWZvci10ZXN0cw==", "pass-w0rd-of-the-url", "t0ken-of-the-url"
	forward := func(url string) string {
		return "forward http://user:" + password + "@" + strings.TrimPrefix(url, "http://") + "/events?token=" + token
	}
	up := newUpstream(t, failTimes(2, status(http.StatusInternalServerError)))
	g := newGateway(t)
	options, path := logger(t, "json")
	g.Start(forward(up.URL)+"\nsign whsec_"+signing+quick, "", options)
	var shown strings.Builder
	g.Accept(notice("task", 1))
	g.delivered(1)
	user, given, ok := (&http.Request{Header: up.Deliveries()[0].Header}).BasicAuth()
	require.True(t, ok)
	assert.Equal(t, "user "+password, user+" "+given, "the upstream gets it")
	for _, body := range []string{"{", `{"taskId":1}`, notice("more", 1)} {
		shown.WriteString(g.Post(body).Body)
	}
	shown.WriteString(g.Post("x", "Content-Type", "text/plain").Body)

	// an unreachable upstream, for which errors have the address
	load := func(options, global string) error { return g.Load(g.Caddyfile(options, "", global)) }
	nobody := fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1)[0])
	require.NoError(t, load(forward(nobody)+"\nsign "+signing+quick, options))
	g.Accept(notice("unreachable", 1))
	await(t, func() bool { return g.held() == 1 }, "the hold")
	shown.WriteString(g.get("/metrics"))

	// configs that are refused
	for name, bad := range map[string]string{
		"a scheme":      "forward ftp://user:" + password + "@127.0.0.1/?token=" + token,
		"a port":        "forward http://user:" + password + "@127.0.0.1:port/?token=" + token,
		"no host":       "forward http://user:" + password + "@/?token=" + token,
		"a fragment":    forward(up.URL) + "#fragment",
		"a path":        forward(up.URL) + "\ninbox sqlite /dev/null/inbox.db\nsign " + signing,
		"a long secret": forward(up.URL) + "\nsign " + strings.Repeat(signing, 1) + "QUJD" + signing,
		"no base64":     forward(up.URL) + "\nsign " + signing + "!",
		"a placeholder": forward(up.URL) + "\nsign {env.FOTOR_E2E_NONE}" + signing,
	} {
		err := load(bad, options)
		require.Error(t, err, name)
		shown.WriteString(err.Error() + "\n")
	}
	g.Stop()
	log, err := os.ReadFile(path)
	require.NoError(t, err)
	shown.Write(log)
	assert.Contains(t, shown.String(), "event delivered", "the log is at its most talkative")
	for _, secret := range []string{signing, strings.TrimRight(signing, "="), password, token} {
		for line := range strings.Lines(shown.String()) {
			assert.NotContains(t, line, secret)
		}
	}
}

// A text from outside stays within its field of a log line, whatever it contains.
func TestLogInjection(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			up := newUpstream(t, status(http.StatusTeapot))
			g := newGateway(t)
			options, path := logger(t, format)
			g.Start("forward "+up.URL+quick, "", options)
			const forged = "2026/11/23 12:00:00.000\tERROR\tforged\t{\"event_id\": \"forged\"}"
			hostile := []string{"\n" + forged, "\r\n" + forged, "\"}\n" + forged, "\u2028" + forged, "\x1b[2J\n" + forged, strings.Repeat("x", 100_000)}
			for _, text := range hostile {
				quoted := string(caddyconfig.JSON(text, nil))
				g.Accept(`{"taskId":` + quoted + `,"status":1,"type":` + quoted + `}`)
				g.Post(`{"taskId":"a","status":` + quoted + `,` + quoted + `:1,"type":1}`)
			}
			up.Await(t, len(hostile))
			g.Stop()
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Contains(t, string(text), "forged", "it was logged")
			for line := range strings.Lines(string(text)) {
				assert.False(t, strings.HasPrefix(line, "2026/11/23 12:00:00.000"), "%s", line)
				assert.NotContains(t, line, "\x1b[2J", "Caddy's own colours are all right")
				assert.Less(t, len(line), 8<<10)
				if format == "json" {
					assert.True(t, json.Valid([]byte(line)), "%s", line)
				}
			}
		})
	}
}
