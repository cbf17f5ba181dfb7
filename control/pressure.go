package control

import "time"

// Pressure says how much a destination gets from this Caddy. If Limit is below
// Concurrency, the destination is under pressure, or recovers from it, or is held.
type Pressure struct {
	// Limit is how many attempts are made at once, at most. It is 0 while deliveries are
	// held by hand, and 1 while they are held because the upstream is in trouble.
	Limit int `json:"limit"`

	// Concurrency is the configured limit.
	Concurrency int `json:"concurrency"`

	// Attempts counts the attempts that ended in the last minute, Delivered those of
	// them that brought 2xx, and Failed those that brought neither 2xx nor 410.
	Attempts  int `json:"attempts"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`

	// Unsettled is nil, unless the inbox cannot store what became of attempts.
	Unsettled *Unsettled `json:"unsettled,omitempty"`
}

// Unsettled says that the inbox cannot store what became of attempts. Their events wait as
// pending, and once many do nothing more is attempted.
type Unsettled struct {
	Outcomes int       `json:"outcomes"` // that wait to be stored
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason"` // of the last failure
}

// High reports whether the destination is under pressure: it gets less than it could, and
// attempts failed lately. With a lower limit alone it recovers.
func (p *Pressure) High() bool { return p.Limit < p.Concurrency && p.Failed > 0 }
