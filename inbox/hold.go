package inbox

import "time"

// Hold is a stop of deliveries by hand. The zero value is none.
type Hold struct {
	// Since is when it began, to the microsecond.
	Since time.Time

	// Until is when it ends by itself; zero if it does not.
	Until time.Time

	// Ended is when it was ended by hand; zero if it was not.
	Ended time.Time

	// Reason says what it is for, in at most MaxReason bytes of UTF-8.
	Reason string
}

// InForce reports whether deliveries are to be held.
func (h Hold) InForce(now time.Time) bool {
	return !h.Since.IsZero() && h.Ended.IsZero() && (h.Until.IsZero() || now.Before(h.Until))
}

// End returns when a hold that is no more in force ended: the earlier of Ended
// and Until.
func (h Hold) End() time.Time {
	if h.Ended.IsZero() || (!h.Until.IsZero() && h.Until.Before(h.Ended)) {
		return h.Until
	}
	return h.Ended
}
