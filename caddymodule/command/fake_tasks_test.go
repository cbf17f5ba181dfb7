package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// trackedTasks are a handler's, those that became known last first.
type trackedTasks struct {
	tasks     []control.Task
	notAsking bool
}

func taskRoutes() []route {
	return []route{
		{"GET", "/fotor_webhook/{name}/tasks", []string{"limit", "cursor", "order"}, (*fakeAPI).listTasks},
		{"POST", "/fotor_webhook/{name}/tasks", nil, (*fakeAPI).trackTasks},
		{"DELETE", "/fotor_webhook/{name}/tasks/{id}", nil, (*fakeAPI).untrackTask},
	}
}

func (*fakeAPI) listTasks(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	rows, order := slices.Clone(h.tasks), "desc"
	if r.URL.Query().Get("order") == "asc" {
		order = "asc"
		slices.Reverse(rows)
	}
	answer := control.Tasks{Tasks: []control.Task{}, Asking: !h.notAsking}
	rows, next, err := page(rows, r.URL.Query(), order)
	answer.Tasks, answer.Next = append(answer.Tasks, rows...), next
	return answer, err
}

func (*fakeAPI) trackTasks(h *fakeHandler, _ string, w http.ResponseWriter, r *http.Request) (any, error) {
	var request control.TrackRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		return nil, err
	}
	if h.notAsking {
		return nil, apiError{http.StatusConflict, control.ErrNotAsking.Error()}
	}
	if n := len(request.Tasks); n == 0 || n > inbox.MaxTrack {
		return nil, fmt.Errorf("%d tasks in one request", n)
	}
	if slices.Contains(request.Tasks, "refused") {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return control.Refused{Error: "no task was tracked: /tasks/0 is refused", Problems: []control.Problem{{Pointer: "/tasks/0", Detail: "is refused"}}}, nil
	}
	var tracked control.Tracked
	for _, id := range request.Tasks {
		if slices.ContainsFunc(h.tasks, func(t control.Task) bool { return t.TaskID == id }) {
			tracked.Known++
			continue
		}
		tracked.Added++
		h.tasks = append(h.tasks, control.Task{TaskID: id})
	}
	return tracked, nil
}

func (*fakeAPI) untrackTask(h *fakeHandler, id string, w http.ResponseWriter, _ *http.Request) (any, error) {
	before := len(h.tasks)
	h.tasks = slices.DeleteFunc(h.tasks, func(t control.Task) bool { return t.TaskID == id })
	if len(h.tasks) == before {
		return nil, apiError{http.StatusNotFound, "no such task is tracked"}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil, nil
}

// waiting makes some tasks wait.
func waiting(f *fakeAPI, _ *environment) {
	h := f.handlers[0]
	h.Tasks = &control.TaskStats{Waiting: 1204, Due: 3, Oldest: new(ago(26 * time.Hour)), Dropped: 2}
	h.Asking = &control.Asking{
		URL: "https://api-b.fotor.com", State: control.AskingKeyRefused, Since: ago(3 * time.Minute),
		Reason: "HTTP 401: Fotor refuses the key", ConfigRate: 2, Rate: 2,
	}
	h.tasks = []control.Task{
		{TaskID: "6cf0082eba5044f1a9495e0eaf5e35ca", Source: "submission", Since: ago(40 * time.Second), Due: testNow.Add(80 * time.Second)},
		{
			TaskID: "39371b3800cc4a7e9e24867b0dfdf25b", Source: "callback", Since: ago(22 * time.Minute), Due: testNow.Add(-time.Second),
			Asked: 3, AskedAt: new(ago(8 * time.Minute)), Answer: "in progress",
		},
		{
			TaskID: "a\x1b[31m", Source: "operator", Since: ago(26 * time.Hour), Due: testNow.Add(21 * time.Minute),
			Asked: 1040, AskedAt: new(ago(9 * time.Minute)), Answer: "HTTP 429: Fotor is asked too often at the moment, so it is asked later",
		},
	}
}

// sharing has the rate shared by several Caddys.
func sharing(share control.AskingShare, rate float64) func(*fakeAPI, *environment) {
	return func(f *fakeAPI, env *environment) {
		waiting(f, env)
		f.handlers[0].Asking = &control.Asking{
			URL: "https://api-b.fotor.com", State: control.AskingWorks, Since: ago(time.Hour), ConfigRate: 2, Rate: rate, Share: &share,
		}
	}
}

// confirming has final callbacks confirmed.
func confirming(f *fakeAPI, env *environment) {
	sharing(control.AskingShare{Rate: 2, Askers: 1}, 2)(f, env)
	f.handlers[0].Asking.Confirm = &control.Confirm{OnFailure: "hold", Patience: "10m0s"}
}

func notAsking(f *fakeAPI, env *environment) {
	waiting(f, env)
	f.handlers[0].notAsking, f.handlers[0].Tasks, f.handlers[0].Asking = true, nil, nil
}
