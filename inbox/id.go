package inbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
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
	sum := sha256.Sum256(canonical)
	return idOf(taskKey, sum[:])
}

// KeyedIDs is KeyedID for two contents. The blocks with which both begin are hashed once.
func KeyedIDs(taskKey uint64, a, b []byte) (idA, idB string) {
	same := 0
	for end := sha256.BlockSize; end <= min(len(a), len(b)) && bytes.Equal(a[same:end], b[same:end]); end += sha256.BlockSize {
		same = end
	}
	first := sha256.New()
	first.Write(a[:same])
	second, err := first.(hash.Cloner).Clone()
	if err != nil { // it is that of SHA-256, which returns none
		return KeyedID(taskKey, a), KeyedID(taskKey, b)
	}
	first.Write(a[same:])
	second.Write(b[same:])
	return idOf(taskKey, first.Sum(nil)), idOf(taskKey, second.Sum(nil))
}

func idOf(taskKey uint64, sum []byte) string {
	var raw RawID
	binary.BigEndian.PutUint64(raw[:8], taskKey)
	copy(raw[8:], sum)
	var id [IDLength]byte
	hex.Encode(id[:], raw[:])
	return string(id[:])
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
	var all byte // of the digits' values: a branch for each of them would be guessed wrong often
	for i := range raw {
		high, low := digitValues[id[2*i]], digitValues[id[2*i+1]]
		raw[i] = high<<4 | low
		all |= high | low
	}
	if all < noDigit {
		return raw, nil
	}
	i := strings.IndexFunc(id, func(r rune) bool { return r > 0x7f || digitValues[r] == noDigit })
	return RawID{}, fmt.Errorf("event id has %q at position %d; it must be %d lower-case hexadecimal digits", id[i], i, IDLength)
}

// noDigit is the value of a character that is no lower-case hexadecimal digit.
const noDigit = 0x10

// digitValues are the values of lower-case hexadecimal digits.
var digitValues = func() (values [256]byte) {
	for c := range values {
		values[c] = noDigit
		if i := strings.IndexByte("0123456789abcdef", byte(c)); i >= 0 {
			values[c] = byte(i)
		}
	}
	return values
}()

// LookUpID is ParseID for look-ups: a malformed id is ErrNotFound.
func LookUpID(id string) (RawID, error) {
	raw, err := ParseID(id)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return raw, err
}
