// Package body reads the bodies of requests in bounded time and memory, however
// many come at once and however slowly.
package body

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Times bounds how long a body may take to arrive. The server's own
// timeouts hold too, where they are shorter.
type Times struct {
	Whole time.Duration // from the headers to the end
	Idle  time.Duration // without a byte
}

// DefaultTimes are meant for callbacks: small, and sent in one go.
var DefaultTimes = Times{Whole: 30 * time.Second, Idle: 10 * time.Second}

// firstRoom is the size of the first buffer of a body, in bytes: most callbacks fit in,
// and a body that stalls at its beginning holds no more.
const firstRoom = 4 << 10

// buffers reuses first buffers.
var buffers = sync.Pool{New: func() any { return new([firstRoom]byte) }}

// ErrSlow says that a body did not arrive in time.
var ErrSlow = errors.New("the body did not arrive in time")

// Options say how to read a body. All are required.
type Options struct {
	Room  *Room
	Wait  time.Duration // longest wait for room
	Max   int64         // largest size in bytes
	Times Times
	Since time.Time // arrival of the headers
}

// Body is the body of one request.
type Body struct {
	room  incoming
	read  deadlineReader
	limit int64 // Options.Max
	most  int64 // the declared size, or the limit if that is less
	whole int64 // the declared size; not positive if there is none
	first *[firstRoom]byte
	data  []byte
}

// Read reads the body of a request. What it returns must be freed, also if there is an
// error: ErrSlow, ErrCrowded, ErrNoRoom, *http.MaxBytesError, io.ErrUnexpectedEOF if it was
// shorter than declared, or that of the connection.
func Read(w http.ResponseWriter, r *http.Request, o Options) (*Body, error) {
	b := &Body{limit: o.Max, most: o.Max, whole: declaredSize(r)}
	if r.ContentLength >= 0 {
		b.most = min(b.most, r.ContentLength)
	}
	b.read = deadlineReader{
		body: r.Body, control: *http.NewResponseController(w), times: o.Times,
		since: o.Since, server: ServerDeadline(r, o.Since),
	}
	b.room = incoming{room: o.Room, limit: RoomLimit(o.Max), since: o.Since, wait: o.Wait, cutOff: b.read.cutOff}
	if err := b.room.enter(r.Context(), firstRoom); err != nil {
		return b, err
	}
	b.first = buffers.Get().(*[firstRoom]byte)
	b.data = b.first[:0:min(firstRoom, b.most)]
	err := b.fill()
	evicted := b.room.arrived()
	// Caddy's own reader, if there is one, has cleared the deadline at the end
	idle, _ := caddyhttp.IdleTimeoutsFromContext(r.Context())
	b.read.end(err == nil && idle == nil)
	if err != nil && evicted {
		err = ErrCrowded
	}
	return b, err
}

// Data returns what has arrived. It may be used until Free.
func (b *Body) Data() []byte { return b.data }

// Hidden reports whether another handler hides the connection. Then only the server's
// own timeouts cut off a body that stalls.
func (b *Body) Hidden() bool { return b.read.unsupported }

// fill reads to the end of the body, or to one byte beyond what it may have.
func (b *Body) fill() error {
	for {
		if int64(len(b.data)) == b.most {
			var beyond [1]byte
			if n, err := b.read.Read(beyond[:]); n == 0 && err != nil {
				return b.ended(err)
			} else if n > 0 {
				return &http.MaxBytesError{Limit: b.limit}
			}
			continue
		}
		if len(b.data) == cap(b.data) {
			if err := b.widen(); err != nil {
				return err
			}
		}
		n, err := b.read.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if err != nil {
			return b.ended(err)
		}
	}
}

// ended returns what is wrong with a body whose reading ended with that error. HTTP/1 and
// HTTP/2 report one that is too short by themselves, HTTP/3 does not.
func (b *Body) ended(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if got := int64(len(b.data)); got < b.whole {
		return fmt.Errorf("%w: %d of %d bytes came", io.ErrUnexpectedEOF, got, b.whole)
	}
	return nil
}

