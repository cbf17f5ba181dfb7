package body

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// budget bounds the memory, in bytes, that the bodies in a room take. One body of
// the largest size has room beside it, so that it can be read while others are.
const budget = 64 << 20

// RoomLimit is the most memory that bodies of at most that size may take.
func RoomLimit(most int64) int64 { return budget + most }

// slowBody is how long a body may be on its way before it has to make room for
// others when the budget is used up.
const slowBody = time.Second

// The errors of bodies for which there is not enough room.
var (
	ErrNoRoom  = errors.New("the bodies that are waiting to be stored take all the memory that is set aside for them")
	ErrCrowded = errors.New("it came slowly, and others needed the room that it took")
)

// Room counts the bodies that are in memory. Its zero value is ready.
//
// Room is taken as bytes arrive. Nobody waits for more while holding some, so
// bodies cannot block each other: one that finds no room takes it from those
// that began before it and are slow, or is refused. Only a body that holds
// nothing yet waits.
type Room struct {
	mu      sync.Mutex
	used    int64
	reading list.List // of *incoming, the oldest first
	waiting list.List // of *newcomer, the longest first
}

// incoming is one body in the room.
type incoming struct {
	room  *Room
	limit int64 // of the room
	since time.Time

	// cutOff ends a read that is under way. It may be called at any time, also
	// after the last read.
	cutOff func()

	held    int64         // guarded by room.mu, as what follows
	element *list.Element // of room.reading; nil if it is not being read
	evicted bool
}

// newcomer waits for room.
type newcomer struct {
	body  *incoming
	first int64
	ready chan struct{} // closed once it has the room
}

// enter takes the room for a body's first bytes, and waits for it if it must.
// The body must leave.
func (in *incoming) enter(ctx context.Context, first int64) error {
	b := in.room
	b.mu.Lock()
	if b.waiting.Len() == 0 {
		if victims, ok := b.find(in, first, in.since); ok {
			b.admit(in, first)
			b.mu.Unlock()
			cutOff(victims)
			return nil
		}
	}
	n := &newcomer{body: in, first: first, ready: make(chan struct{})}
	place := b.waiting.PushBack(n)
	b.mu.Unlock()
	return b.await(ctx, n, place)
}

func (b *Room) await(ctx context.Context, n *newcomer, place *list.Element) error {
	// those that are being read now are slow after that
	again := time.NewTicker(slowBody)
	defer again.Stop()
	for {
		select {
		case <-n.ready:
			return nil
		case <-again.C:
			b.mu.Lock()
			cutOff(b.wake())
		case <-ctx.Done():
			b.mu.Lock()
			defer b.mu.Unlock()
			select {
			case <-n.ready: // at the same moment
				return nil
			default:
			}
			b.waiting.Remove(place)
			return ErrNoRoom
		}
	}
}

// wake lets in whoever waits and finds room. It is called with the lock, and
// returns without it and with the bodies to cut off.
func (b *Room) wake() (victims []*incoming) {
	defer b.mu.Unlock()
	now := time.Now()
	for place := b.waiting.Front(); place != nil; place = b.waiting.Front() {
		n := place.Value.(*newcomer)
		more, ok := b.find(n.body, n.first, now)
		if !ok {
			return victims
		}
		victims = append(victims, more...)
		b.waiting.Remove(place)
		b.admit(n.body, n.first)
		close(n.ready)
	}
	return victims
}

func (b *Room) admit(in *incoming, first int64) {
	b.used += first
	in.held = first
	in.element = b.reading.PushBack(in)
}

// find says whether there is room for so many bytes more of a body, if need be
// that of slow ones before it: those are to be cut off, and hold nothing any more.
func (b *Room) find(in *incoming, size int64, now time.Time) (victims []*incoming, ok bool) {
	missing := b.used + size - in.limit
	for element := b.reading.Front(); missing > 0; element = element.Next() {
		if element == nil {
			return nil, false
		}
		other := element.Value.(*incoming)
		if other == in || now.Sub(other.since) < slowBody {
			return nil, false
		}
		victims = append(victims, other)
		missing -= other.held
	}
	for _, victim := range victims {
		b.used -= victim.held
		victim.held, victim.evicted = 0, true
		b.reading.Remove(victim.element)
		victim.element = nil
	}
	return victims, true
}

// cutOff ends the reading of bodies. It is called without the lock: what it
// takes to end one may wait for the connection.
func cutOff(victims []*incoming) {
	for _, victim := range victims {
		victim.cutOff()
	}
}

// grow takes room for so many bytes more, at once or not at all.
func (in *incoming) grow(size int64) error {
	b := in.room
	b.mu.Lock()
	if in.evicted {
		b.mu.Unlock()
		return ErrCrowded
	}
	victims, ok := b.find(in, size, time.Now())
	if !ok {
		b.mu.Unlock()
		return ErrNoRoom
	}
	b.used += size
	in.held += size
	b.mu.Unlock()
	cutOff(victims)
	return nil
}

// arrived says that the body is read to its end or given up: it keeps its room,
// and makes none for others. It reports whether it had to before that.
func (in *incoming) arrived() (evicted bool) {
	b := in.room
	b.mu.Lock()
	defer b.mu.Unlock()
	if in.element != nil {
		b.reading.Remove(in.element)
		in.element = nil
	}
	return in.evicted
}

// leave gives the room back.
func (in *incoming) leave() {
	b := in.room
	b.mu.Lock()
	if in.element != nil {
		b.reading.Remove(in.element)
		in.element = nil
	}
	b.used -= in.held
	in.held = 0
	cutOff(b.wake())
}

// Load returns how many bodies are being read, and the bytes that all take.
func (b *Room) Load() (reading int, used int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reading.Len(), b.used
}
