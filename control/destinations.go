package control

import "time"

// Config is the handler's configuration without secrets, with the names of the JSON
// config.
type Config struct {
	Allow       []string `json:"allow"`
	AllowFrom   []string `json:"allow_from"`   // the modules' names
	MaxBody     int64    `json:"max_body"`     // bytes
	Inbox       string   `json:"inbox"`        // the module's name, such as "sqlite"
	Storage     string   `json:"storage"`      // where the inbox is, such as "sqlite:/var/lib/…"
	Keep        string   `json:"keep"`         // a Go duration, like the other durations here
	Quarantine  int      `json:"quarantine"`   // callbacks
	Forward     string   `json:"forward"`      // scheme and host of the URL, or "routes"; "" if only destinations say where events go
	SignSecrets int      `json:"sign_secrets"` // how many secrets sign
	Timeout     string   `json:"timeout"`
	Concurrency int      `json:"concurrency"`
	RetryFirst  string   `json:"retry_first"`
	RetryMax    string   `json:"retry_max"`
	GiveUp      string   `json:"retry_give_up"`
	Rate        float64  `json:"rate"` // of Forward: attempts a second; 0 is unlimited

	// Destinations are those beside Forward, in the order of their names.
	Destinations []DestinationConfig `json:"destinations"`
}

// DestinationConfig is the config of one destination without secrets.
type DestinationConfig struct {
	Name        string   `json:"name"`
	Match       []string `json:"match"` // as lines of a Caddyfile, such as "type avatar video"
	Forward     string   `json:"forward"`
	SignSecrets int      `json:"sign_secrets"`
	Timeout     string   `json:"timeout"`
	Concurrency int      `json:"concurrency"`
	Rate        float64  `json:"rate"` // attempts a second; 0 is unlimited
	RetryFirst  string   `json:"retry_first"`
	RetryMax    string   `json:"retry_max"`
	GiveUp      string   `json:"retry_give_up"`
}

// Destination is how one destination is doing.
type Destination struct {
	Name string `json:"name"`

	// Configured is false if no running config names the destination: what is pending
	// there waits until it is configured again, replayed to another one, or purged.
	Configured bool `json:"configured"`

	// Deliveries counts the deliveries by state; nil if unknown.
	Deliveries *Counts `json:"deliveries"`

	// OldestPending is when the oldest event arrived whose delivery is pending; nil if
	// none is, or if Deliveries is nil.
	OldestPending *time.Time `json:"oldestPending,omitempty"`

	// UnderWay, Pressure and Holds are as in Handler, for this destination. Pressure is
	// nil if nothing is delivered there.
	UnderWay int       `json:"underWay"`
	Pressure *Pressure `json:"pressure"`
	Holds    []Hold    `json:"holds"`

	// LastDelivery is when this Caddy delivered an event there last; absent if it has
	// not since it began to deliver there.
	LastDelivery *time.Time `json:"lastDelivery,omitempty"`
}
