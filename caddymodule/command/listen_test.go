package command

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// copyEvent answers with the copy of an event. Its signature is none.
func (f *fakeAPI) copyEvent(h *fakeHandler, id string, _ http.ResponseWriter, r *http.Request) (any, error) {
	i, err := h.find(id)
	if err != nil {
		return nil, err
	}
	if err := h.checkDestination(r.URL.Query(), "destination"); err != nil {
		return nil, err
	}
	destination := r.URL.Query().Get("destination")
	if destination == "" {
		if configured := h.configured(); len(configured) != 1 {
			return nil, badParameter("destination", "", strings.Join(configured, ", "))
		}
		destination = h.configured()[0]
	}
	if stateAt(h.events[i], destination) == "" {
		return nil, apiError{http.StatusConflict, "the event does not go to the destination " + destination}
	}
	return control.Copy{
		ID: id, Destination: destination,
		Header: map[string]string{
			"Content-Type": "application/json", "Fotor-Webhook-Attempt": "1", "Fotor-Webhook-Copy": "listen", "Idempotency-Key": id,
			"Webhook-Id": id, "Webhook-Timestamp": fmt.Sprint(time.Now().Unix()), "Webhook-Signature": "v1,of-" + destination,
		},
		Body: string(h.events[i].Body), BodyEncoding: control.BodyText,
	}, nil
}

// arrival is the notice of an event.
func arrival(e *control.EventDetail) control.Notice {
	return control.Notice{
		Kind: control.Accepted, Handler: "default", At: testNow, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status, SourceIP: "54.212.95.175",
	}
}

// arriving gives the fake's handler a stream on which its events arrive, and a gap.
func arriving(t *testing.T, h *fakeHandler) {
	h.streams = append(h.streams, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "retry: 1000\nid: e-0\n\n")
		for i, e := range h.events {
			writeNotices(w, i+1, arrival(e))
		}
		writeNotices(w, len(h.events), control.Notice{Kind: control.Gap, At: testNow, Missed: 3})
		flush(t, w)
		<-r.Context().Done()
	})
}

// service is a service that copies are sent to.
type service struct {
	mu     sync.Mutex
	got    []*http.Request
	bodies []string
	status []int // the answers, in order; then 200
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.got, s.bodies = append(s.got, r), append(s.bodies, string(body))
	w.Header().Set("Location", "/elsewhere")
	if n := len(s.got); n <= len(s.status) {
		w.WriteHeader(s.status[n-1])
	}
}

func TestListenGolden(t *testing.T) {
	for _, c := range []struct {
		name, args string
		setup      func(f *fakeAPI, env *environment)
	}{
		{name: "listen", args: "listen -n 5"},
		{name: "listen_terminal", args: "listen -n 5", setup: func(_ *fakeAPI, env *environment) { env.stdoutTerminal = true }},
		{name: "listen_json", args: "listen --json -n 2"},
		{name: "listen_filter", args: "listen --status failed,in_progress --task t --type avatar -n 2"},
		{name: "listen_to", args: "listen --to URL -n 5"},
		{name: "listen_to_terminal", args: "listen --to URL -n 5 --since 3d", setup: func(_ *fakeAPI, env *environment) { env.stdoutTerminal = true }},
		{name: "listen_to_json", args: "listen --to URL --json -n 3"},
		{name: "listen_to_color", args: "listen --to URL --color always -n 2"},
		{name: "listen_shared", args: "listen -n 1", setup: func(f *fakeAPI, _ *environment) { f.handlers[0].Config.Inbox = "nats" }},
		{name: "listen_to_destination", args: "listen --to URL --destination archive -n 1", setup: withDestinations},
		{name: "listen_to_which", args: "listen --to URL -n 1", setup: withDestinations},
		{name: "listen_to_unknown", args: "listen --to URL --destination shop", setup: withDestinations},
		{name: "listen_to_bad", args: "listen --to localhost:3000"},
		{name: "listen_without_to", args: "listen --destination staging"},
		{name: "listen_insecure_without_to", args: "listen --insecure"},
		{name: "listen_sign_bad", args: "listen --to URL --sign secret"},
		{name: "listen_sign_unset", args: "listen --to URL --sign {env.FOTOR_TEST_UNSET}"},
		{name: "listen_status_bad", args: "listen --status done"},
		{name: "listen_status_empty", args: "listen --status="},
		{name: "listen_lines_bad", args: "listen -n 0"},
		{name: "listen_since_bad", args: "listen --since yesterday"},
		{name: "listen_no_handler", args: "listen --handler nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := sampleHandler("default")
			f, env := startFake(t, h), testEnvironment()
			if c.setup != nil {
				c.setup(f, env)
			}
			arriving(t, h)
			steps(env, 1500*time.Microsecond)
			target, _ := serve(t, &service{status: []int{200, 302, 500}})
			args := strings.Fields(c.args)
			given := append(strings.Fields(strings.ReplaceAll(c.args, "URL", target+"/events")), "--address", f.addr)
			golden(t, c.name, args, run(t, env, given...), target+"/events", "URL", f.addr, "ADDRESS")
		})
	}
}

