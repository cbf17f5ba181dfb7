package e2e

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const reloads = 30

// reloadUnderLoad reloads Caddy many times under load, each time with another config.
func reloadUnderLoad(t *testing.T, g *gateway, config func(i int) string) *callers {
	t.Helper()
	require.NoError(t, g.Load(config(0)))
	t.Cleanup(g.Stop)
	c := call(t, g.URL(), 8)
	for i := range reloads {
		c.AwaitAnswers(t, 50)
		require.NoError(t, g.Load(config(i+1)))
	}
	c.AwaitAnswers(t, 50)
	c.Stop()
	return c
}

func TestReloadUnderLoad(t *testing.T) {
	stock := newGateway(t)
	before := int(entered.Load())
	bare := reloadUnderLoad(t, stock, func(i int) string {
		return stock.Globals(quiet) + stock.Site(fmt.Sprintf("fotor_e2e_count\nheader X-Config %d\nrespond /callback `{\"id\":\"stock\",\"duplicate\":true}`", i))
	})
	bareDropped := int(entered.Load()) - before - bare.Answers()
	stock.Stop()

	up := newUpstream(t, nil)
	g := newGateway(t)
	before = int(entered.Load())
	c := reloadUnderLoad(t, g, func(i int) string {
		options := []string{
			"forward " + up.URL + "/url\nconcurrency 4\ntimeout 20s\nkeep 1d",
			"forward {\nrewrite /routes\nreverse_proxy " + up.URL + "\n}\nconcurrency 16\nquarantine off\nretry {\nfirst 1s\n}",
		}
		return g.Caddyfile(options[i%2], "fotor_e2e_count", quiet)
	})
	dropped := int(entered.Load()) - before - c.Answers()
	await(t, func() bool { return g.Events("pending") == 0 }, "the backlog to go out")

	// A reload closes connections on which a caller may be sending just then; how many is
	// chance. It is a count of rare events, so its variance is its mean, and the
	// difference of two such counts is beyond five deviations only once in a million.
	margin := 5 * math.Sqrt(float64(bare.Broken()+c.Broken()+1))
	t.Logf("%d reloads: stock Caddy broke %d of %d requests, %d of them in its handlers' hands; the gateway %d of %d and %d (by chance up to %.0f more)",
		reloads, bare.Broken(), bare.Answers(), bareDropped, c.Broken(), c.Answers(), dropped, margin)
	assert.LessOrEqual(t, float64(c.Broken()), float64(bare.Broken())+margin, "%v", c.broken)
	// A request that has reached a handler is answered. The few exceptions are due to
	// net/http, which may close a connection as idle that has just read a request.
	assert.LessOrEqual(t, dropped, bareDropped+reloads/3)

	deliveries := up.Deliveries()
	c.Check(t, deliveries, func(delivery) bool { return true })
	ways := make(map[string]int)
	for _, d := range deliveries {
		ways[d.Path]++
	}
	assert.Len(t, ways, 2, "both configs deliver: %v", ways)
	assert.Zero(t, repeated(up.Counts()), "deliveries of an event that the upstream had taken, of %d", len(deliveries))
}

// slowCallback is a callback that stays under way until it is finished.
type slowCallback struct {
	answer chan error
	status int
	body   *io.PipeWriter
	rest   string
}

// begin sends half of a callback and returns while the handler is reading it.
func (g *gateway) begin(body string) *slowCallback {
	g.t.Helper()
	reader, writer := io.Pipe()
	s := &slowCallback{answer: make(chan error, 1), body: writer, rest: body[len(body)/2:]}
	// the server sends "100 Continue" when the handler begins to read
	reading := make(chan struct{})
	r := newRequest(g.t, g.URL(), reader, "Expect", "100-continue")
	r.ContentLength = int64(len(body))
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reading) }}))
	go func() {
		patient := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: patience}}
		response, err := patient.Do(r)
		if err == nil {
			s.status = response.StatusCode
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		s.answer <- err
	}()
	select {
	case <-reading:
	case err := <-s.answer:
		require.FailNow(g.t, "the callback ended early", "status %d, %v", s.status, err)
	}
	_, err := io.WriteString(writer, body[:len(body)/2])
	require.NoError(g.t, err)
	return s
}

// finish sends the rest of the body and returns the answer's status.
func (s *slowCallback) finish(t *testing.T) int {
	t.Helper()
	_, err := io.WriteString(s.body, s.rest)
	require.NoError(t, err)
	require.NoError(t, s.body.Close())
	require.NoError(t, <-s.answer)
	return s.status
}

