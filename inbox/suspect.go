package inbox

import (
	"crypto/sha256"
	"fmt"
	"math"
	"time"
)

// Suspect is a callback from a whitelisted address that failed validation, or
// many that had the same body.
type Suspect struct {
	// ID is given by the inbox when it is put, in order of first arrival.
	ID int64

	// ReceivedAt is when it arrived first, Last when it arrived last, to the
	// microsecond. A zero Last is ReceivedAt.
	ReceivedAt, Last time.Time

	// Count is how often it arrived; 0 is taken as once.
	Count int64

	// SourceIP is where it came from the last time.
	SourceIP string

	// Status is the HTTP status that the caller was answered the last time: 400,
	// 415 or 422.
	Status int

	// Problems is the JSON array of problems that the caller was answered the last
	// time.
	Problems []byte

	// Body is the body exactly as it arrived.
	Body []byte
}

// SuspectNotFound is ErrNotFound with the id of a quarantined callback.
func SuspectNotFound(id int64) error {
	return fmt.Errorf("quarantined callback %d: %w", id, ErrNotFound)
}

// Complete fills in what may be left out of a suspect that is put.
func (s *Suspect) Complete() {
	s.Count = max(s.Count, 1)
	if s.Last.IsZero() {
		s.Last = s.ReceivedAt
	}
}

// Add adds other arrivals of the same body. Both are complete.
func (s *Suspect) Add(other *Suspect) {
	s.Count += min(other.Count, math.MaxInt64-s.Count)
	if other.ReceivedAt.Before(s.ReceivedAt) {
		s.ReceivedAt = other.ReceivedAt
	}
	if !other.Last.Before(s.Last) {
		s.Last, s.SourceIP, s.Status, s.Problems = other.Last, other.SourceIP, other.Status, other.Problems
	}
}

// SuspectKey is what tells the bodies of suspects apart.
type SuspectKey [sha256.Size / 2]byte

// Key returns the first half of the SHA-256 of the body.
func (s *Suspect) Key() SuspectKey {
	sum := sha256.Sum256(s.Body)
	return SuspectKey(sum[:len(SuspectKey{})])
}
