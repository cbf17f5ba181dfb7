package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/sqlite"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// images is the part of an event with images that tests look at.
type images struct {
	StatusCode int
	Status     string
	Avatars    []struct{ Images []struct{ URL string } }
}

func imagesOf(t *testing.T, d delivery) images {
	t.Helper()
	var e images
	require.NoError(t, json.Unmarshal(d.Body, &e))
	return e
}

func withImage(task, url string) string {
	return fmt.Sprintf(`{"taskId":%q,"status":1,"type":"avatar","resultUrl":"","avatarResult":[{"templateId":"t","images":[{"id":"i","url":%q,"hasHsfw":false}]}]}`, task, url)
}

// Images with URLs of Fotor's bucket are delivered with public URLs, unless the config says
// otherwise.
func TestImagesOfTheBucketGetAPublicURL(t *testing.T) {
	const image = "s3://img-pub-fotor/aigc/a%20b.jpg"
	for options, want := range map[string]string{
		"": "https://pub-static.fotor.com/aigc/a%20b.jpg",
		"result_url s3://mine/ https://mine.example.com/":                "https://pub-static.fotor.com/aigc/a%20b.jpg",
		"result_url s3://img-pub-fotor/ http://cdn.example.com/?key=":    "http://cdn.example.com/?key=aigc/a%20b.jpg",
		"result_url s3://img-pub-fotor/aigc/ s3://mine/":                 "s3://mine/a%20b.jpg",
		`result_url s3://img-pub-fotor/aigc/ "s3://img-pub-fotor/aigc/"`: image,
		"result_url off": image,
		"result_url off\nresult_url s3://img-pub-fotor/aigc/ https://example.com/": "https://example.com/a%20b.jpg",
	} {
		t.Run(options, func(t *testing.T) {
			up := newUpstream(t, nil)
			g := newGateway(t)
			g.Start("forward "+up.URL+"\n"+options, "", "")
			id := g.Accept(withImage("task", image))
			assert.Equal(t, want, imagesOf(t, up.Await(t, 1)[0]).Avatars[0].Images[0].URL)
			g.Accept(withImage("other", "s3://another-bucket/a.jpg"))
			assert.Equal(t, "s3://another-bucket/a.jpg", imagesOf(t, up.Await(t, 2)[1]).Avatars[0].Images[0].URL)
			assert.Equal(t, http.StatusUnprocessableEntity, g.Post(withImage("third", "gs://img-pub-fotor/a.jpg")).Status)

			// with another replacement it is still the same event
			require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\nresult_url s3://img-pub-fotor/ https://else.example.com/", "", "")))
			again := g.Post(withImage("task", image))
			assert.True(t, again.Duplicate)
			assert.Equal(t, id, again.ID)
		})
	}
}

// A callback that a config did not accept is in quarantine, and can be released once
// another config accepts it, in whatever form it arrived.
func TestReleaseJudgesByTheRulesOfNow(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", "")
	refused := g.Post(notice("late", 3), "Content-Type", "text/plain")
	require.Equal(t, http.StatusUnsupportedMediaType, refused.Status)
	refused = g.Post("\ufeff" + notice("late", 3))
	require.Equal(t, http.StatusUnprocessableEntity, refused.Status)
	require.Len(t, refused.Errors, 1)
	assert.Equal(t, "/status", refused.Errors[0].Pointer)
	assert.Contains(t, refused.Errors[0].Detail, "map_status")
	require.Equal(t, http.StatusUnprocessableEntity, g.Post(notice("cancelled", 4)).Status)

	suspects := ask[control.Quarantine](g, http.MethodGet, "default/quarantine", "").Callbacks
	require.Len(t, suspects, 3)
	release := func(i int) string { return fmt.Sprintf("default/quarantine/%d/release", suspects[i].ID) }
	require.Equal(t, http.StatusUnprocessableEntity, g.API(http.MethodPost, release(1), "").Status)

	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\nmap_status 3 failed", "", "")))
	released := ask[control.Released](g, http.MethodPost, release(1), "")
	assert.False(t, released.Duplicate)
	d := up.Await(t, 1)[0]
	assert.Equal(t, released.ID, d.Event.ID)
	assert.Equal(t, "com.fotor.task.failed", d.Header.Get("Ce-Type"))
	assert.Equal(t, "failed", imagesOf(t, d).Status)
	assert.Equal(t, 3, imagesOf(t, d).StatusCode)

	// the one that arrived as text has the same content
	assert.Equal(t, control.Released{ID: released.ID, Duplicate: true}, ask[control.Released](g, http.MethodPost, release(2), ""))
	again := g.Post(notice("late", 3))
	assert.True(t, again.Duplicate)
	assert.Equal(t, released.ID, again.ID)
	require.Equal(t, http.StatusUnprocessableEntity, g.API(http.MethodPost, release(0), "").Status, "4 is still none")
}

