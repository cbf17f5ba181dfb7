package command

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// This file has what fakeAPI knows of destinations.

func (f *fakeAPI) one(h *fakeHandler, _ string, _ http.ResponseWriter, _ *http.Request) (any, error) {
	answer := h.Handler
	if !f.process.Started.IsZero() { // not an older Caddy
		answer.Process = &f.process
	}
	return answer, nil
}

// configured returns the names of the destinations that the config has.
func (h *fakeHandler) configured() []string {
	names := []string{}
	for _, d := range h.Destinations {
		if d.Configured {
			names = append(names, d.Name)
		}
	}
	return names
}

// checkDestination refuses a parameter that names no destination of the config.
func (h *fakeHandler) checkDestination(query url.Values, name string) error {
	if query.Has(name) && !slices.Contains(h.configured(), query.Get(name)) {
		return apiError{http.StatusNotFound, fmt.Sprintf("the config has no destination %q: expected %s", query.Get(name), strings.Join(h.configured(), ", "))}
	}
	return nil
}

// stateAt returns the state of an event, or with a destination that of its delivery there;
// "" if it has none.
func stateAt(e *control.EventDetail, destination string) string {
	if destination == "" {
		return e.State
	}
	for _, d := range e.Deliveries {
		if d.Destination == destination {
			return d.State
		}
	}
	return ""
}

// replay makes deliveries of an event pending, as the parameters say.
func replay(e *control.EventDetail, query url.Values) {
	from, to := query.Get("destination"), query.Get("to")
	if to != "" {
		e.Deliveries = slices.DeleteFunc(e.Deliveries, func(d control.Delivery) bool {
			return d.Destination == to || d.Destination == from && (d.State == "pending" || d.State == "dead")
		})
		e.Deliveries = append(e.Deliveries, control.Delivery{Destination: to})
		from = to
	}
	for i := range e.Deliveries {
		if d := &e.Deliveries[i]; from == "" || d.Destination == from {
			d.State, d.Due = "pending", nil
		}
	}
	e.State, e.Due = "pending", nil
}

// withDestinations makes a handler with four destinations: one is well, one is held, one is
// under pressure, and one was removed from the config.
func withDestinations(f *fakeAPI, _ *environment) {
	h := f.handlers[0]
	h.Events = &control.Counts{Pending: 1216, Delivered: 1034, Superseded: 3, Dead: 2, Skipped: 40}
	h.OldestPending = new(ago(26 * time.Hour))
	h.Config.Destinations = []control.DestinationConfig{
		{
			Name: "archive", Match: []string{"status failed", "expression event.extra.app == 'shop'"}, Forward: "routes",
			Timeout: "30s", Concurrency: 4, Rate: 0.5, RetryFirst: "5s", RetryMax: "1h0m0s", GiveUp: "168h0m0s",
		},
		{
			Name: "staging", Match: []string{}, Forward: "https://staging.example.com", SignSecrets: 1,
			Timeout: "30s", Concurrency: 32, RetryFirst: "5s", RetryMax: "1h0m0s", GiveUp: "72h0m0s",
		},
	}
	maintenance := control.Hold{
		Destination: "archive", By: control.ByOperator, Since: ago(90 * time.Minute), Until: new(testNow.Add(30 * time.Minute)), Reason: "maintenance",
	}
	h.Holds = []control.Hold{maintenance}
	h.Pressure = control.Pressure{Limit: 0, Concurrency: 4}
	h.Destinations = []control.Destination{
		{
			Name: "archive", Configured: true, Deliveries: &control.Counts{Pending: 12, Delivered: 1}, OldestPending: new(ago(80 * time.Minute)),
			Pressure: &control.Pressure{Limit: 0, Concurrency: 4}, Holds: []control.Hold{maintenance},
		},
		{
			Name: "default", Configured: true, Deliveries: &control.Counts{Delivered: 1034, Superseded: 3},
			UnderWay: 3, Pressure: &control.Pressure{Limit: 32, Concurrency: 32, Attempts: 1240, Delivered: 1240}, Holds: []control.Hold{},
			LastDelivery: new(ago(time.Second)),
		},
		{
			Name: "shop", Deliveries: &control.Counts{Pending: 4, Delivered: 3110, Dead: 1}, OldestPending: new(ago(26 * time.Hour)), Holds: []control.Hold{},
		},
		{
			Name: "staging", Configured: true, Deliveries: &control.Counts{Pending: 1204, Delivered: 12, Dead: 3}, OldestPending: new(ago(5 * time.Minute)),
			UnderWay: 1, Pressure: &control.Pressure{Limit: 2, Concurrency: 32, Attempts: 40, Delivered: 28, Failed: 12}, Holds: []control.Hold{},
			LastDelivery: new(ago(90 * time.Second)),
		},
	}
	h.spreadEvents()
}