// TestListenCopies checks that a copy is the event byte for byte, with the header that the
// gateway gave, signed anew with --sign.
func TestListenCopies(t *testing.T) {
	h := sampleHandler("default")
	f := startFake(t, h)
	arriving(t, h)
	app := new(service)
	target, _ := serve(t, app)
	r := run(t, testEnvironment(), "listen", "--to", target+"/events?x=1", "--address", f.addr, "-n", "5", "-H", "Host: app.test", "-H", "X-Dev: me")
	require.Zero(t, r.code, r.stderr)
	require.Len(t, app.got, 5, "each once")
	for i, e := range h.events {
		got := app.got[i]
		assert.Equal(t, string(e.Body), app.bodies[i])
		assert.Equal(t, e.ID, got.Header.Get("Webhook-Id"), "in the order of arrival")
		assert.Equal(t, "v1,of-default", got.Header.Get("Webhook-Signature"))
		assert.Equal(t, "listen", got.Header.Get("Fotor-Webhook-Copy"))
		assert.Equal(t, "app.test", got.Host)
		assert.Equal(t, "me", got.Header.Get("X-Dev"))
		assert.Equal(t, "/events?x=1", got.RequestURI)
	}

	arriving(t, h)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	t.Setenv("FOTOR_TEST_DEV_SECRET", secret)
	r = run(t, testEnvironment(), "listen", "--to", target, "--address", f.addr, "-n", "1", "--sign", "{env.FOTOR_TEST_DEV_SECRET}")
	require.Zero(t, r.code, r.stderr)
	webhook, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	require.NoError(t, webhook.Verify([]byte(app.bodies[5]), app.got[5].Header))
}

// TestListenSince begins with events of the past, page by page, while others arrive. One
// that is in both is copied once.
func TestListenSince(t *testing.T) {
	h := sampleHandler("default")
	f := startFake(t, h)
	later := *h.events[0]
	later.ID = id(6)
	h.streams = append(h.streams, func(w http.ResponseWriter, r *http.Request) {
		writeNotices(w, 1, arrival(h.events[4]), arrival(&later))
		flush(t, w)
		<-r.Context().Done()
	})
	past := h.events
	h.events = append(slices.Clone(past), &later)
	later.ReceivedAt = ago(5 * time.Hour) // out of the list
	app := new(service)
	target, _ := serve(t, app)
	r := run(t, testEnvironment(), "listen", "--to", target, "--address", f.addr, "-n", "6", "--since", "3h")
	require.Zero(t, r.code, r.stderr)
	var got []string
	for _, request := range app.got {
		got = append(got, request.Header.Get("Webhook-Id"))
	}
	require.Equal(t, []string{id(1), id(2), id(3), id(4), id(5), id(6)}, got)
	require.Contains(t, strings.Join(f.asked(), "\n"), "GET /fotor_webhook/default/events?limit=500&order=asc&since=2026-11-23T09%3A00%3A00Z\n")
}

// TestListenGoesOn has a first stream that ends before its first notice: the next one
// goes on where that began.
func TestListenGoesOn(t *testing.T) {
	h := sampleHandler("default")
	f, env := startFake(t, h), testEnvironment()
	env.pause = noPause
	var after string
	h.streams = []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "retry: 1000\nid: e-7\n\n") },
		func(w http.ResponseWriter, r *http.Request) {
			after = r.Header.Get("Last-Event-ID")
			writeNotices(w, 8, arrival(h.events[0]))
		},
	}
	r := run(t, env, "listen", "--address", f.addr, "-n", "1")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "e-7", after)
}

// TestListenHandlerRemoved checks that listen ends if the handler disappears for good.
func TestListenHandlerRemoved(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	env.pause = noPause
	f.handlers[0].streams = []func(http.ResponseWriter, *http.Request){
		func(http.ResponseWriter, *http.Request) { f.change(func() { f.handlers = nil }) },
	}
	r := run(t, env, "listen", "--address", f.addr)
	require.Equal(t, exitNotFound, r.code)
	require.Contains(t, r.stderr, `no running fotor_webhook handler has the name "default"`)
}

// TestListenNobodyReads checks that listening stops when the reader of the output has gone.
func TestListenNobodyReads(t *testing.T) {
	h := sampleHandler("default")
	f, env := startFake(t, h), testEnvironment()
	arriving(t, h)
	env.stdout, env.stderr = &output{w: &failingWriter{left: 200, err: errBrokenPipe}}, io.Discard
	require.Equal(t, exitDone, runTo(t, env, "listen", "--address", f.addr))
}

func TestLocal(t *testing.T) {
	for target, want := range map[string]bool{
		"http://localhost:3000/":     true,
		"http://LOCALHOST/":          true,
		"http://app.localhost/":      true,
		"https://127.0.0.2/x":        true,
		"http://[::1]:80/":           true,
		"http://10.0.0.1/":           false,
		"http://app.test/":           false,
		"http://localhost.test/":     false,
		"http://resolved.test:3000/": true,
	} {
		o := &outgoing{url: target, addresses: map[string][]string{"resolved.test:3000": {"127.0.0.1:3000"}}}
		require.Equal(t, want, o.local(), target)
	}
}
