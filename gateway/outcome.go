package gateway

import "github.com/fotor-webhook/caddy-fotor-webhook/control"

// Outcome is what became of a callback. There is a fixed number of them, because
// they label a metric.
type Outcome string

// The outcomes of a request that reached the handler.
const (
	Accepted    Outcome = "accepted"
	Duplicate   Outcome = "duplicate"
	Refused     Outcome = "refused"
	EarlyData   Outcome = "early_data"
	Method      Outcome = "method"
	MediaType   Outcome = "media_type"
	TooLarge    Outcome = "too_large"
	NotJSON     Outcome = "not_json"
	Invalid     Outcome = "invalid"
	Broken      Outcome = "broken"
	Timeout     Outcome = "timeout"
	Unavailable Outcome = "unavailable"
)

// NotKept counts, beside its outcome, an invalid callback that the quarantine
// could not keep. It is no label.
const NotKept Outcome = "not_kept"

// Outcomes are those of a request.
var Outcomes = []Outcome{
	Accepted, Duplicate, Refused, EarlyData, Method, MediaType,
	TooLarge, NotJSON, Invalid, Broken, Timeout, Unavailable,
}

// count returns the count in r for the outcome, nil if it has none.
func (o Outcome) count(r *control.Recent) *int64 {
	switch o {
	case Accepted:
		return &r.Accepted
	case Duplicate:
		return &r.Duplicates
	case Refused:
		return &r.Refused
	case TooLarge:
		return &r.TooLarge
	case Invalid, NotJSON, MediaType:
		return &r.Invalid
	case NotKept:
		return &r.NotKept
	case Unavailable:
		return &r.Unavailable
	case EarlyData, Method, Broken, Timeout:
	}
	return nil
}