// Callbacks that are being received when a reload changes the inbox's path are answered
// 200, and stored in one of the two files.
func TestReloadThatChangesThePath(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	forward := "forward " + up.URL
	g.Start(forward, "", quiet)
	second := filepath.Join(filepath.Dir(g.DB), "second", "inbox.db")

	var slow []*slowCallback
	for i := range 8 {
		slow = append(slow, g.begin(notice(fmt.Sprint("slow-", i), 1)))
	}
	c := call(t, g.URL(), 4)
	c.AwaitAnswers(t, 20)
	require.NoError(t, g.Load(g.Caddyfile(forward+"\ninbox sqlite "+second, "", quiet)))
	for _, s := range slow {
		assert.Equal(t, http.StatusOK, s.finish(t))
	}
	c.AwaitAnswers(t, 20)
	c.Stop()
	await(t, func() bool { return g.Events("pending") == 0 }, "the second file's events to go out")
	require.FileExists(t, second)

	// what is pending in the first file is delivered when it is used again
	require.NoError(t, g.Load(g.Caddyfile(forward, "", quiet)))
	await(t, func() bool { return g.Events("pending") == 0 }, "the first file's events to go out")
	told := 0
	for _, d := range up.Deliveries() {
		if strings.HasPrefix(d.Event.TaskID, "slow-") {
			told++
		}
	}
	assert.Equal(t, len(slow), told)
	assert.Empty(t, c.other)
	counts := up.Counts()
	for id, what := range c.accepted {
		if what.final {
			// a repeat after the change is new to the second file
			assert.Positive(t, counts[id], what.task)
		}
	}
}

// If a config cannot be loaded, the error says why, and nothing changes.
func TestFailedReload(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	good := "forward " + up.URL
	g.Start(good, "", quiet)

	busy := listen(t, "127.0.0.1:0")
	defer busy.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	another := func(options string) string {
		return "fotor_webhook /other {\nallow 127.0.0.1\nforward " + up.URL + "\n" + options + "\n}"
	}
	tests := map[string]struct {
		options, site, global string
		more                  string // another site block
		want                  []string
	}{
		"another module": {
			options: good, site: "reverse_proxy /x {\nto https://127.0.0.1\ntransport http {\ntls_trust_pool file " + dir + "/none.pem\n}\n}",
			want: []string{dir + "/none.pem"},
		},
		"a busy port": {
			options: good, more: fmt.Sprintf("http://127.0.0.1:%d {\nrespond 200\n}", busy.Addr().(*net.TCPAddr).Port),
			want: []string{"address already in use"},
		},
		"a busy port and another file": {
			options: good + "\ninbox sqlite " + dir + "/other.db",
			more:    fmt.Sprintf("http://127.0.0.1:%d {\nrespond 200\n}", busy.Addr().(*net.TCPAddr).Port),
			want:    []string{"address already in use"},
		},
		"a path that cannot be": {
			options: good + "\ninbox sqlite " + file + "/inbox.db",
			want:    []string{`handler "default"`, file, "not a directory"},
		},
		"a second handler whose path cannot be": {
			options: good, site: another("name other\ninbox sqlite " + file + "/inbox.db"),
			want: []string{`handler "other"`, file, "not a directory"},
		},
		"a file that is no inbox": {
			options: good + "\ninbox sqlite " + foreignFile(t, dir),
			want:    []string{`handler "default"`, dir + "/foreign.db"},
		},
		"two of a name": {
			options: good, site: another(""), want: []string{`name "default" is used by two`},
		},
		"two with one file": {
			options: good, site: another("name other\ninbox sqlite " + g.DB),
			want: []string{`"default"`, `"other"`, g.DB},
		},
		"a value out of range": {
			options: good + "\ntimeout 2h", want: []string{"timeout is 2h0m0s: expected 1ms to 1h0m0s"},
		},
		"an inbox that is too small": {
			options: good + g.Sized("1KiB"), want: []string{"max_size is 1024 bytes", "at least 1.0 MiB"},
		},
	}
	accepted := 0
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := g.Metric(`caddy_fotor_webhook_callbacks_total{handler="default",outcome="accepted"}`)
			c := call(t, g.URL(), 2)
			// apps start in random order: several tries, so that ours is the first once
			for range 6 {
				c.AwaitAnswers(t, 5)
				err := g.Load(g.Caddyfile(test.options, test.site, quiet) + test.more)
				require.Error(t, err)
				for _, want := range test.want {
					require.ErrorContains(t, err, want)
				}
			}
			c.AwaitAnswers(t, 5)
			c.Stop()
			accepted++
			id := g.Accept(notice(fmt.Sprint("after ", name), 1))
			await(t, func() bool { return up.Counts()[id] == 1 }, "its delivery")
			await(t, func() bool { return g.Events("pending") == 0 }, "the backlog to go out")
			repeats := c.Check(t, up.Deliveries(), func(delivery) bool { return true })
			assert.Zero(t, repeats)
			assert.Greater(t, g.Metric(`caddy_fotor_webhook_callbacks_total{handler="default",outcome="accepted"}`), before)
			assert.InDelta(t, 1, g.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`), 0)
			assert.InDelta(t, -1, g.Metric(`caddy_fotor_webhook_inbox_up{handler="other"}`), 0, "what was not loaded has no metrics")
		})
	}
	require.Equal(t, len(tests), accepted)
	assert.NoFileExists(t, filepath.Join(dir, "other.db-wal"), "what was opened was closed")
}

// foreignFile makes a file that is not an SQLite file.
func foreignFile(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "foreign.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("not an SQLite file ", 100)), 0o600))
	return path
}

// When a reload removes a handler, its events wait in the file until it is added again.
func TestHandlerRemovedAndAddedAgain(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", quiet)
	ids := make(map[string]int)
	for i := range 10 {
		ids[g.Accept(notice(fmt.Sprint("task-", i), 1))] = 1
	}
	up.Await(t, 1)

	without := g.Globals("") + g.Site("respond 404")
	require.NoError(t, g.Load(without))
	assert.Equal(t, http.StatusNotFound, g.Post(notice("meanwhile", 1)).Status)
	assert.InDelta(t, -1, g.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`), 0)
	assert.NoFileExists(t, g.DB+"-wal", "the file was closed")

	before := len(up.Deliveries())
	up.Answer(nil)
	require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+quick, "", quiet)))
	g.delivered(10)
	assert.Equal(t, ids, countByID(up.Deliveries()[before:]))
	assert.True(t, g.Post(notice("task-0", 1)).Duplicate, "it still knows what it had")
}

