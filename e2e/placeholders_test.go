package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// appendAll adds each placeholder of a callback to the lines of the access log.
const appendAll = `
	log_append event {http.fotor_webhook.id}
	log_append task {http.fotor_webhook.task_id}
	log_append type {http.fotor_webhook.type}
	log_append state {http.fotor_webhook.status}
	log_append duplicate {http.fotor_webhook.duplicate}
	log_append outcome {http.fotor_webhook.outcome}
	log_append destination {http.fotor_webhook.destination}`

// accessLog returns the directive that logs a site's requests into a file, and a function
// that returns what has been added to each line.
func accessLog(t *testing.T) (directive string, lines func() []map[string]any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	return "\nlog {\noutput file " + path + "\nformat json\n}", func() (all []map[string]any) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for raw := range strings.Lines(string(text)) {
			var line map[string]any
			require.NoError(t, json.Unmarshal([]byte(raw), &line), raw)
			added := map[string]any{"answer": line["status"]}
			for _, name := range []string{"event", "task", "type", "state", "duplicate", "outcome", "destination"} {
				added[name] = line[name]
			}
			all = append(all, added)
		}
		return all
	}
}

// The access log says what became of each callback, in the words of the metrics.
func TestPlaceholdersInTheAccessLog(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	directive, lines := accessLog(t)
	strict := "\nfotor_webhook /strict " + up.URL + " {\nname strict\nallow 192.0.2.1\ninbox sqlite " + g.DB + "2\n}"
	const unset = "[{http.fotor_webhook.outcome}]" // Caddy leaves what is not known as it is
	elsewhere := "\nrespond \"" + unset + "\"\nerror /broken 418\nhandle_errors {\nrespond \"" + unset + "\" 418\n}"
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(g.Globals(quiet)+g.Site(directive+appendAll+strict+elsewhere+
		"\nheader >X-Outcome {http.fotor_webhook.outcome}"+
		"\nfotor_webhook /callback "+up.URL+" {\nallow 127.0.0.1\nmax_body 1KiB\ninbox sqlite "+g.DB+"\n}")))

	post := func(path, body string) reply {
		g.path = path
		return g.Post(body)
	}
	first := post("callback", notice("a", 1))
	assert.Equal(t, "accepted", first.Header.Get("X-Outcome"), "as soon as the answer begins")
	post("callback", notice("a", 1))
	post("callback", `{"taskId":"a"}`)
	assert.Equal(t, "not_json", post("callback", `{`).Header.Get("X-Outcome"))
	post("callback", notice(strings.Repeat("long", 1000), 1))
	post("strict", notice("a", 1))
	assert.Equal(t, unset, post("elsewhere", "").Body)
	assert.Equal(t, unset, post("broken", "").Body)
	g.Stop()

	line := func(answer int, outcome any, event ...any) map[string]any {
		added := map[string]any{
			"answer": float64(answer), "outcome": outcome, "duplicate": outcome == "duplicate",
			"event": "", "task": "", "type": "", "state": "", "destination": nil,
		}
		for i, name := range []string{"event", "task", "type", "state"} {
			if len(event) > 0 {
				added[name] = event[i]
			}
		}
		return added
	}
	unreached := func(answer int) map[string]any {
		added := line(answer, nil, nil, nil, nil, nil)
		added["duplicate"] = nil
		return added
	}
	assert.Equal(t, []map[string]any{
		line(200, "accepted", first.ID, "a", "text2img", "completed"),
		line(200, "duplicate", first.ID, "a", "text2img", "completed"),
		line(422, "invalid"),
		line(400, "not_json"),
		line(413, "too_large"),
		line(403, "refused"),
		unreached(200),
		unreached(418),
	}, lines())
}

