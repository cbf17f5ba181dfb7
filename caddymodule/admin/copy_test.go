package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Copy says for which destination it made the header.
func (g *fakeGateway) Copy(e *inbox.Event, destination string) map[string]string {
	return map[string]string{"Webhook-Id": e.ID, "For": destination}
}

func TestCopyOfAnEvent(t *testing.T) {
	const body = `"body":"{}","bodyEncoding":"utf-8"}`
	for name, c := range map[string]struct {
		destinations []string
		query        string
		status       int
		answer       string
	}{
		"the only destination": {[]string{"app"}, "", 200, `{"id":"e1","destination":"app","header":{"For":"app","Webhook-Id":"e1"},` + body},
		"one of several":       {[]string{"app", "new"}, "destination=new", 200, `{"id":"e1","destination":"new","header":{"For":"new","Webhook-Id":"e1"},` + body},
		"several":              {[]string{"app", "new"}, "", 400, `parameter "destination": it is missing, and the config has several: expected one of app, new`},
		"not configured":       {[]string{"app"}, "destination=old", 404, `the config has no destination "old": expected app`},
		"does not go there":    {[]string{"app", "staging"}, "destination=staging", 409, `the event does not go to the destination "staging"`},
		"bad name":             {[]string{"app"}, "destination=a/b", 400, `parameter "destination": destination "a/b": expected 1 to 64 letters, digits, '_' or '-'`},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGateway(1)
			g.destinations = c.destinations
			status, answer, _ := request(t, g, "POST", "shop/events/e1/copy", c.query, "")
			assert.Equal(t, c.status, status)
			assert.Equal(t, c.answer, answer)
			assert.Empty(t, g.asked, "nothing changes")
		})
	}
}

// Who may only GET, by the access control of Caddy's remote admin endpoint, gets no
// signature.
func TestASignatureTakesAPost(t *testing.T) {
	for i := range routes {
		if _, copies := routes[i].match("shop/events/e1/copy"); copies {
			assert.Equal(t, "POST", allowedMethods(routes[i].methods))
			return
		}
	}
	t.Fatal("no such route")
}

// A stream that begins anew says at once after which notice, so that a client misses
// nothing if the stream ends before the first.
func TestStreamBeginsWithItsPosition(t *testing.T) {
	g := newFakeGateway(1)
	g.feed.Publish(control.Notice{Kind: control.Resumed})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the stream ends as soon as it has begun
	config, end := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer end()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	c := &call{API: &API{ctx: config, logger: zap.NewNop()}, w: deadlines{w}, r: r, gateway: g}
	require.NoError(t, c.follow())
	require.Regexp(t, `^retry: 1000\nid: [0-9a-z]+-1\n\n$`, w.Body.String())
}

// deadlines is a recorder that takes deadlines.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetWriteDeadline(time.Time) error { return nil }

// A body arrives byte for byte, even one that is not UTF-8, which no gateway stores.
func TestBodyIsExact(t *testing.T) {
	const body = "{\"a\":\"\u2028<>&\\u0001\"}"
	text, encoding := control.BodyOf([]byte(body))
	assert.Equal(t, control.BodyText, encoding)
	encoded, err := json.Marshal(text)
	require.NoError(t, err)
	var arrived string
	require.NoError(t, json.Unmarshal(encoded, &arrived))
	assert.True(t, body == arrived, arrived) //nolint:testifylint // JSON that means the same is not enough
	text, encoding = control.BodyOf([]byte("\xff"))
	assert.Equal(t, control.BodyBase64, encoding)
	assert.Equal(t, "/w==", text)
}
