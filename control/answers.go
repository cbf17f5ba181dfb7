package control

import (
	"encoding/json"
	"net/http"
	"time"
)

// The types in this file and in handlers.go are the JSON of the admin API, as
// docs/openapi.yaml describes it. Times are RFC 3339 in UTC, durations are milliseconds. Where there is no time or
// text, the member is absent. A number that is unknown because the inbox does not
// answer is null.

// MaxRefusals bounds Handler.Refusals.
const MaxRefusals = 100

// Counts are numbers of events by state.
type Counts struct {
	Pending    int64 `json:"pending"`
	Delivered  int64 `json:"delivered"`
	Superseded int64 `json:"superseded"`
	Dead       int64 `json:"dead"`

	// Skipped counts the events that go to no destination; absent from the counts of a
	// destination's deliveries.
	Skipped int64 `json:"skipped,omitempty"`
}

// The values of Hold.By: who holds deliveries.
const (
	ByOperator = "operator" // by hand
	ByUpstream = "upstream" // the upstream is in trouble
)

// Hold is a stop of deliveries to a destination.
type Hold struct {
	Destination string `json:"destination"`

	By    string    `json:"by"`
	Since time.Time `json:"since"` // when it began, however often the upstream was tried since

	// Until is when a hold by the operator ends by itself; absent if it does not. For
	// an upstream in trouble it is when a single event is tried next; if that fails,
	// another pause begins. It is absent while that attempt is under way, or while no
	// event is due for it.
	Until *time.Time `json:"until,omitempty"`

	// Reason is what the operator gave, perhaps empty. For an upstream in trouble it is
	// why the last attempt failed.
	Reason string `json:"reason"`
}

// Refusal is an address that was refused.
type Refusal struct {
	Address string    `json:"address"` // the client IP; "" if it could not be determined
	Peer    string    `json:"peer"`    // the other end of the connection, at the last refusal
	Reason  string    `json:"reason"`
	Count   int64     `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Event is an event in a list.
type Event struct {
	ID         string    `json:"id"`
	TaskID     string    `json:"taskId"`
	Type       string    `json:"type"`
	Status     string    `json:"status"` // in_progress, completed, failed, lost
	State      string    `json:"state"`  // pending, delivered, superseded, dead, skipped
	ReceivedAt time.Time `json:"receivedAt"`

	// State and the members from here on are of all deliveries together; in a list of
	// one destination's events they are of the delivery there.

	// Attempts counts the attempts that count, those before a replay too.
	Attempts int `json:"attempts"`

	// Due is when the next attempt may begin; absent if it may begin now, if the event
	// waits for an earlier one of its task, or if there will be no attempt.
	Due       *time.Time `json:"due,omitempty"`
	SettledAt *time.Time `json:"settledAt,omitempty"`

	// LastAttempt is the last attempt that counted.
	LastAttempt *Attempt `json:"lastAttempt,omitempty"`

	// Deliveries are the event's, in the order of their destinations' names.
	Deliveries []Delivery `json:"deliveries"`
}

// Delivery is the way of an event to one destination.
type Delivery struct {
	Destination string     `json:"destination"`
	State       string     `json:"state"` // pending, delivered, superseded, dead
	Attempts    int        `json:"attempts"`
	Due         *time.Time `json:"due,omitempty"`
	SettledAt   *time.Time `json:"settledAt,omitempty"`
	LastAttempt *Attempt   `json:"lastAttempt,omitempty"`

	// AttemptRecords are the attempts that counted, oldest first; at least the last
	// hundred. Absent in lists.
	AttemptRecords []Attempt `json:"attemptRecords,omitempty"`

	// Replays are those between the attempts, oldest first, and the last one. Absent in
	// lists.
	Replays []Replay `json:"replays,omitempty"`
}

// Replay says that an operator had a delivery made again.
type Replay struct {
	At    time.Time `json:"at"`
	After int       `json:"after"` // the number of the attempt before, 0 if there was none

	// From is the destination that the delivery was moved from, where the attempts
	// before were made; absent if it stayed where it was.
	From string `json:"from,omitempty"`
}

// Attempt is one delivery attempt.
type Attempt struct {
	Number     int       `json:"number"` // at its destination, from 1; a replay goes on counting
	At         time.Time `json:"at"`
	DurationMS float64   `json:"durationMs"`
	Status     int       `json:"status"` // the upstream's HTTP status, 0 if there was no answer
	Reason     string    `json:"reason"` // why it failed; "" for a delivery
}

// Events is a page of a list, the newest events first unless the request asks
// otherwise.
type Events struct {
	Events []Event `json:"events"`

	// Next is the cursor of the next page; absent at the end.
	Next string `json:"next,omitempty"`
}

// EventDetail is all that is known of an event.
type EventDetail struct {
	Event
	TraceParent string `json:"traceparent,omitempty"` // W3C Trace Context

	// AttemptRecords are those of all deliveries, in the order in which they began.
	AttemptRecords []Attempt `json:"attemptRecords"`

	// Body is the event as the upstream gets it.
	Body json.RawMessage `json:"body"`
}

// Copy is a request with an event, complete, as a destination would get it now for the
// first time.
type Copy struct {
	ID          string `json:"id"` // the event's
	Destination string `json:"destination"`

	// Header is the header of the request, with the signature that the destination's
	// secrets make for this moment. Fotor-Webhook-Copy says that it is a copy.
	Header map[string]string `json:"header"`

	// Body is the event, byte for byte.
	Body         string `json:"body"`
	BodyEncoding string `json:"bodyEncoding"` // base64 if the body is not UTF-8
}

// Done is the answer to a replay of one event.
type Done struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// Bulk is the answer to a replay or purge by filter, and a line of its progress.
type Bulk struct {
	// Matched counts the events that fit the filter so far.
	Matched int64 `json:"matched"`

	// Changed counts those that were replayed or purged; with a dry run, those that would
	// be.
	Changed int64 `json:"changed"`

	// Skipped counts those that could not be changed: pending, being delivered just then,
	// or gone.
	Skipped int64 `json:"skipped"`

	DryRun bool `json:"dryRun"`

	// Done is true in the last line.
	Done bool `json:"done"`

	// Error is why it ended early.
	Error string `json:"error,omitempty"`
}

// HoldRequest is the body of POST …/hold. Until and For exclude each other.
type HoldRequest struct {
	Reason string     `json:"reason,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
	For    string     `json:"for,omitempty"` // a duration such as "30m"
}

