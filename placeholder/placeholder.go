// Package placeholder says what Caddy's placeholders {http.fotor_webhook.*} stand for: in
// a request that brought a callback, and in that of a delivery attempt. Nothing is made
// of them unless a config asks.
package placeholder

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/percent"
)

// prefix is what the names of the placeholders begin with.
const prefix = "http.fotor_webhook."

// braces are encoded in texts from outside, so that no handler that replaces placeholders
// in what it was given finds any there.
const braces = "{}"

// values are what the placeholders of one request stand for. They hold no bytes of the
// event's body, because a request may last long. With at most 128 bytes, a closure has
// them without another allocation.
type values struct {
	id, taskID, taskType, status string // empty if the callback has no event
	outcome                      gateway.Outcome
	destination                  string // empty if the request is no attempt
	attempt                      int
}

// OfCallback gives the placeholders of a request their values, once it is known what
// became of its callback. The event is nil if the callback was refused.
func OfCallback(r *http.Request, outcome gateway.Outcome, e *inbox.Event) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	v := of(e, outcome, "", 0)
	repl.Map(func(key string) (any, bool) { return v.get(key) })
}

// OfAttempt gives the placeholders of the request of a delivery attempt their values.
func OfAttempt(repl *caddy.Replacer, destination string, lease *inbox.Lease) {
	v := of(lease.Event, gateway.Accepted, destination, lease.Attempt)
	repl.Map(func(key string) (any, bool) { return v.get(key) })
}

func of(e *inbox.Event, outcome gateway.Outcome, destination string, attempt int) values {
	if e == nil {
		return values{outcome: outcome}
	}
	return values{
		id: e.ID, taskID: e.TaskID, taskType: e.Type, status: e.Status.String(),
		outcome: outcome, destination: destination, attempt: attempt,
	}
}

// get is the caddy.ReplacerFunc of the values.
func (v values) get(key string) (value any, known bool) {
	name, ours := strings.CutPrefix(key, prefix)
	if !ours {
		return nil, false
	}
	switch name {
	case "id":
		return v.id, true
	case "task_id":
		return percent.Encode(v.taskID, braces), true
	case "type":
		return percent.Encode(v.taskType, braces), true
	case "status":
		return v.status, true
	case "duplicate":
		return v.outcome == gateway.Duplicate, true
	case "outcome":
		return string(v.outcome), true
	case "destination":
		return v.destination, v.destination != ""
	case "attempt":
		return v.attempt, v.destination != ""
	default:
		return nil, false
	}
}