// spreadEvents gives the events deliveries to several destinations.
func (h *fakeHandler) spreadEvents() {
	took := control.Attempt{At: ago(59 * time.Minute), DurationMS: 1.25, Status: 204}
	refused := control.Attempt{At: ago(40 * time.Minute), DurationMS: 12.5, Status: 503, Reason: "upstream answered 503"}
	at := func(destination, state string, attempts ...control.Attempt) control.Delivery {
		for i := range attempts {
			attempts[i].Number = i + 1
		}
		d := control.Delivery{Destination: destination, State: state, Attempts: len(attempts), AttemptRecords: attempts}
		if len(attempts) > 0 {
			d.LastAttempt = &attempts[len(attempts)-1]
		}
		return d
	}
	dead, retried, skipped := h.events[1], h.events[3], h.events[4]
	dead.Deliveries = []control.Delivery{
		at("archive", "pending"), at("default", "delivered", took), at("shop", "dead", refused, refused),
	}
	dead.Deliveries[0].Due, dead.Deliveries[1].SettledAt = new(testNow.Add(90*time.Second)), new(ago(59*time.Minute))
	dead.Deliveries[2].SettledAt, dead.Deliveries[2].Attempts = new(ago(40*time.Minute)), 150 // more than are remembered
	dead.State, dead.Attempts, dead.SettledAt = "pending", 151, nil
	dead.AttemptRecords = []control.Attempt{took, refused, refused}
	retried.Deliveries = nil
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		retried.Deliveries = append(retried.Deliveries, at(name, "pending"))
	}
	skipped.State, skipped.Deliveries = "skipped", []control.Delivery{}
	h.events[0].Deliveries[0].Destination = "staging"
}

// holdsOf is the answer to hold and resume.
func (h *fakeHandler) holdsOf() control.Holds {
	return control.Holds{Holds: append([]control.Hold{}, h.Holds...), UnderWay: h.UnderWay, Pressure: h.Pressure, Destinations: h.configured()}
}

// destinationsAway makes the inbox of several destinations unreachable.
func destinationsAway(f *fakeAPI, env *environment) {
	withDestinations(f, env)
	h := f.handlers[0]
	away(f, env)
	h.Destinations = h.Destinations[:2] // what was left behind is not known
	h.Holds = h.Destinations[0].Holds
	for i := range h.Destinations {
		h.Destinations[i].Deliveries, h.Destinations[i].OldestPending = nil, nil
	}
}

// destinationsOfSeveral makes two handlers, one of them with several destinations.
func destinationsOfSeveral(f *fakeAPI, env *environment) {
	withDestinations(f, env)
	f.handlers = append(f.handlers, sampleHandler("avatars"))
}

// nothingLeft removes a destination that has nothing pending or dead.
func nothingLeft(f *fakeAPI, env *environment) {
	withDestinations(f, env)
	h := f.handlers[0]
	h.Destinations = h.Destinations[1:3]
	h.Destinations[1].Deliveries, h.Destinations[1].OldestPending = &control.Counts{Delivered: 3110}, nil
}

// happeningsAtStaging makes a stream with notices about a destination.
func happeningsAtStaging(f *fakeAPI, env *environment) {
	withDestinations(f, env)
	about := control.Notice{
		Handler: "default", At: testNow, ID: id(1), TaskID: "39371b3800cc4a7e9e24867b0dfdf25b", Type: "avatar", Status: "completed", Destination: "staging",
	}
	delivered, retried := about, about
	delivered.Kind, delivered.Attempt, delivered.UpstreamStatus = control.Delivered, 1, 204
	retried.Kind, retried.Attempt, retried.UpstreamStatus, retried.Reason = control.Retried, 2, 503, "upstream answered 503"
	held := control.Notice{Handler: "default", At: testNow, Destination: "staging", Kind: control.Held, By: control.ByUpstream, Reason: "upstream answered 503"}
	resumed := control.Notice{Handler: "default", At: testNow, Destination: "staging", Kind: control.Resumed}
	f.handlers[0].streams = []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) { writeNotices(w, 1, delivered, retried, held, resumed) },
	}
}
