package control

import "time"

// Process is the Caddy that answers.
type Process struct {
	Caddy   string    `json:"caddy"`   // Caddy's version
	Module  string    `json:"module"`  // the gateway's version; "(devel)" if it was built from a directory
	Started time.Time `json:"started"` // when the process started
}

// Handlers is the answer to GET /fotor_webhook/.
type Handlers struct {
	// Process is the Caddy that answers.
	Process Process `json:"process"`

	Handlers []Handler `json:"handlers"`

	// Unattended are the inboxes that hold something and have no handler: those in
	// Caddy's data directory, and those that a config of this process has used.
	// At most MaxUnattended.
	Unattended []Unattended `json:"unattended"`

	// MoreUnattended is true if there may be others, which were not looked at.
	MoreUnattended bool `json:"moreUnattended,omitempty"`
}

// MaxUnattended bounds Handlers.Unattended.
const MaxUnattended = 100

// Unattended is an inbox without a handler: its events are not delivered.
type Unattended struct {
	Storage     string `json:"storage"` // as Config.Storage
	Pending     int64  `json:"pending"` // events
	Dead        int64  `json:"dead"`    // events
	Quarantined int64  `json:"quarantined"`
	Tracked     int64  `json:"tracked,omitempty"` // tasks that nobody asks Fotor for any more

	// Error is why it could not be looked at.
	Error string `json:"error,omitempty"`
}

// Handler is how one handler is doing.
type Handler struct {
	Name   string `json:"name"`
	Config Config `json:"config"`

	// Process is the Caddy that answers. In a list of handlers it stands beside them.
	Process *Process `json:"process,omitempty"`

	// ConfigLoaded is when the config in force was loaded. A load that failed, or of a
	// config that had not changed, does not count.
	ConfigLoaded time.Time `json:"configLoaded"`

	// Events counts the events in the inbox by state; nil if unknown.
	Events *Counts `json:"events"`

	// OldestPending is when the oldest pending event arrived; nil if none is
	// pending, or if Events is nil.
	OldestPending *time.Time `json:"oldestPending,omitempty"`

	// Quarantined counts the distinct callbacks in quarantine; nil if unknown.
	Quarantined *int64 `json:"quarantined"`

	// Lost counts the events that vanished from the storage although they had been
	// neither delivered nor purged. LostAt is when that was last noticed.
	Lost   int64      `json:"lost,omitempty"`
	LostAt *time.Time `json:"lostAt,omitempty"`

	// InboxBytes is the size of the inbox, InboxLimit the size at which it is full, 0
	// for no limit; nil if unknown.
	InboxBytes *int64 `json:"inboxBytes"`
	InboxLimit *int64 `json:"inboxLimit"`

	// Recent counts what has arrived recently, LastMinute in the last 60 seconds, up to
	// one more. LastMinute has no LastUnavailable.
	Recent     Recent `json:"recent"`
	LastMinute Recent `json:"lastMinute"`

	// LastCallback is when a callback was accepted last, or a repeat of one; absent if
	// none was in this process.
	LastCallback *time.Time `json:"lastCallback,omitempty"`

	// Bodies are the bodies of callbacks in the memory of this Caddy.
	Bodies Bodies `json:"bodies"`

	// UnderWay counts the delivery attempts being made.
	UnderWay int `json:"underWay"`

	// Pressure is that of the destination which is under the most.
	Pressure Pressure `json:"pressure"`

	// Holds are the reasons why deliveries are held at the moment: for each destination
	// at most one by hand and one because it is in trouble. Empty if none is held.
	Holds []Hold `json:"holds"`

	// Destinations are where events go, in the order of their names: those of the
	// config, and those to which deliveries are pending or dead though it does not name
	// them any more.
	Destinations []Destination `json:"destinations"`

	// Tasks are those whose final events have not come; absent if Fotor is not asked for
	// them, because the handler has no fotor_api, or if they are unknown.
	Tasks *TaskStats `json:"tasks,omitempty"`

	// Asking is whether Fotor can be asked for them; absent without fotor_api.
	Asking *Asking `json:"asking,omitempty"`

	// Refusals are the distinct addresses that were refused last, the latest first; at
	// most MaxRefusals.
	Refusals []Refusal `json:"refusals"`

	// Error is why some of this is unknown, for instance because the inbox does not
	// answer.
	Error string `json:"error,omitempty"`
}

// Bodies is the memory used by bodies of callbacks that are not stored yet. When it is
// used up, slow callers are broken off and others answered 503.
type Bodies struct {
	Reading int   `json:"reading"` // bodies that have not arrived completely
	Bytes   int64 `json:"bytes"`   // memory that all of them use
	Limit   int64 `json:"limit"`
}