// A handler with another name but the same file goes on with its events.
func TestHandlerRenamed(t *testing.T) {
	up := newUpstream(t, status(http.StatusServiceUnavailable))
	g := newGateway(t)
	options := "forward " + up.URL + quick + "\ninbox sqlite " + g.DB
	g.Start(options, "", quiet)
	for i := range 10 {
		g.Accept(notice(fmt.Sprint("task-", i), 1))
	}
	up.Await(t, 1)
	require.NoError(t, g.Load(g.Caddyfile(options+"\nname other", "", quiet)))
	before := len(up.Deliveries())
	up.Answer(nil)
	assert.True(t, g.Post(notice("task-0", 1)).Duplicate)
	await(t, func() bool {
		return g.Metric(`caddy_fotor_webhook_events{handler="other",state="delivered"}`) == 10
	}, "the events under the new name")
	assert.InDelta(t, -1, g.Metric(`caddy_fotor_webhook_inbox_up{handler="default"}`), 0)
	sources := make(map[string]bool)
	for _, d := range up.Deliveries()[before:] {
		sources[d.Header.Get("Ce-Source")] = true
	}
	assert.Contains(t, sources, "/fotor_webhook/other")
}

// New limits apply at once after a reload, also to what is stored already.
func TestReloadChangesLimits(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	load := func(options, size string) {
		require.NoError(t, g.Load(g.Caddyfile("forward "+up.URL+"\n"+options+g.Sized(size), "", quiet)))
	}
	t.Cleanup(g.Stop)
	load("quarantine 5", "1MiB")
	quarantined := `caddy_fotor_webhook_quarantined{handler="default"}`
	for i := range 8 {
		assert.Equal(t, http.StatusUnprocessableEntity, g.Post(fmt.Sprintf(`{"n":%d}`, i)).Status)
	}
	await(t, func() bool { return g.Metric(quarantined) == 5 }, "the quarantine's limit")
	load("quarantine 2", "2MiB")
	await(t, func() bool { return g.Metric(quarantined) == 2 }, "the quarantine's lower limit")
	assert.InDelta(t, 2<<20, g.Metric(`caddy_fotor_webhook_inbox_limit_bytes{handler="default"}`), 0)
	load("quarantine off", "1GiB")
	await(t, func() bool { return g.Metric(quarantined) == 0 }, "the quarantine's end")
	assert.InDelta(t, 1<<30, g.Metric(`caddy_fotor_webhook_inbox_limit_bytes{handler="default"}`), 0)
	g.Post(`{"n":9}`)
	assert.InDelta(t, 0, g.Metric(quarantined), 0)

	g.Accept(notice("task", 1))
	g.delivered(1)
	g.Stop()
	age(t, g.DB)
	load("keep 7d", "1GiB")
	assert.True(t, g.Post(notice("task", 1)).Duplicate, "known for a week")
	load("keep 1m", "1GiB")
	await(t, func() bool { return g.Events("delivered") == 0 }, "the event to go")
	assert.False(t, g.Post(notice("task", 1)).Duplicate, "known for a minute")
	up.Await(t, 2)
}
