package inbox

import (
	"crypto/sha256"
	"fmt"
	"math"
	"time"
)

// Suspect is a callback from a whitelisted address that failed validation, or
// several with the same body.
type Suspect struct {
	// ID is assigned by the inbox, in order of first arrival.
	ID int64

	// ReceivedAt is when it first arrived, Last when it last arrived, to the
	// microsecond. A zero Last means ReceivedAt.
	ReceivedAt, Last time.Time

	// Count is how often it arrived; 0 means once.
	Count int64

	// SourceIP is the address it last came from.
	SourceIP string

	// Status is the HTTP status of the last answer to it: 400, 415 or 422.
	Status int

	// Problems is the JSON array of problems in the last answer to it.
	Problems []byte

	// Body is the body exactly as it arrived.
	Body []byte
}

// SuspectNotFound is ErrNotFound with the id of a quarantined callback.
func SuspectNotFound(id int64) error {
	return fmt.Errorf("quarantined callback %d: %w", id, ErrNotFound)
}

// Complete sets the fields that may be omitted from a new suspect.
func (s *Suspect) Complete() {
	s.Count = max(s.Count, 1)
	if s.Last.IsZero() {
		s.Last = s.ReceivedAt
	}
}

// Add merges other arrivals of the same body. Both suspects must be complete.
func (s *Suspect) Add(other *Suspect) {
	s.Count += min(other.Count, math.MaxInt64-s.Count)
	if other.ReceivedAt.Before(s.ReceivedAt) {
		s.ReceivedAt = other.ReceivedAt
	}
	if !other.Last.Before(s.Last) {
		s.Last, s.SourceIP, s.Status, s.Problems = other.Last, other.SourceIP, other.Status, other.Problems
	}
}

// SuspectKey identifies the body of a suspect.
type SuspectKey [sha256.Size / 2]byte

// Key returns the first half of the SHA-256 of the body.
func (s *Suspect) Key() SuspectKey {
	sum := sha256.Sum256(s.Body)
	return SuspectKey(sum[:len(SuspectKey{})])
}
