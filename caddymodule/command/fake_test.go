package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// fakeAPI is the admin API for handlers in memory. It refuses whatever the API's
// description does not allow.
type fakeAPI struct {
	t    *testing.T
	addr string // of the listener; "" if no Origin is expected

	mu         sync.Mutex
	process    control.Process
	handlers   []*fakeHandler
	unattended []control.Unattended
	requests   []string
	ahead      time.Duration // of the server's clock

	// fail has errors to answer, by path.
	fail map[string]apiError
}

type fakeHandler struct {
	control.Handler
	events     []*control.EventDetail // oldest first
	leased     map[string]bool
	quarantine []*control.QuarantinedDetail // oldest first
	valid      map[int64]control.Released   // callbacks that are valid by now
	allowed    map[string]control.Explanation
	streams    []func(http.ResponseWriter, *http.Request) // one for each request, in order

	trackedTasks

	searchedSince time.Time // what arrived before is not found by less than 12 digits
}

type apiError struct {
	status int
	text   string
}

func (e apiError) Error() string { return e.text }

func badParameter(name, value, expected string) error {
	return apiError{http.StatusBadRequest, fmt.Sprintf("%s %q: expected %s", name, value, expected)}
}

func startFake(t *testing.T, handlers ...*fakeHandler) *fakeAPI {
	t.Helper()
	f := &fakeAPI{t: t, handlers: handlers, process: control.Process{Caddy: "v2.11.9", Module: "v1.0.0", Started: ago(76 * time.Hour)}}
	server := httptest.NewUnstartedServer(f)
	f.addr = server.Listener.Addr().String()
	server.Start()
	t.Cleanup(server.Close)
	return f
}

// change changes the fake while it is in use.
func (f *fakeAPI) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// asked returns all requests so far.
func (f *fakeAPI) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// route is a route of the API. {name} and {id} in its path match any segment.
type route struct {
	method string
	path   string
	params []string
	answer func(f *fakeAPI, h *fakeHandler, id string, w http.ResponseWriter, r *http.Request) (any, error)
}

var filterParams = []string{"state", "destination", "task", "type", "since", "until"}