// Holds is the answer to hold and resume. Its members are as in Handler, but for the
// destinations: these are the names of those that the config has, in order.
type Holds struct {
	Holds        []Hold   `json:"holds"`
	UnderWay     int      `json:"underWay"`
	Pressure     Pressure `json:"pressure"`
	Destinations []string `json:"destinations"`
}

// Quarantined is a callback in quarantine, in a list. Callbacks with the same body are
// one.
type Quarantined struct {
	ID         int64     `json:"id"`
	ReceivedAt time.Time `json:"receivedAt"` // the first time
	LastAt     time.Time `json:"lastAt"`     // the last time
	Count      int64     `json:"count"`      // how often it arrived
	SourceIP   string    `json:"sourceIp"`   // of the last time
	Status     int       `json:"status"`     // answered to the caller the last time
	Size       int       `json:"size"`       // of the body, in bytes

	// Problems are the problems that were answered to the caller the last time; in a list
	// the first three. ProblemCount counts them all.
	Problems     []Problem `json:"problems"`
	ProblemCount int       `json:"problemCount"`
}

// Unconfirmed reports whether the callback is valid, and is kept because Fotor did not
// confirm it. Its caller was answered 200 before Fotor was asked.
func (q *Quarantined) Unconfirmed() bool { return q.Status == http.StatusOK }

// Problem is one thing that is wrong with a callback.
type Problem struct {
	Pointer string `json:"pointer"` // a JSON Pointer; "" is the whole document
	Detail  string `json:"detail"`
}

// Quarantine is a page of a list, the callbacks that arrived last first.
type Quarantine struct {
	Callbacks []Quarantined `json:"callbacks"`
	Next      string        `json:"next,omitempty"`
}

// The encodings of QuarantinedDetail.Body and Copy.Body.
const (
	BodyText   = "utf-8"
	BodyBase64 = "base64"
)