func TestCallbackIsTakenHoweverItIsDeclared(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", "")
	for i, header := range []http.Header{
		{"Content-Type": {"application/json; charset"}},
		{"Content-Type": {"application/json;;"}},
		{"Content-Type": {"application/json", "application/json"}},
		{"Content-Type": {"application/json, application/json; charset=utf-8"}},
		{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}},
		{"Content-Type": {"application/json"}, "Content-Encoding": {"Identity, identity", ""}},
	} {
		for _, mark := range []string{"", "\ufeff"} {
			r := newRequest(t, g.URL(), strings.NewReader(mark+notice(fmt.Sprint(i), 1)))
			r.Header = header.Clone()
			assert.Equal(t, http.StatusOK, do(t, r).Status, "%v", header)
		}
	}
	assert.Len(t, up.Await(t, 6), 6)

	r := newRequest(t, g.URL(), strings.NewReader(notice("x", 1)))
	r.Header = http.Header{"Content-Type": {"application/json", "text/html; charset=\"<b>\"\xff"}}
	answer := do(t, r)
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.Status)
	assert.Contains(t, answer.Body, `The Content-Type is \"application/json, text/html; charset=\\\"<b>\\\"\\xff\"; expected application/json.`)
	assert.Equal(t, http.StatusBadRequest, g.Post("\ufeff").Status)
}

// The same outcome is one event, however and whenever Fotor reports it.
func TestOneOutcomeIsForwardedOnce(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", "")
	id := g.Accept(`{"taskId":"a","status":1,"type":"b","updateTime":1730000000000}`)
	for _, more := range []string{
		`"updateTime":1730000000001`, `"createTime":1730000000000`, `"resultUrl":""`, `"resultUrl":null,"businessId":null`,
		`"avatarResult":[],"hasNsfw":false,"msg":null`,
	} {
		again := g.Post(`{"taskId":"a","status":1,"type":"b",` + more + `}`)
		assert.Equal(t, id, again.ID, more)
		assert.True(t, again.Duplicate, more)
	}
	other := g.Accept(`{"taskId":"a","status":1,"type":"b","businessId":""}`)
	assert.NotEqual(t, id, other)
	deliveries := up.Await(t, 2)
	assert.Equal(t, id, deliveries[0].Event.ID)
	assert.Equal(t, other, deliveries[1].Event.ID)
}

// An event that an older version stored keeps its id, and repeats are answered with it.
func TestEventOfAnOlderVersionIsFound(t *testing.T) {
	const body = `{"updateTime":1730000000000,"taskId":"a","status":1,"type":"b"}`
	former := inbox.NewID("a", []byte(`{"status":1,"taskId":"a","type":"b","updateTime":1730000000000}`))
	g := newGateway(t)
	older := &sqlite.Inbox{Path: g.DB, MaxSize: 1 << 30}
	in, err := older.Open(context.Background(), "default", inbox.Policy{Keep: time.Hour}, zap.NewNop())
	require.NoError(t, err)
	stored := &inbox.Event{ID: former, TaskID: "a", Type: "b", Status: inbox.Completed, ReceivedAt: time.Now().UTC(), Body: []byte(`{"id":"` + former + `","taskId":"a"}`)}
	_, err = in.Put(t.Context(), stored)
	require.NoError(t, err)
	require.NoError(t, in.Close())

	up := newUpstream(t, nil)
	g.Start("forward "+up.URL, "", "")
	assert.Equal(t, former, up.Await(t, 1)[0].Event.ID)
	again := g.Post(body)
	assert.Equal(t, http.StatusOK, again.Status)
	assert.True(t, again.Duplicate)
	assert.Equal(t, former, again.ID)
	g.Accept(notice("next", 1))
	assert.Equal(t, "next", up.Await(t, 2)[1].Event.TaskID)
}

// A browser that opens the address gets an explanation.
func TestBrowserIsToldWhatTheAddressIsFor(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, "", "")
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodOptions} {
		r := newRequest(t, g.URL(), http.NoBody)
		r.Method = method
		response, err := roundTrip(client, r)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
		assert.Equal(t, "POST", response.Header.Get("Allow"))
		assert.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		if method == http.MethodHead {
			assert.Empty(t, body)
			continue
		}
		assert.Contains(t, string(body), "This address takes the callbacks of Fotor's tasks")
	}
}