// A callback that could not be stored is named all the same.
func TestPlaceholdersOfACallbackThatIsNotStored(t *testing.T) {
	up := refusing(t)
	g := newGateway(t)
	directive, lines := accessLog(t)
	g.Start("forward "+up.URL+g.Sized("1MiB"), directive+appendAll, silent)
	filler := strings.Repeat("x", 200_000)
	full := false
	for i := 0; i < 100 && !full; i++ {
		answer := g.Post(fmt.Sprintf(`{"taskId":"t%d","status":2,"type":"text2img","msg":%q}`, i, filler))
		full = answer.Status == http.StatusServiceUnavailable
	}
	require.True(t, full)
	g.Stop()
	got := lines()
	last := got[len(got)-1]
	assert.InDelta(t, 503, last["answer"], 0)
	assert.Equal(t, "unavailable", last["outcome"])
	assert.Equal(t, fmt.Sprintf("t%d", len(got)-1), last["task"])
	assert.Equal(t, "failed", last["state"])
	assert.NotEmpty(t, last["event"])
}

// Refusals are answers and no errors: intercept has them, handle_errors does not.
func TestPlaceholdersWhereAnswersAreIntercepted(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL, `
		intercept {
			@refused status 4xx
			handle_response @refused {
				header {
					-Content-Length
					Content-Type text/plain
				}
				respond "refused as {http.fotor_webhook.outcome}" 400
			}
		}
		handle_errors {
			respond "never"
		}`, quiet)
	answer := g.Post(`{"taskId":1}`)
	assert.Equal(t, http.StatusBadRequest, answer.Status)
	assert.Equal(t, "refused as invalid", answer.Body)
	assert.NotEmpty(t, g.Accept(notice("a", 1)))
}

// In the routes of a forward, an attempt knows its event, its destination and its number.
func TestPlaceholdersInAForwardBlock(t *testing.T) {
	seen := failTimes(1, status(http.StatusTeapot))
	video, others, staging := newUpstream(t, nil), newUpstream(t, seen), newUpstream(t, nil)
	g := newGateway(t)
	const up = `{
			header_up X-Attempt {http.fotor_webhook.attempt}
			header_up X-Event "{http.fotor_webhook.destination} {http.fotor_webhook.id} {http.fotor_webhook.task_id} {http.fotor_webhook.type} {http.fotor_webhook.status} {http.fotor_webhook.duplicate} {http.fotor_webhook.outcome}"
		}`
	g.Start(fmt.Sprintf(`forward {
		@video vars {http.fotor_webhook.type} videoEnhancer
		@again expression `+"`{http.fotor_webhook.attempt} > 1 && {http.fotor_webhook.destination} == \"default\"`"+`
		vars kind {http.fotor_webhook.type}
		rewrite @again /again/{vars.kind}
		reverse_proxy @video %[1]s %[4]s
		reverse_proxy %[2]s %[4]s
	}
	destination staging {
		forward {
			@staging vars {http.fotor_webhook.destination} staging
			reverse_proxy @staging %[3]s %[4]s
		}
	}`+quick, video.URL, others.URL, staging.URL, up), "", quiet)
	id := g.Accept(notice("a", 2))
	film := g.Accept(`{"taskId":"b","status":1,"type":"videoEnhancer"}`)
	g.delivered(2)

	got := others.Deliveries()
	require.Len(t, got, 2)
	for i, d := range got {
		assert.Equal(t, fmt.Sprint(i+1), d.Header.Get("X-Attempt"))
		assert.Equal(t, "default "+id+" a text2img failed false accepted", d.Header.Get("X-Event"))
		assert.Equal(t, []string{"/", "/again/text2img"}[i], d.Path)
	}
	got = video.Deliveries()
	require.Len(t, got, 1)
	assert.Equal(t, film, got[0].Event.ID)
	assert.Equal(t, "1", got[0].Header.Get("X-Attempt"))
	got = staging.Await(t, 2)
	assert.Contains(t, got[0].Header.Get("X-Event"), "staging ")
	assert.Contains(t, got[1].Header.Get("X-Event"), "staging ")
}