// declaredSize returns the size that a request declares for its body.
func declaredSize(r *http.Request) int64 {
	if r.ContentLength != 0 {
		return r.ContentLength
	}
	// with HTTP/2, a request that ends with its headers has 0 whatever they say
	size, err := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64)
	if err != nil {
		return 0
	}
	return size
}

// widen doubles the buffer, but not beyond what the body may have.
func (b *Body) widen() error {
	size := min(2*int64(cap(b.data)), b.most)
	if err := b.room.grow(size - int64(cap(b.data))); err != nil {
		return err
	}
	data := make([]byte, len(b.data), size)
	copy(data, b.data)
	b.data = data
	return nil
}

// Keep has Free leave the bytes as they are, for somebody who still reads them.
func (b *Body) Keep() { b.first = nil }

// Free releases the memory.
func (b *Body) Free() {
	if b.first != nil {
		buffers.Put(b.first)
	}
	b.first, b.data = nil, nil
	b.room.leave()
}

// ServerDeadline returns the end of the server's own timeout for the whole request, zero
// if it has none. Another read deadline replaces it, so it must not be later.
func ServerDeadline(r *http.Request, since time.Time) time.Time {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || server.ReadTimeout <= 0 {
		return time.Time{}
	}
	return since.Add(time.Duration(server.ReadTimeout))
}

// deadlineReader reads a body with a deadline for each read. If none can be set, because
// another handler hides the connection, the time is only checked between two reads.
type deadlineReader struct {
	body    io.Reader
	control http.ResponseController
	times   Times
	since   time.Time // Options.Since
	server  time.Time // the server's deadline; zero if it has none
	next    time.Time // the deadline of the read that is under way
	which   deadline  // which one that is

	mu          sync.Mutex
	cut, ended  bool
	unsupported bool
}

// deadline is what bounds a read.
type deadline uint8

const (
	ofIdle deadline = iota
	ofWhole
	ofServer
)

// Read implements io.Reader. An error of the deadline wraps ErrSlow.
func (d *deadlineReader) Read(p []byte) (int, error) {
	if err := d.arm(); err != nil {
		return 0, err
	}
	n, err := d.body.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = d.reason()
	}
	return n, err
}

// arm sets the deadline of the next read. It fails if there may be none.
func (d *deadlineReader) arm() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.next, d.which = now.Add(d.times.Idle), ofIdle
	if whole := d.since.Add(d.times.Whole); whole.Before(d.next) {
		d.next, d.which = whole, ofWhole
	}
	if !d.server.IsZero() && d.server.Before(d.next) {
		d.next, d.which = d.server, ofServer
	}
	if d.cut || !now.Before(d.next) {
		return d.reason()
	}
	if !d.unsupported {
		// with any other error the connection is gone, and the read fails too
		d.unsupported = errors.Is(d.control.SetReadDeadline(d.next), http.ErrNotSupported)
	}
	return nil
}

// reason returns the error of the deadline that has passed: that of the last read, or
// an earlier one of the server. Timers may be a little early.
func (d *deadlineReader) reason() error {
	const early = 100 * time.Millisecond
	if time.Until(d.next) > early {
		return fmt.Errorf("%w: a timeout of the server had passed", ErrSlow)
	}
	switch d.which {
	case ofIdle:
		return fmt.Errorf("%w: no byte for %s", ErrSlow, d.times.Idle)
	case ofWhole:
		return fmt.Errorf("%w: not whole after %s", ErrSlow, d.times.Whole)
	default:
		return fmt.Errorf("%w: not whole when the server's read_body timeout had passed", ErrSlow)
	}
}

// cutOff ends the read that is under way, and lets no other follow.
func (d *deadlineReader) cutOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.cut = true
	if !d.unsupported {
		_ = d.control.SetReadDeadline(time.Unix(1, 0)) // fails if the connection is gone already
	}
}

// end must be called after the last read. With clear, it removes the deadline, which
// would also hold for the next request on the connection.
func (d *deadlineReader) end(clear bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if clear && !d.unsupported {
		_ = d.control.SetReadDeadline(time.Time{}) // fails if the connection is gone already
	}
}
