package natstest

import (
	"context"
	"net"
	"sync"
)

// relay passes connections on to an address. It can be halted.
type relay struct {
	to       string
	address  string
	listener net.Listener

	mu     sync.Mutex
	change *sync.Cond
	halts  int // how many of its ends are cut off
	closed bool
	conns  map[net.Conn]struct{}
}

func newRelay(ctx context.Context, to string, running *sync.WaitGroup) (*relay, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{to: to, address: listener.Addr().String(), listener: listener, conns: make(map[net.Conn]struct{})}
	r.change = sync.NewCond(&r.mu)
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			running.Go(func() { r.serve(ctx, conn) })
		}
	})
	return r, nil
}

// serve relays one connection until one of its sides ends it.
func (r *relay) serve(ctx context.Context, near net.Conn) {
	defer near.Close()
	if !r.keep(near) {
		return
	}
	defer r.drop(near)
	if !r.pass() {
		return
	}
	far, err := new(net.Dialer).DialContext(context.WithoutCancel(ctx), "tcp", r.to)
	if err != nil {
		return // nothing listens there, so the near end is closed too
	}
	defer far.Close()
	if !r.keep(far) {
		return
	}
	defer r.drop(far)
	var both sync.WaitGroup
	both.Go(func() { r.copy(near, far) })
	both.Go(func() { r.copy(far, near) })
	both.Wait()
}

// copy passes on what comes from one side. While the relay is halted it reads no more, so
// that what is sent piles up as on a dead line.
func (r *relay) copy(to, from net.Conn) {
	defer to.Close() // the other direction ends with this one
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !r.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the relay is halted. It reports false if the relay is closed.
func (r *relay) pass() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.halts > 0 && !r.closed {
		r.change.Wait()
	}
	return !r.closed
}

// halt halts the relay for one of its ends, or lets it go on.
func (r *relay) halt(still bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if still {
		r.halts++
	} else {
		r.halts--
	}
	r.change.Broadcast()
}

// keep records a connection for hangUp. It reports false if the relay is closed.
func (r *relay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[conn] = struct{}{}
	return !r.closed
}

func (r *relay) drop(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}

// hangUp ends all connections.
func (r *relay) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		_ = conn.Close() // an error changes nothing
	}
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.change.Broadcast()
	r.mu.Unlock()
	_ = r.listener.Close() // an error changes nothing
	r.hangUp()
}
