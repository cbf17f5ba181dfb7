package natstest

import (
	"context"
	"net"
	"sync"
)

// relay forwards connections to an address, and can be halted.
type relay struct {
	to       string
	address  string
	listener net.Listener

	mu     sync.Mutex
	change *sync.Cond
	halts  int // number of its ends that are cut off
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
				return // the listener was closed
			}
			running.Go(func() { r.serve(ctx, conn) })
		}
	})
	return r, nil
}

// serve relays one connection until one of its sides closes it.
func (r *relay) serve(ctx context.Context, near net.Conn) {
	defer near.Close()
	if !r.track(near) {
		return
	}
	defer r.untrack(near)
	if !r.awaitPass() {
		return
	}
	far, err := new(net.Dialer).DialContext(context.WithoutCancel(ctx), "tcp", r.to)
	if err != nil {
		return // closing the near side is the answer
	}
	defer far.Close()
	if !r.track(far) {
		return
	}
	defer r.untrack(far)
	var both sync.WaitGroup
	both.Go(func() { r.copy(near, far) })
	both.Go(func() { r.copy(far, near) })
	both.Wait()
}

// copy forwards the data of one direction. While the relay is halted it does
// not read, so that data piles up as on a dead line.
func (r *relay) copy(to, from net.Conn) {
	defer to.Close() // ends the other direction too
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !r.awaitPass() {
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

// awaitPass waits while the relay is halted. It reports false if the relay is
// closed.
func (r *relay) awaitPass() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.halts > 0 && !r.closed {
		r.change.Wait()
	}
	return !r.closed
}

// setHalted halts the relay for one of its ends, or resumes it.
func (r *relay) setHalted(still bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if still {
		r.halts++
	} else {
		r.halts--
	}
	r.change.Broadcast()
}

// track adds a connection to those that closeConns closes. It reports false if
// the relay is closed.
func (r *relay) track(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[conn] = struct{}{}
	return !r.closed
}

func (r *relay) untrack(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}

// closeConns closes all connections.
func (r *relay) closeConns() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		_ = conn.Close() // the error does not matter any more
	}
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.change.Broadcast()
	r.mu.Unlock()
	_ = r.listener.Close() // as above
	r.closeConns()
}
