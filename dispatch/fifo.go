package dispatch

import "github.com/fotor-webhook/caddy-fotor-webhook/inbox"

// fifo is a queue of leases that reuses its memory. Its user has to bound it. The
// zero value is empty.
type fifo struct {
	leases []*inbox.Lease
	head   int
}

func (q *fifo) len() int { return len(q.leases) - q.head }

func (q *fifo) push(l *inbox.Lease) {
	if q.head > 0 && len(q.leases) == cap(q.leases) {
		n := copy(q.leases, q.leases[q.head:])
		clear(q.leases[n:])
		q.leases, q.head = q.leases[:n], 0
	}
	q.leases = append(q.leases, l)
}

// pop removes the first lease; the queue must not be empty.
func (q *fifo) pop() *inbox.Lease {
	l := q.leases[q.head]
	q.leases[q.head] = nil
	q.head++
	return l
}

// popLast removes the last lease; the queue must not be empty.
func (q *fifo) popLast() *inbox.Lease {
	last := len(q.leases) - 1
	l := q.leases[last]
	q.leases[last] = nil
	q.leases = q.leases[:last]
	return l
}