func fakeRoutes() []route {
	list := append([]string{"limit", "cursor", "order"}, filterParams...)
	bulk := append([]string{"dry_run", "limit", "all"}, filterParams...)
	replay := append([]string{"to"}, bulk...)
	destination := []string{"destination"}
	return append(taskRoutes(), []route{
		{"GET", "/fotor_webhook/", []string{"recent"}, (*fakeAPI).all},
		{"GET", "/fotor_webhook/{name}", []string{"recent"}, (*fakeAPI).one},
		{"GET", "/fotor_webhook/{name}/events", list, (*fakeAPI).list},
		{"GET", "/fotor_webhook/{name}/find", []string{"id"}, (*fakeAPI).find},
		{"GET", "/fotor_webhook/{name}/events/stream", []string{"kind", "destination", "task", "type", "last_event_id"}, (*fakeAPI).stream},
		{"GET", "/fotor_webhook/{name}/events/{id}", nil, (*fakeAPI).event},
		{"DELETE", "/fotor_webhook/{name}/events/{id}", destination, (*fakeAPI).deleteEvent},
		{"POST", "/fotor_webhook/{name}/events/{id}/copy", destination, (*fakeAPI).copyEvent},
		{"POST", "/fotor_webhook/{name}/events/{id}/replay", []string{"destination", "to"}, (*fakeAPI).replayEvent},
		{"POST", "/fotor_webhook/{name}/replay", replay, (*fakeAPI).replayMany},
		{"POST", "/fotor_webhook/{name}/purge", bulk, (*fakeAPI).purgeMany},
		{"POST", "/fotor_webhook/{name}/hold", destination, (*fakeAPI).hold},
		{"POST", "/fotor_webhook/{name}/resume", destination, (*fakeAPI).resume},
		{"GET", "/fotor_webhook/{name}/quarantine", []string{"limit", "cursor"}, (*fakeAPI).listQuarantine},
		{"GET", "/fotor_webhook/{name}/quarantine/{id}", nil, (*fakeAPI).suspect},
		{"DELETE", "/fotor_webhook/{name}/quarantine/{id}", nil, (*fakeAPI).deleteSuspect},
		{"POST", "/fotor_webhook/{name}/quarantine/{id}/release", nil, (*fakeAPI).release},
		{"GET", "/fotor_webhook/{name}/explain", []string{"ip", "forwarded_for"}, (*fakeAPI).explain},
	}...)
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
	w.Header().Set("Date", testNow.Add(f.ahead).Format(http.TimeFormat))
	failure, failing := f.fail[r.URL.Path]
	answer, err := any(nil), error(failure)
	if !failing {
		answer, err = f.route(w, r)
	}
	switch e := err.(type) { //nolint:errorlint // they are made here
	case nil:
	case apiError:
		answer = map[string]string{"error": e.text}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(e.status)
	default:
		f.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	if answer != nil {
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *fakeAPI) route(w http.ResponseWriter, r *http.Request) (any, error) {
	if want := "http://" + f.addr; f.addr != "" && (r.Header.Get("Origin") != want || r.Host != f.addr) {
		return nil, apiError{http.StatusForbidden, fmt.Sprintf("origin %q is not allowed", r.Header.Get("Origin"))}
	}
	var methods []string
	for _, candidate := range fakeRoutes() {
		name, id, ok := match(candidate.path, r.URL.Path)
		if !ok {
			continue
		}
		if candidate.method != r.Method {
			methods = append(methods, candidate.method)
			continue
		}
		if err := checkParams(r.URL.RawQuery, candidate.params); err != nil {
			return nil, err
		}
		h := f.handler(name)
		if name != "" && h == nil {
			return nil, apiError{http.StatusNotFound, fmt.Sprintf("no running fotor_webhook handler has the name %q", name)}
		}
		return candidate.answer(f, h, id, w, r)
	}
	if methods != nil {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return nil, apiError{http.StatusMethodNotAllowed, "method " + r.Method + " is not allowed"}
	}
	return nil, apiError{http.StatusNotFound, "there is nothing at " + r.URL.Path}
}

func match(pattern, path string) (name, id string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", "", false
	}
	for i := range want {
		switch want[i] {
		case "{name}":
			name = got[i]
			ok = got[i] != ""
		case "{id}":
			id = got[i]
			ok = got[i] != "" && got[i] != "stream"
		default:
			ok = want[i] == got[i]
		}
		if !ok {
			return "", "", false
		}
	}
	return name, id, true
}

func checkParams(raw string, known []string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return apiError{http.StatusBadRequest, err.Error()}
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return badParameter("parameter", name, "one of "+strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return badParameter("parameter", name, "it once")
		}
		if values[0] == "" {
			return badParameter(name, "", "a value")
		}
	}
	return nil
}

func (f *fakeAPI) handler(name string) *fakeHandler {
	for _, h := range f.handlers {
		if h.Name == name {
			return h
		}
	}
	return nil
}

func (f *fakeAPI) all(*fakeHandler, string, http.ResponseWriter, *http.Request) (any, error) {
	answer := control.Handlers{Process: f.process, Handlers: []control.Handler{}, Unattended: append([]control.Unattended{}, f.unattended...)}
	for _, h := range f.handlers {
		answer.Handlers = append(answer.Handlers, h.Handler)
	}
	return answer, nil
}

// choose returns a function that reports whether an event matches the filter.
func choose(query url.Values) (func(*control.EventDetail) bool, error) {
	var states []string
	if query.Has("state") {
		states = strings.Split(query.Get("state"), ",")
	}
	for _, state := range states {
		if !slices.Contains([]string{"pending", "delivered", "superseded", "dead", "skipped"}, state) {
			return nil, badParameter("state", query.Get("state"), "pending, delivered, superseded, dead, skipped")
		}
	}
	bounds := make(map[string]time.Time)
	for _, name := range []string{"since", "until"} {
		if !query.Has(name) {
			continue
		}
		at, err := time.Parse(time.RFC3339, query.Get(name))
		if ago, durationErr := caddy.ParseDuration(query.Get(name)); err != nil && durationErr == nil {
			at, err = testNow.Add(-ago), nil
		}
		if err != nil {
			return nil, badParameter(name, query.Get(name), "a time or a duration")
		}
		bounds[name] = at
	}
	return func(e *control.EventDetail) bool {
		since, hasSince := bounds["since"]
		until, hasUntil := bounds["until"]
		state := stateAt(e, query.Get("destination"))
		return state != "" && (states == nil || slices.Contains(states, state)) &&
			(!query.Has("task") || query.Get("task") == e.TaskID) &&
			(!query.Has("type") || query.Get("type") == e.Type) &&
			(!hasSince || !e.ReceivedAt.Before(since)) && (!hasUntil || e.ReceivedAt.Before(until))
	}, nil
}

