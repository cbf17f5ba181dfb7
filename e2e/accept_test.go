package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCallbackGoesAllTheWay(t *testing.T) {
	for name, forward := range map[string]func(url string) string{
		"url":    func(url string) string { return "forward " + url + "/events?key=1" },
		"routes": func(url string) string { return "forward {\nrewrite * /events?key=1\nreverse_proxy " + url + "\n}" },
	} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t, nil)
			g := newGateway(t)
			g.Start(forward(up.URL), "", "")

			id := g.Accept(avatar("task-1"))
			d := up.Await(t, 1)[0]
			assert.Equal(t, id, d.Event.ID)
			assert.Equal(t, "task-1", d.Event.TaskID)
			assert.Equal(t, "completed", d.Event.Status)
			assert.Equal(t, "/events?key=1", d.Path)
			assert.Equal(t, id, d.Header.Get("Webhook-Id"))
			assert.Equal(t, id, d.Header.Get("Ce-Id"))
			assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"))
			assert.Equal(t, "application/json", d.Header.Get("Content-Type"))
			await(t, func() bool { return g.Events("delivered") == 1 }, "one delivered event")

			repeat := g.Post(avatar("task-1"))
			assert.Equal(t, http.StatusOK, repeat.Status)
			assert.Equal(t, id, repeat.ID)
			assert.True(t, repeat.Duplicate)
			// if the repeat were delivered, it would be before this event
			g.Accept(avatar("task-2"))
			assert.Equal(t, "task-2", up.Await(t, 2)[1].Event.TaskID)
		})
	}
}

func TestAnswers(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nmax_body 2KiB", "", "")

	tests := map[string]struct {
		method, body string
		headers      []string
		want         int
		pointers     []string
	}{
		"accepted":                {body: notice("a", 1), want: 200},
		"charset":                 {body: notice("b", 1), headers: []string{"Content-Type", "application/json; charset=utf-8"}, want: 200},
		"media type in capitals":  {body: notice("c", 1), headers: []string{"Content-Type", "Application/JSON"}, want: 200},
		"GET":                     {method: http.MethodGet, want: 405},
		"text":                    {body: notice("d", 1), headers: []string{"Content-Type", "text/plain"}, want: 415},
		"json by another name":    {body: notice("d", 1), headers: []string{"Content-Type", "application/cloudevents+json"}, want: 415},
		"no media type":           {body: notice("d", 1), headers: []string{"Content-Type", ""}, want: 415},
		"compressed":              {body: notice("d", 1), headers: []string{"Content-Encoding", "gzip"}, want: 415},
		"too large":               {body: `{"taskId":"` + strings.Repeat("x", 2048) + `","status":1,"type":"a"}`, want: 413},
		"empty":                   {body: "", want: 400, pointers: []string{""}},
		"not JSON":                {body: "taskId=1", want: 400, pointers: []string{""}},
		"two documents":           {body: notice("d", 1) + notice("e", 1), want: 400, pointers: []string{""}},
		"a name given twice":      {body: `{"taskId":"d","taskId":"e","status":1,"type":"a"}`, want: 400, pointers: []string{"/taskId"}},
		"not a callback":          {body: `{"status":7}`, want: 422, pointers: []string{"/status", "/taskId", "/type"}},
		"no object":               {body: `[]`, want: 422, pointers: []string{""}},
		"status as a word":        {body: `{"taskId":"d","status":"1","type":"a"}`, want: 422, pointers: []string{"/status"}},
		"an image without its id": {body: `{"taskId":"d","status":1,"type":"a","avatarResult":[{"templateId":"t","images":[{"url":"https://x/","hasHsfw":true}]}]}`, want: 422, pointers: []string{"/avatarResult/0/images/0/id"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, g.URL(), strings.NewReader(test.body), test.headers...)
			if test.method != "" {
				r.Method = test.method
			}
			answer := do(t, r)
			require.Equal(t, test.want, answer.Status, answer.Body)
			var pointers []string
			for _, e := range answer.Errors {
				pointers = append(pointers, e.Pointer)
				assert.NotEmpty(t, e.Detail)
			}
			assert.Equal(t, test.pointers, pointers)
			if test.want == 200 {
				return
			}
			assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"))
			assert.Contains(t, answer.Body, `"type":"https://`)
			if test.want == 405 {
				assert.Equal(t, "POST", answer.Header.Get("Allow"))
			}
		})
	}
	await(t, func() bool { return g.Events("delivered") == 3 }, "the accepted events")
	assert.Len(t, up.Deliveries(), 3)
	// what a whitelisted address sent is kept if it cannot be read; four have the same body
	assert.InDelta(t, 9, g.Metric(`caddy_fotor_webhook_quarantined{handler="default"}`), 0)
}

func TestChunkedBodyIsBounded(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nmax_body 2KiB", "", "")

	send := func(body string) reply {
		r := newRequest(t, g.URL(), strings.NewReader(body))
		r.ContentLength = -1
		return do(t, r)
	}
	assert.Equal(t, http.StatusOK, send(notice("chunked", 1)).Status)
	assert.Equal(t, http.StatusRequestEntityTooLarge, send(`{"taskId":"`+strings.Repeat("x", 4096)+`"}`).Status)
}

func TestOnlyWhitelistedMayCall(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nallow fotor", "", "")

	for name, headers := range map[string][]string{
		"direct":  nil,
		"spoofed": {"X-Forwarded-For", "54.212.95.175", "X-Real-Ip", "54.212.95.175", "Forwarded", "for=54.212.95.175"},
	} {
		answer := g.Post(notice(name, 1), headers...)
		assert.Equal(t, http.StatusForbidden, answer.Status, name)
		assert.NotContains(t, answer.Body, "127.0.0.1")
	}

	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\nallow fotor", "", "servers {\ntrusted_proxies static 127.0.0.1\n}")))
	assert.Equal(t, http.StatusOK, g.Post(notice("proxied", 1), "X-Forwarded-For", "54.212.95.175").Status)
	assert.Equal(t, http.StatusForbidden, g.Post(notice("stranger", 1), "X-Forwarded-For", "54.212.95.174").Status)
	assert.Equal(t, http.StatusForbidden, g.Post(notice("garbled", 1), "X-Forwarded-For", "fotor").Status)
	assert.Equal(t, "proxied", up.Await(t, 1)[0].Event.TaskID)
}

// A load balancer that appends to X-Forwarded-For passes on what the caller has written
// there. Reading it strictly, from the right, is safe.
func TestForgedAddressThroughAppendingProxy(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	forged := []string{"X-Forwarded-For", "54.212.95.175, 198.51.100.7"}
	g.Start("forward "+up.URL+"\nallow fotor", "", "servers {\ntrusted_proxies static 127.0.0.1\ntrusted_proxies_strict\n}")
	assert.Equal(t, http.StatusForbidden, g.Post(notice("forged", 1), forged...).Status)
	assert.Equal(t, http.StatusOK, g.Post(notice("true", 1), "X-Forwarded-For", "198.51.100.7, 54.212.95.175").Status)
}
