package inbox

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// IDLength is the length of an event id in characters.
const IDLength = 48

// RawID is an event id in bytes.
type RawID [IDLength / 2]byte

// TaskKey returns the key of the event's task, with which the id begins.
func (id RawID) TaskKey() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// TaskKey returns the 64-bit key under which an inbox may index a task's
// events: the first eight bytes of the SHA-256 of the task id, big-endian.
func TaskKey(taskID string) uint64 {
	sum := sha256.Sum256([]byte(taskID))
	return binary.BigEndian.Uint64(sum[:])
}

// NewID makes an event's id from its task and its canonical content: 48
// lower-case hexadecimal digits. The first 16 are the TaskKey, the other 32 the
// first half of the content's SHA-256. Because the task's key comes first, an
// inbox finds an event by its id through its index of tasks.
func NewID(taskID string, canonical []byte) string {
	return KeyedID(TaskKey(taskID), canonical)
}

// KeyedID is NewID for a task whose TaskKey is known.
func KeyedID(taskKey uint64, canonical []byte) string {
	var raw RawID
	binary.BigEndian.PutUint64(raw[:8], taskKey)
	sum := sha256.Sum256(canonical)
	copy(raw[8:], sum[:])
	return hex.EncodeToString(raw[:])
}

// UnconfirmedID returns the id of the event that stands for another one, with that id,
// until it is confirmed. It has the same TaskKey.
func UnconfirmedID(id string) (string, error) {
	raw, err := ParseID(id)
	if err != nil {
		return "", err
	}
	return KeyedID(raw.TaskKey(), []byte("unconfirmed "+id)), nil
}

// ParseID returns the bytes of an id made by NewID. For anything else the error
// says what an id looks like.
func ParseID(id string) (raw RawID, err error) {
	if len(id) != IDLength {
		return raw, fmt.Errorf("event id has %d characters; it must have %d hexadecimal digits", len(id), IDLength)
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return raw, fmt.Errorf("event id has %q at position %d; it must be %d lower-case hexadecimal digits", c, i, IDLength)
		}
	}
	if _, err := hex.Decode(raw[:], []byte(id)); err != nil {
		return raw, fmt.Errorf("event id: %w", err)
	}
	return raw, nil
}

// LookUpID is ParseID for look-ups: a malformed id is ErrNotFound.
func LookUpID(id string) (RawID, error) {
	raw, err := ParseID(id)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return raw, err
}
