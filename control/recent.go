package control

import "time"

// How far back Handler.Recent looks: what a request may ask for, and the default.
const (
	RecentMin     = 10 * time.Second
	RecentDefault = 10 * time.Minute
	RecentMax     = time.Hour
)

// Recent counts the requests that the handler has answered recently, by outcome. The
// counts are of this process: a restart resets them, a reload does not.
type Recent struct {
	// From is the beginning of the counted time: as far back as was asked for, up to ten
	// seconds more, or when the handler's name was first used in this process.
	From time.Time `json:"from"`

	Accepted   int64 `json:"accepted"`
	Duplicates int64 `json:"duplicates"`
	Refused    int64 `json:"refused"`  // for their address: 403
	TooLarge   int64 `json:"tooLarge"` // 413; kept nowhere
	Invalid    int64 `json:"invalid"`  // 400, 415 and 422 for what is no callback

	// NotKept counts those of Invalid that could not be kept in quarantine because
	// storage failed, or because they are larger than all that it may take. With a quarantine of 0 none counts.
	NotKept int64 `json:"notKept"`

	// Unavailable counts callbacks that could not be stored: 503.
	Unavailable int64 `json:"unavailable"`

	// LastUnavailable is the last time that storage failed, even if before From; absent
	// if it never did in this process.
	LastUnavailable *Unavailable `json:"lastUnavailable,omitempty"`
}

// Unavailable is when and why something could not be stored.
type Unavailable struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"` // at most 1024 bytes
}
