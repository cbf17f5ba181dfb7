package control

import "time"

// The states of Asking.
const (
	AskingWorks       = "works"
	AskingUnreachable = "unreachable" // probed at growing intervals
	AskingKeyRefused  = "key_refused" // until the config is loaded again
)

// Asking is whether Fotor can be asked for tasks.
type Asking struct {
	URL   string    `json:"url"`   // scheme and host
	State string    `json:"state"` // works, unreachable, key_refused
	Since time.Time `json:"since"` // when that began

	// Reason is the last error; absent if it works.
	Reason string `json:"reason,omitempty"`

	// Rate is how many questions a second are put at most at the moment, ConfigRate the
	// config's.
	Rate       float64 `json:"rate"`
	ConfigRate float64 `json:"configRate"`

	// Confirm is how final callbacks are confirmed before their events are delivered; nil if
	// they are not.
	Confirm *Confirm `json:"confirm,omitempty"`

	// Share is this Caddy's part of the rate; absent if the inbox cannot be shared.
	Share *AskingShare `json:"share,omitempty"`
}

// AskingShare is the part of the rate that one of several Caddys has which share an inbox.
type AskingShare struct {
	// Rate is that part in questions a second; 0 if nothing may be asked at the moment, as
	// the other Caddys may not know of this one.
	Rate float64 `json:"rate"`

	// Askers is the number of Caddys that ask, with this one; 0 if that was never known.
	Askers int `json:"askers"`

	// Reason is why the other Caddys cannot be told, and nothing may be asked; absent if
	// they can be.
	Reason string `json:"reason,omitempty"`
}

// Confirm is how final callbacks are confirmed.
type Confirm struct {
	// OnFailure is what becomes of a callback of which Fotor could not be asked for
	// Patience, a Go duration: deliver or hold.
	OnFailure string `json:"onFailure"`
	Patience  string `json:"patience"`
}
