package body

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// budget is the memory, in bytes, for the bodies in a room. One body of the largest size
// fits beside it, so that it can be read together with others.
const budget = 64 << 20

// RoomLimit is the most memory that bodies of at most that size may take.
func RoomLimit(most int64) int64 { return budget + most }

// slowBody is how long a body may take before it can be evicted to make room for others.
const slowBody = time.Second

// The errors of bodies for which there is not enough room.
var (
	ErrNoRoom  = errors.New("the bodies that are waiting to be stored take all the memory that is set aside for them")
	ErrCrowded = errors.New("it came slowly, and others needed the room that it took")
)

// Room bounds the memory of bodies. Its zero value is ready.
//
// A body takes room as its bytes arrive. It never waits while it holds room, so bodies
// cannot block each other: if there is no room, slow bodies that began earlier are
// evicted, or it is refused. Only a body that holds nothing yet waits.
type Room struct {
	mu      sync.Mutex
	used    int64
	reading list.List // of *incoming, the oldest first
	waiting list.List // of *waiter, the first to come first
}

// incoming is one body in the room.
type incoming struct {
	room  *Room
	limit int64 // of the room
	since time.Time
	wait  time.Duration // longest wait for room; 0 for as long as the context of enter lasts

	// cutOff ends a read that is under way. It may be called at any time, even
	// after the last read.
	cutOff func()

	// guarded by room.mu
	held    int64
	element *list.Element // of room.reading; nil if it is not being read
	evicted bool
}

// waiter is a body that waits for room.
type waiter struct {
	body  *incoming
	first int64
	ready chan struct{} // closed once it has the room
}

// enter takes the room for a body's first bytes, and waits for it if necessary. The body
// must leave.
func (in *incoming) enter(ctx context.Context, first int64) error {
	r := in.room
	r.mu.Lock()
	if r.waiting.Len() == 0 {
		if victims, ok := r.makeRoom(in, first, in.since); ok {
			r.admit(in, first)
			r.mu.Unlock()
			cutOff(victims)
			return nil
		}
	}
	w := &waiter{body: in, first: first, ready: make(chan struct{})}
	place := r.waiting.PushBack(w)
	r.mu.Unlock()
	if in.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.wait)
		defer cancel()
	}
	return r.await(ctx, w, place)
}

func (r *Room) await(ctx context.Context, w *waiter, place *list.Element) error {
	// by then, all that are being read now can be evicted
	again := time.NewTicker(slowBody)
	defer again.Stop()
	for {
		select {
		case <-w.ready:
			return nil
		case <-again.C:
			r.mu.Lock()
			cutOff(r.wake())
		case <-ctx.Done():
			r.mu.Lock()
			defer r.mu.Unlock()
			select {
			case <-w.ready: // at the same moment
				return nil
			default:
			}
			r.waiting.Remove(place)
			return ErrNoRoom
		}
	}
}

// wake admits the waiters for whom there is room, and returns the bodies to cut off. The
// caller has locked mu; wake unlocks it.
func (r *Room) wake() (victims []*incoming) {
	defer r.mu.Unlock()
	now := time.Now()
	for place := r.waiting.Front(); place != nil; place = r.waiting.Front() {
		w := place.Value.(*waiter)
		more, ok := r.makeRoom(w.body, w.first, now)
		if !ok {
			return victims
		}
		victims = append(victims, more...)
		r.waiting.Remove(place)
		r.admit(w.body, w.first)
		close(w.ready)
	}
	return victims
}

func (r *Room) admit(in *incoming, first int64) {
	r.used += first
	in.held = first
	in.element = r.reading.PushBack(in)
}

// makeRoom reports whether there is room for more bytes of a body. If necessary, it
// evicts slow bodies that began earlier. The caller must cut them off.
func (r *Room) makeRoom(in *incoming, size int64, now time.Time) (victims []*incoming, ok bool) {
	missing := r.used + size - in.limit
	for element := r.reading.Front(); missing > 0; element = element.Next() {
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
		r.used -= victim.held
		victim.held, victim.evicted = 0, true
		r.reading.Remove(victim.element)
		victim.element = nil
	}
	return victims, true
}

// cutOff ends the reading of bodies. It must be called without the lock, because it may
// wait for a connection.
func cutOff(victims []*incoming) {
	for _, victim := range victims {
		victim.cutOff()
	}
}

// grow takes room for more bytes. It does not wait.
func (in *incoming) grow(size int64) error {
	r := in.room
	r.mu.Lock()
	if in.evicted {
		r.mu.Unlock()
		return ErrCrowded
	}
	victims, ok := r.makeRoom(in, size, time.Now())
	if !ok {
		r.mu.Unlock()
		return ErrNoRoom
	}
	r.used += size
	in.held += size
	r.mu.Unlock()
	cutOff(victims)
	return nil
}

// arrived is called when the body has been read to its end, or failed. It keeps its room
// and cannot be evicted any more. arrived reports whether it was evicted before.
func (in *incoming) arrived() (evicted bool) {
	r := in.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if in.element != nil {
		r.reading.Remove(in.element)
		in.element = nil
	}
	return in.evicted
}

// leave releases the room.
func (in *incoming) leave() {
	r := in.room
	r.mu.Lock()
	if in.element != nil {
		r.reading.Remove(in.element)
		in.element = nil
	}
	r.used -= in.held
	in.held = 0
	cutOff(r.wake())
}

// Load returns how many bodies are being read, and the bytes that all take.
func (r *Room) Load() (reading int, used int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reading.Len(), r.used
}
