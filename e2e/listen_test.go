package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const listenSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// listenLine is a line of listen --json.
type listenLine struct {
	control.Notice
	Copy struct {
		HTTPStatus int    `json:"httpStatus"`
		Error      string `json:"error"`
	} `json:"copy"`
}

// linesOf returns what listen has printed so far.
func linesOf(t *testing.T, out *output) (lines []listenLine) {
	t.Helper()
	reader := bufio.NewReader(strings.NewReader(out.String()))
	for {
		text, err := reader.ReadString('\n')
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return lines
		}
		if strings.HasPrefix(text, "{") { // the others are notes
			var line listenLine
			require.NoError(t, json.Unmarshal([]byte(text), &line), text)
			lines = append(lines, line)
		}
	}
}

// Copies go to a service on the developer's machine while that is down and back, and
// while Caddy restarts. Production does not notice: each event is delivered there once,
// as before.
func TestListenCommand(t *testing.T) {
	production, app := newUpstream(t, nil), newUpstream(t, nil)
	g := newGateway(t)
	caddyfile := g.Caddyfile("forward "+production.URL+"\nsign "+listenSecret, "", silent)
	caddy := g.Run(caddyfile)
	listening := launch(t, command(t, "fotor-webhook", "listen", "--json", "--to", app.URL+"/dev",
		"--address", fmt.Sprintf("127.0.0.1:%d", g.Admin)))
	accepted := 0
	// knock accepts events until something holds
	knock := func(what string, holds func() bool) {
		await(t, func() bool {
			if holds() {
				return true
			}
			g.Accept(notice(fmt.Sprint("task-", accepted), 1))
			accepted++
			return false
		}, "%s", what)
	}
	copied := func(app *upstream, more int) func() bool {
		before := len(app.Deliveries())
		return func() bool { return len(app.Deliveries()) >= before+more }
	}
	knock("copies to come", copied(app, 3))

	// the service goes away and comes back
	app.Close()
	unheard := func() bool { return strings.Contains(listening.Output.String(), `"httpStatus":0,"error":`) }
	knock("a copy without an answer", unheard)
	again := newStoppedUpstream(nil)
	again.restart(t, app.Listener.Addr().String())
	knock("copies to come again", copied(again, 3))
	assert.Equal(t, 1, strings.Count(listening.Output.String(), "does not answer: "), "told once")
	assert.Equal(t, 1, strings.Count(listening.Output.String(), "answers again."), "told once")

	// Caddy restarts
	await(t, func() bool { return g.Events("pending") == 0 }, "deliveries")
	caddy.Terminate()
	caddy.ExitCode()
	g.Run(caddyfile)
	knock("copies after a restart", copied(again, 3))

	// a service that fails changes nothing about production
	again.Answer(status(http.StatusInternalServerError))
	knock("copies that fail", func() bool { return strings.Contains(listening.Output.String(), `"httpStatus":500`) })

	await(t, func() bool { return g.Events("pending") == 0 }, "deliveries")
	deliveries := production.Deliveries()
	require.Len(t, deliveries, accepted, "each once")
	require.Len(t, production.Counts(), accepted)
	bodies := make(map[string][]byte)
	for _, d := range deliveries {
		bodies[d.Event.ID] = d.Body
		assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"))
		assert.NotContains(t, d.Header, "Fotor-Webhook-Copy")
	}

	webhook, err := standardwebhooks.NewWebhook(listenSecret)
	require.NoError(t, err)
	copies := append(app.Deliveries(), again.Deliveries()...)
	for _, d := range copies {
		require.NoError(t, webhook.Verify(d.Body, d.Header))
		assert.Equal(t, string(bodies[d.Event.ID]), string(d.Body), "byte for byte")
		assert.Equal(t, "listen", d.Header.Get("Fotor-Webhook-Copy"))
		assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"))
		assert.Equal(t, d.Event.ID, d.Header.Get("Idempotency-Key"))
		assert.Equal(t, "/dev", d.Path)
	}
	for id, times := range countByID(copies) {
		assert.Equal(t, 1, times, id)
	}
	for _, line := range linesOf(t, listening.Output) {
		if line.Kind == control.Accepted {
			assert.Contains(t, bodies, line.ID)
		}
	}
}

// listen begins with the past if asked, and ends by itself after so many events. With
// several destinations, each signs its copies.
func TestListenSince(t *testing.T) {
	const stagingSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	production, app := newUpstream(t, nil), newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+production.URL+"\nsign "+listenSecret+"\ndestination staging {\n"+
		"forward "+production.URL+"\nsign "+stagingSecret+"\nmatch type avatar\n}", "", silent)
	for i := range 3 {
		g.Accept(notice(fmt.Sprint("task-", i), 1)) // not for staging
	}
	first := g.Accept(avatar("portrait-1"))
	second := g.Accept(avatar("portrait-2"))

	s := g.CLI("listen", "--to", app.URL, "--since", "1h")
	assert.Equal(t, 1, s.Code)
	assert.Contains(t, s.ErrOut, "choose whose copies with --destination: default, staging")

	out := g.requireCLI("listen", "--to", app.URL, "--since", "1h", "--destination", "staging", "-n", "2")
	assert.Equal(t, 2, strings.Count(out, "→ 204 in "), out)
	copies := app.Deliveries()
	require.Len(t, copies, 2)
	webhook, err := standardwebhooks.NewWebhook(stagingSecret)
	require.NoError(t, err)
	for i, id := range []string{first, second} {
		assert.Equal(t, id, copies[i].Event.ID, "in the order of arrival")
		require.NoError(t, webhook.Verify(copies[i].Body, copies[i].Header))
	}

	// what the API answers
	events := g.list(map[string][]string{"order": {"asc"}})
	assert.Equal(t, http.StatusConflict, g.API(http.MethodPost, "default/events/"+events[0].ID+"/copy?destination=staging", "").Status)
	assert.Equal(t, http.StatusNotFound, g.API(http.MethodPost, "default/events/"+strings.Repeat("0", 48)+"/copy?destination=staging", "").Status)
	answer := ask[control.Copy](g, http.MethodPost, "default/events/"+events[0].ID+"/copy?destination=default", "")
	assert.Equal(t, events[0].ID, answer.Header["Webhook-Id"])
}
