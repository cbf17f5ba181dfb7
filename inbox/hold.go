package inbox

import "time"

// Hold is a stop of deliveries by an operator. The zero value is no hold.
type Hold struct {
	// Since is when it began, to the microsecond.
	Since time.Time

	// Until is when it ends by itself; zero if it does not.
	Until time.Time

	// Ended is when the operator ended it; zero if nobody did.
	Ended time.Time

	// Reason is the operator's reason, in at most MaxReason bytes of UTF-8.
	Reason string
}

// InForce reports whether deliveries are to be held now.
func (h Hold) InForce(now time.Time) bool {
	return !h.Since.IsZero() && h.Ended.IsZero() && (h.Until.IsZero() || now.Before(h.Until))
}

// End returns when a hold that is over ended: the earlier of Ended and Until.
func (h Hold) End() time.Time {
	if h.Ended.IsZero() || (!h.Until.IsZero() && h.Until.Before(h.Ended)) {
		return h.Until
	}
	return h.Ended
}