// QuarantinedDetail is all that is known of a callback in quarantine.
type QuarantinedDetail struct {
	Quarantined
	Body         string `json:"body"`
	BodyEncoding string `json:"bodyEncoding"` // base64 if the body is not UTF-8
}

// Released is the answer to a release from quarantine.
type Released struct {
	ID        string `json:"id"` // the event's
	Duplicate bool   `json:"duplicate"`
}

// Refused is the answer when a release is refused.
type Refused struct {
	Error    string    `json:"error"`
	Problems []Problem `json:"problems"`
}

// Explanation is whether a caller would be let in, and why.
type Explanation struct {
	IP           string `json:"ip"`
	ForwardedFor string `json:"forwardedFor,omitempty"`

	// TrustedProxy is true if IP is one of the server's trusted proxies.
	TrustedProxy bool `json:"trustedProxy"`

	// ClientIP is the address that is looked up in the whitelist; "" if none was found.
	ClientIP string `json:"clientIp"`

	Allowed bool `json:"allowed"`

	// Rule is the entry that lets the caller in; absent if none does.
	Rule *Rule `json:"rule,omitempty"`

	// Steps describe in order how the client's address was found and judged.
	Steps []string `json:"steps"`

	// Warnings describe what is dangerous about the config.
	Warnings []string `json:"warnings"`
}

// Rule is an entry of the whitelist.
type Rule struct {
	Option string `json:"option"` // allow or allow_from
	Value  string `json:"value"`  // as configured, such as "fotor"
	Range  string `json:"range"`  // the range that contains the address
}

// Notice is something that happened: the data of a server-sent event.
type Notice struct {
	Kind    string    `json:"kind"`
	Handler string    `json:"handler"`
	At      time.Time `json:"at"`

	// About an event; empty for other kinds. Long texts are cut.
	ID     string `json:"id,omitempty"`
	TaskID string `json:"taskId,omitempty"`
	Type   string `json:"type,omitempty"`
	Status string `json:"status,omitempty"`
	Origin string `json:"origin,omitempty"` // api, if Fotor's API was asked; empty for a callback

	// Destination is where an attempt was made, or whose deliveries are held.
	Destination string `json:"destination,omitempty"`

	// About an attempt.
	Attempt        int        `json:"attempt,omitempty"`
	UpstreamStatus int        `json:"upstreamStatus,omitempty"`
	DurationMS     float64    `json:"durationMs,omitempty"`
	Due            *time.Time `json:"due,omitempty"`
	Reason         string     `json:"reason,omitempty"` // also of a hold; of a lost task Fotor's last answer

	// About a callback in quarantine. QuarantineID is 0 if it was not kept.
	QuarantineID int64  `json:"quarantineId,omitempty"`
	Count        int64  `json:"count,omitempty"` // how often the same body was kept
	SourceIP     string `json:"sourceIp,omitempty"`
	Problems     int    `json:"problems,omitempty"`

	// About a hold: who holds, and until when, if that is known.
	By    string     `json:"by,omitempty"`
	Until *time.Time `json:"until,omitempty"`

	// About a lost task: since when it was known, and how often Fotor was asked for it.
	Since *time.Time `json:"since,omitempty"`
	Asked int        `json:"asked,omitempty"`

	// Missed counts the notices that are no longer remembered; -1 if that is unknown
	// because the gateway was restarted. For a gap only.
	Missed int64 `json:"missed,omitempty"`
}

// The kinds of notices: the names of the server-sent events.
const (
	Accepted     = "accepted"    // a callback, or what Fotor's API says, was stored; not for repeats
	Delivered    = "delivered"   // the upstream has taken an event
	Retried      = "retried"     // an attempt failed; there will be another
	GivenBack    = "released"    // an attempt failed but does not count, because of a hold or a stop
	Dead         = "dead"        // an event was given up
	InQuarantine = "quarantined" // a callback was not valid
	Lost         = "lost"        // a task was given up of which Fotor says no end
	Held         = "held"        // deliveries are held from now on
	Resumed      = "resumed"     // deliveries go on
	Gap          = "gap"         // notices are missing here
)
