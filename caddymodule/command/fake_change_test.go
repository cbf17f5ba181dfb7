package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// This file has the routes of fakeAPI that change something, and the quarantine.

func (*fakeAPI) deleteEvent(h *fakeHandler, id string, w http.ResponseWriter, _ *http.Request) (any, error) {
	i, err := h.find(id)
	switch {
	case err != nil:
		return nil, err
	case h.leased[id]:
		return nil, apiError{http.StatusConflict, "event " + id + " is being delivered"}
	}
	h.events = slices.Delete(h.events, i, i+1)
	w.WriteHeader(http.StatusNoContent)
	return nil, nil
}

func (*fakeAPI) replayEvent(h *fakeHandler, id string, _ http.ResponseWriter, r *http.Request) (any, error) {
	i, err := h.find(id)
	if err == nil {
		err = h.checkDestination(r.URL.Query(), "to")
	}
	if err != nil {
		return nil, err
	}
	replay(h.events[i], r.URL.Query())
	return control.Done{ID: id, State: "pending"}, nil
}

func (f *fakeAPI) replayMany(h *fakeHandler, _ string, w http.ResponseWriter, r *http.Request) (any, error) {
	if err := h.checkDestination(r.URL.Query(), "to"); err != nil {
		return nil, err
	}
	return f.bulk(h, w, r, func(e *control.EventDetail) bool {
		if r.URL.Query().Get("dry_run") != "true" {
			replay(e, r.URL.Query())
		}
		return true
	})
}

func (f *fakeAPI) purgeMany(h *fakeHandler, _ string, w http.ResponseWriter, r *http.Request) (any, error) {
	return f.bulk(h, w, r, func(e *control.EventDetail) bool {
		if h.leased[e.ID] {
			return false
		}
		if r.URL.Query().Get("dry_run") != "true" {
			h.events = slices.DeleteFunc(h.events, func(other *control.EventDetail) bool { return other == e })
		}
		return true
	})
}

func (f *fakeAPI) bulk(h *fakeHandler, w http.ResponseWriter, r *http.Request, change func(*control.EventDetail) bool) (any, error) {
	query := r.URL.Query()
	fits, limit, err := bulkParams(query)
	if err != nil {
		return nil, err
	}
	lines := r.Header.Get("Accept") == "application/x-ndjson"
	answer := control.Bulk{DryRun: query.Get("dry_run") == "true"}
	for _, e := range slices.Clone(h.events) {
		leave := stateAt(e, query.Get("destination")) == "pending" && !query.Has("to") && !strings.Contains(query.Get("state"), "pending")
		if !fits(e) || leave {
			continue
		}
		if answer.Changed == limit {
			break
		}
		answer.Matched++
		if change(e) {
			answer.Changed++
		} else {
			answer.Skipped++
		}
		if lines {
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				return nil, err
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return nil, err
			}
		}
	}
	if e, ok := f.fail["end of bulk"]; ok {
		answer.Error = e.text
		return answer, nil
	}
	answer.Done = true
	return answer, nil
}

func bulkParams(query url.Values) (fits func(*control.EventDetail) bool, limit int64, err error) {
	for _, name := range []string{"dry_run", "all"} {
		if value := query.Get(name); query.Has(name) && value != "true" && value != "false" {
			return nil, 0, badParameter(name, value, "true or false")
		}
	}
	limit = -1
	if query.Has("limit") {
		if limit, err = strconv.ParseInt(query.Get("limit"), 10, 64); err != nil || limit < 1 {
			return nil, 0, badParameter("limit", query.Get("limit"), "1 or more")
		}
	}
	if query.Get("all") != "true" && !slices.ContainsFunc(filterParams, query.Has) {
		return nil, 0, apiError{http.StatusBadRequest, "expected a filter, or all=true"}
	}
	fits, err = choose(query)
	return fits, limit, err
}

func (*fakeAPI) hold(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	var request control.HoldRequest
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil && !errors.Is(err, io.EOF) {
		return nil, apiError{http.StatusBadRequest, err.Error()}
	}
	if err := h.checkDestination(r.URL.Query(), "destination"); err != nil {
		return nil, err
	}
	hold := control.Hold{By: control.ByOperator, Since: testNow, Reason: request.Reason, Until: request.Until}
	if request.For != "" {
		d, err := time.ParseDuration(request.For)
		if err != nil || request.Until != nil {
			return nil, badParameter("for", request.For, "a duration and no until")
		}
		until := testNow.Add(d)
		hold.Until = &until
	}
	for _, name := range h.configured() {
		if destination := r.URL.Query().Get("destination"); destination == "" || destination == name {
			hold.Destination = name
			h.Holds = append(h.Holds, hold)
		}
	}
	h.Pressure.Limit = 0
	return h.holdsOf(), nil
}

func (*fakeAPI) resume(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	if err := h.checkDestination(r.URL.Query(), "destination"); err != nil {
		return nil, err
	}
	destination := r.URL.Query().Get("destination")
	h.Holds = slices.DeleteFunc(h.Holds, func(hold control.Hold) bool {
		return hold.By == control.ByOperator && (destination == "" || hold.Destination == destination)
	})
	h.Pressure.Limit = h.Pressure.Concurrency
	if len(h.Holds) > 0 {
		h.Pressure.Limit = 1
	}
	return h.holdsOf(), nil
}

func (*fakeAPI) listQuarantine(h *fakeHandler, _ string, _ http.ResponseWriter, r *http.Request) (any, error) {
	var rows []control.Quarantined
	for _, q := range h.quarantine {
		row := q.Quarantined
		row.Problems = row.Problems[:min(len(row.Problems), 3)]
		rows = append(rows, row)
	}
	slices.Reverse(rows)
	answer := control.Quarantine{Callbacks: []control.Quarantined{}}
	rows, next, err := page(rows, r.URL.Query(), "desc")
	answer.Callbacks, answer.Next = append(answer.Callbacks, rows...), next
	return answer, err
}

func (h *fakeHandler) findSuspect(id string) (int, error) {
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil || number < 1 {
		return 0, apiError{http.StatusBadRequest, fmt.Sprintf("id %q: expected a positive integer", id)}
	}
	for i, q := range h.quarantine {
		if q.ID == number {
			return i, nil
		}
	}
	return 0, apiError{http.StatusNotFound, "no quarantined callback " + id}
}

func (*fakeAPI) suspect(h *fakeHandler, id string, _ http.ResponseWriter, _ *http.Request) (any, error) {
	i, err := h.findSuspect(id)
	if err != nil {
		return nil, err
	}
	return h.quarantine[i], nil
}

func (*fakeAPI) deleteSuspect(h *fakeHandler, id string, w http.ResponseWriter, _ *http.Request) (any, error) {
	i, err := h.findSuspect(id)
	if err != nil {
		return nil, err
	}
	h.quarantine = slices.Delete(h.quarantine, i, i+1)
	w.WriteHeader(http.StatusNoContent)
	return nil, nil
}

func (*fakeAPI) release(h *fakeHandler, id string, w http.ResponseWriter, _ *http.Request) (any, error) {
	i, err := h.findSuspect(id)
	if err != nil {
		return nil, err
	}
	released, valid := h.valid[h.quarantine[i].ID]
	if !valid {
		w.WriteHeader(http.StatusUnprocessableEntity)
		invalid := control.InvalidError{Problems: h.quarantine[i].Problems}
		return control.Refused{Error: invalid.Error(), Problems: invalid.Problems}, nil
	}
	h.quarantine = slices.Delete(h.quarantine, i, i+1)
	return released, nil
}