func pageLimit(query url.Values) (int, error) {
	if !query.Has("limit") {
		return 100, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > 1000 {
		return 0, badParameter("limit", query.Get("limit"), "1 to 1000")
	}
	return limit, nil
}

// page returns a page of rows. It makes pages shorter than their limit, as the API may. A
// cursor is only valid for one order.
func page[T any](rows []T, query url.Values, order string) ([]T, string, error) {
	limit, err := pageLimit(query)
	if err != nil {
		return nil, "", err
	}
	start := 0
	if query.Has("cursor") {
		if n, err := fmt.Sscanf(query.Get("cursor"), order+"-%d", &start); n != 1 || err != nil {
			return nil, "", badParameter("cursor", query.Get("cursor"), "one that a page gave")
		}
	}
	end := min(start+min(limit, 2), len(rows))
	next := ""
	if end < len(rows) {
		next = fmt.Sprintf("%s-%d", order, end)
	}
	return rows[start:end], next, nil
}

func (f *fakeAPI) list(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	fits, err := choose(query)
	if err != nil {
		return nil, err
	}
	order := "desc"
	if query.Has("order") {
		order = query.Get("order")
	}
	var rows []control.Event
	for _, e := range h.events {
		if fits(e) {
			row := e.Event
			if i := slices.IndexFunc(e.Deliveries, func(d control.Delivery) bool { return d.Destination == query.Get("destination") }); i >= 0 {
				row.State, row.Attempts, row.Due, row.LastAttempt = e.Deliveries[i].State, e.Deliveries[i].Attempts, e.Deliveries[i].Due, e.Deliveries[i].LastAttempt
			}
			rows = append(rows, row)
		}
	}
	switch order {
	case "asc":
	case "desc":
		slices.Reverse(rows)
	default:
		return nil, badParameter("order", order, "desc or asc")
	}
	answer := control.Events{Events: []control.Event{}}
	rows, answer.Next, err = page(rows, query, order)
	answer.Events = append(answer.Events, rows...)
	return answer, err
}

var fakeEventID = regexp.MustCompile(`^[0-9a-f]{48}$`)

// find returns an event's index.
func (h *fakeHandler) find(id string) (int, error) {
	if !fakeEventID.MatchString(id) {
		return 0, apiError{http.StatusBadRequest, fmt.Sprintf("id %q: expected 48 lower-case hexadecimal digits", id)}
	}
	for i, e := range h.events {
		if e.ID == id {
			return i, nil
		}
	}
	return 0, apiError{http.StatusNotFound, "no event " + id}
}

func (*fakeAPI) event(h *fakeHandler, id string, _ http.ResponseWriter, _ *http.Request) (any, error) {
	i, err := h.find(id)
	if err != nil {
		return nil, err
	}
	return h.events[i], nil
}

func (*fakeAPI) explain(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	if _, err := netip.ParseAddr(query.Get("ip")); err != nil {
		return nil, badParameter("ip", query.Get("ip"), "an IP address")
	}
	answer, ok := h.allowed[query.Get("ip")]
	answer.IP, answer.ForwardedFor = query.Get("ip"), query.Get("forwarded_for")
	if !ok {
		answer.ClientIP, answer.Steps = answer.IP, []string{"the peer " + answer.IP + " is no trusted proxy", "no range has it"}
		answer.Warnings = []string{}
	}
	return answer, nil
}

// stream answers with the next stream. Other requests are answered meanwhile.
func (f *fakeAPI) stream(h *fakeHandler, _ string, w http.ResponseWriter, r *http.Request) (any, error) {
	if len(h.streams) == 0 {
		return nil, apiError{http.StatusServiceUnavailable, "64 streams are open already"}
	}
	next := h.streams[0]
	h.streams = h.streams[1:]
	w.Header().Set("Content-Type", "text/event-stream")
	f.mu.Unlock()
	defer f.mu.Lock()
	next(w, r)
	return nil, nil
}

// flush sends what was written so far.
func flush(t *testing.T, w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err != nil {
		t.Error(err)
	}
}
