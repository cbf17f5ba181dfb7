package control

import "time"

// How far back Handler.Recent looks: what a caller may ask for, and what is
// taken unless it does.
const (
	RecentMin     = 10 * time.Second
	RecentDefault = 10 * time.Minute
	RecentMax     = time.Hour
)

// Recent counts requests that the handler has answered lately, by what became
// of them. It is of this process: it begins anew with a restart, not with a
// reload.
type Recent struct {
	// From is the beginning of what is counted: as long ago as was asked for, up to
	// ten seconds more, or when the handler's name came into use in this process.
	From time.Time `json:"from"`

	Accepted   int64 `json:"accepted"`
	Duplicates int64 `json:"duplicates"`
	Refused    int64 `json:"refused"`  // for their address: 403
	TooLarge   int64 `json:"tooLarge"` // 413; kept nowhere
	Invalid    int64 `json:"invalid"`  // 400, 415 and 422 for what is no callback

	// NotKept counts those of Invalid that the quarantine could not keep for lack
	// of storage. With a quarantine of 0 none is to be kept.
	NotKept int64 `json:"notKept"`

	// Unavailable counts callbacks that could not be stored: 503.
	Unavailable int64 `json:"unavailable"`

	// LastUnavailable is the last time that storage failed, also if that was
	// before From; absent if it never did in this process.
	LastUnavailable *Unavailable `json:"lastUnavailable,omitempty"`
}

// Unavailable says when and why something could not be stored.
type Unavailable struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"` // at most 1024 bytes
}
