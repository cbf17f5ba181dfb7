// Package body reads the bodies of requests in bounded time and memory, however
// many come at once and however slowly.
package body

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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

// firstRoom is the buffer that a body begins with, in bytes: most callbacks fit
// in, and a body that stalls at its beginning holds no more.
const firstRoom = 4 << 10

// buffers reuses the buffers that bodies begin with.
var buffers = sync.Pool{New: func() any { return new([firstRoom]byte) }}

// ErrSlow says that a body did not arrive in time.
var ErrSlow = errors.New("the body did not arrive in time")

// Options say how a body is to be read. All are required.
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
	most  int64 // bytes that it can have: as many as declared, or the limit
	first *[firstRoom]byte
	data  []byte
}

// Read reads the body of a request. What it returns must be freed, also if there
// is an error: ErrSlow, ErrCrowded, ErrNoRoom, *http.MaxBytesError, or what broke
// the body off.
func Read(w http.ResponseWriter, r *http.Request, o Options) (*Body, error) {
	b := &Body{limit: o.Max, most: o.Max}
	if r.ContentLength >= 0 {
		b.most = min(b.most, r.ContentLength)
	}
	b.read = deadlineReader{
		body: r.Body, control: http.NewResponseController(w), times: o.Times,
		since: o.Since, server: ServerDeadline(r, o.Since),
	}
	b.room = incoming{room: o.Room, limit: RoomLimit(o.Max), since: o.Since, cutOff: b.read.cutOff}

	ctx, cancel := context.WithTimeout(r.Context(), o.Wait)
	defer cancel()
	if err := b.room.enter(ctx, firstRoom); err != nil {
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

// Hidden says whether another handler hides the connection. A body that stalls
// is not cut off then, except by the server's own timeouts.
func (b *Body) Hidden() bool { return b.read.unsupported }

// fill reads until the end of the body, or one byte beyond what it may have.
func (b *Body) fill() error {
	for {
		if int64(len(b.data)) == b.most {
			var beyond [1]byte
			if n, err := b.read.Read(beyond[:]); n == 0 && err != nil {
				return ending(err)
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
			return ending(err)
		}
	}
}

func ending(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// widen doubles the buffer, as far as the body can need it.
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

// Free gives the memory back.
func (b *Body) Free() {
	if b.first != nil {
		buffers.Put(b.first)
	}
	b.first, b.data = nil, nil
	b.room.leave()
}

// ServerDeadline is when the server's own timeout for the whole request ends;
// zero if it has none. A deadline for a read would replace it.
func ServerDeadline(r *http.Request, since time.Time) time.Time {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || server.ReadTimeout <= 0 {
		return time.Time{}
	}
	return since.Add(time.Duration(server.ReadTimeout))
}

// deadlineReader reads a body with a deadline for each read. A connection that
// lets none be set, because another handler hides it, is only looked at between
// two reads.
type deadlineReader struct {
	body    io.Reader
	control *http.ResponseController
	times   Times
	since   time.Time // Options.Since
	server  time.Time // the server's deadline; zero if it has none
	next    time.Time // the deadline of the read that is under way
	why     string    // what has passed then

	mu          sync.Mutex
	cut, ended  bool
	unsupported bool
}

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

func (d *deadlineReader) arm() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.next, d.why = now.Add(d.times.Idle), "no byte for "+d.times.Idle.String()
	if whole := d.since.Add(d.times.Whole); whole.Before(d.next) {
		d.next, d.why = whole, "not whole after "+d.times.Whole.String()
	}
	if !d.server.IsZero() && d.server.Before(d.next) {
		d.next, d.why = d.server, "not whole when the server's read_body timeout had passed"
	}
	if d.cut || !now.Before(d.next) {
		return d.reason()
	}
	if !d.unsupported {
		// another error is that of a connection which is gone: the read has it too
		d.unsupported = errors.Is(d.control.SetReadDeadline(d.next), http.ErrNotSupported)
	}
	return nil
}

// reason says which deadline has passed: the one of the last read, or one of the
// server's that was earlier. Timers may be early by a little.
func (d *deadlineReader) reason() error {
	const early = 100 * time.Millisecond
	if time.Until(d.next) > early {
		return fmt.Errorf("%w: a timeout of the server had passed", ErrSlow)
	}
	return fmt.Errorf("%w: %s", ErrSlow, d.why)
}

// cutOff ends the read that is under way, and those that would follow.
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

// end says that there will be no more reads. With clear, the connection is left
// without a deadline, so that the next request on it has all of its time.
func (d *deadlineReader) end(clear bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if clear && !d.unsupported {
		_ = d.control.SetReadDeadline(time.Time{}) // fails if the connection is gone already
	}
}
