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
}
