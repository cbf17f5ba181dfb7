package control

import "time"

// HistorySpans are the spans of a history by name: an hour by minutes, a day by quarters
// of an hour, a week by two hours. The first is the default.
var HistorySpans = []string{"hour", "day", "week"}

// History is what has happened lately to a handler's callbacks and deliveries, in steps
// of equal length, for charts. A reload keeps it. After a restart it has what the inbox
// knows of the time before: what was accepted, and how deliveries ended, but neither
// refusals, nor failed attempts, nor the time that answers took.
//
// It is that of one Caddy. If several share an inbox, each has its own, but what was
// before its start is that of all.
type History struct {
	Span string    `json:"span"`        // one of HistorySpans
	From time.Time `json:"from"`        // when the first step begins
	Step int64     `json:"stepSeconds"` // the length of a step

	// Started is when counting began. What is before that was read from the inbox.
	Started time.Time `json:"started"`

	// KnownFrom is how far back the inbox was read; absent if it was read as far as the
	// span reaches. Complete is false while it is being read.
	KnownFrom *time.Time `json:"knownFrom,omitempty"`
	Complete  bool       `json:"complete"`

	Callbacks    CallbackHistory   `json:"callbacks"`
	Destinations []DeliveryHistory `json:"destinations"` // in the order of their names
}

// CallbackHistory is about requests. Each array has one number for each step.
type CallbackHistory struct {
	Accepted    []int64 `json:"accepted"`
	Duplicates  []int64 `json:"duplicates"`
	Refused     []int64 `json:"refused"`     // for their address: 403
	Invalid     []int64 `json:"invalid"`     // 400, 413, 415 and 422
	Unavailable []int64 `json:"unavailable"` // 503

	// Answer is how long accepted callbacks and repeats took to be answered, in
	// milliseconds, to within an eighth.
	Answer Times `json:"answerMs"`
}

// DeliveryHistory is about the deliveries to a destination.
type DeliveryHistory struct {
	Destination string `json:"destination"`

	Delivered []int64 `json:"delivered"`
	Retried   []int64 `json:"retried"` // attempts that failed, and are repeated
	Dead      []int64 `json:"dead"`

	// Age is how old events were when they were delivered, in milliseconds, to within
	// an eighth.
	Age Times `json:"ageMs"`
}

// Times are how long things took, in milliseconds: half of them at most P50, and so on.
// Where a step has none it is null.
type Times struct {
	P50 []*float64 `json:"p50"`
	P95 []*float64 `json:"p95"`
	P99 []*float64 `json:"p99"`

	All *Quantiles `json:"all"` // of the whole span; null if there are none
}

// Quantiles are those of a whole span, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}
