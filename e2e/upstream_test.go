package e2e

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// delivery is one attempt as the upstream saw it.
type delivery struct {
	At     time.Time
	Path   string
	Host   string
	Header http.Header
	Body   []byte
	Event  event
}

// event is the part of an event's body that tests look at.
type event struct {
	ID     string `json:"id"`
	TaskID string `json:"taskId"`
	Type   string `json:"type"`
	Status string `json:"status"`
	Origin string `json:"origin"`

	// BusinessID is the number of the callback within its task, if the test put it there.
	BusinessID string `json:"businessId"`
}

// upstream is the user's service: a real server that records what it gets, and whose
// answers the test decides.
type upstream struct {
	*httptest.Server
	mu         sync.Mutex
	deliveries []delivery
	answer     func(w http.ResponseWriter, d delivery)
}

// newUpstream starts an upstream. A nil answer takes everything with 204.
func newUpstream(t *testing.T, answer func(w http.ResponseWriter, d delivery)) *upstream {
	t.Helper()
	u := newStoppedUpstream(answer)
	u.Start()
	t.Cleanup(u.Close)
	return u
}

func newStoppedUpstream(answer func(w http.ResponseWriter, d delivery)) *upstream {
	u := &upstream{answer: answer}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(u.serve))
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway broke off, so this is not a delivery
	}
	d := delivery{At: time.Now(), Path: r.URL.RequestURI(), Host: r.Host, Header: maps.Clone(r.Header), Body: body}
	if err := json.Unmarshal(body, &d.Event); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	u.mu.Lock()
	u.deliveries = append(u.deliveries, d)
	answer := u.answer
	u.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, d)
}

// Answer changes how the upstream answers from now on.
func (u *upstream) Answer(answer func(w http.ResponseWriter, d delivery)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// Deliveries returns the attempts so far.
func (u *upstream) Deliveries() []delivery {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]delivery(nil), u.deliveries...)
}

// Counts returns how often each event id arrived.
func (u *upstream) Counts() map[string]int { return countByID(u.Deliveries()) }

// countByID returns how often each event was delivered, by id.
func countByID(deliveries []delivery) map[string]int {
	counts := make(map[string]int)
	for _, d := range deliveries {
		counts[d.Event.ID]++
	}
	return counts
}

// repeated returns how many deliveries were repeats.
func repeated(counts map[string]int) (n int) {
	for _, times := range counts {
		n += times - 1
	}
	return n
}

// Await waits until the upstream has seen n attempts and returns them.
func (u *upstream) Await(t *testing.T, n int) []delivery {
	t.Helper()
	await(t, func() bool { return len(u.Deliveries()) >= n }, "%d attempts at the upstream", n)
	return u.Deliveries()
}

// status answers with a status and nothing else.
func status(code int) func(http.ResponseWriter, delivery) {
	return func(w http.ResponseWriter, _ delivery) { w.WriteHeader(code) }
}

// askToWait answers 503 and asks to wait for that many seconds.
func askToWait(seconds string) func(http.ResponseWriter, delivery) {
	return func(w http.ResponseWriter, _ delivery) {
		w.Header().Set("Retry-After", seconds)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// refusing starts an upstream that refuses every event for good.
func refusing(t *testing.T) *upstream {
	t.Helper()
	return newUpstream(t, status(http.StatusGone))
}

// failTimes answers a task's first n attempts with fail, then takes it.
func failTimes(n int, fail func(w http.ResponseWriter, d delivery)) func(http.ResponseWriter, delivery) {
	return func(w http.ResponseWriter, d delivery) {
		if attempt := d.Header.Get("Fotor-Webhook-Attempt"); len(attempt) == 1 && int(attempt[0]-'0') <= n {
			fail(w, d)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}

// restart starts the upstream at an address that it had before.
func (u *upstream) restart(t *testing.T, address string) {
	t.Helper()
	u.Listener = listen(t, address)
	u.Config = &http.Server{Handler: http.HandlerFunc(u.serve), ReadHeaderTimeout: time.Minute}
	u.Server.URL = ""
	u.Start()
	t.Cleanup(u.Close)
}
