package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxDueSleep bounds the wait for a retry, in case the clock is put forward.
const maxDueSleep = time.Minute

// leaser finds the events of a queue that are due, concurrently with the writer.
type leaser struct {
	*queue
	mu      sync.Mutex   // one call at a time
	conn    *conn        // during a scan
	retries int          // quarters of an event, of the share of retries
	turn    int64        // before it there is no fresh event that was not found in turn
	reached time.Time    // when the last of these arrived that was leased
	newest  atomic.Int64 // before it there is none of the newest that was not leased
}

// Lease waits until at least one event is due.
func (q *queue) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	return q.Pick(ctx, inbox.Want{Max: max})
}

// Pick waits until at least one event is due that is wanted.
func (q *queue) Pick(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	if w.Max < 1 || w.Newest < 0 || w.Newest > w.Max {
		return nil, fmt.Errorf("lease of %d events, of them %d of the newest: expected 1 or more, and no more of the newest", w.Max, w.Newest)
	}
	return q.leaser.lease(ctx, w)
}

func (l *leaser) lease(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		select {
		case <-l.closing:
			return nil, l.errClosed()
		case <-l.broken.ch:
			return nil, l.errClosed() // nothing will be leased any more
		default:
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		granted, found, err := l.scan(w)
		if err == nil && found.tooLate {
			err = l.bringForward(ctx)
		}
		switch {
		case len(granted) > 0:
			return granted, nil
		case err != nil:
			return nil, err
		case found.tooLate:
		case len(found.yielding) > 0:
			err = l.reorder(ctx, found.yielding)
		default:
			err = l.wait(ctx, found.nextDue)
		}
		if err != nil {
			return nil, err
		}
	}
}

// wait waits until something may be due, but no longer than until the given
// time if that is not zero.
func (l *leaser) wait(ctx context.Context, due time.Time) error {
	var timer <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(min(maxDueSleep, due.Sub(l.now())))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-l.wakeUp:
	case <-timer:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return l.errClosed()
	case <-l.broken.ch:
		return l.errClosed()
	}
	return nil
}

// scan leases what is due.
func (l *leaser) scan(w inbox.Want) (granted []*inbox.Lease, f scanResult, err error) {
	from := l.scanner()
	from.mu.Lock()
	defer from.mu.Unlock()
	if from.closed {
		return nil, f, l.errClosed()
	}
	l.conn = from.conn
	l.gate.RLock()
	defer l.gate.RUnlock()
	l.leases.beginScan()
	if err = l.find(w, &f); err == nil {
		err = l.addOutcomes(f.found)
	}
	if err == nil {
		err = l.findYielding(&f)
	}
	if err == nil {
		f.tooLate, err = l.findTooLate()
	}
	l.noteDamage(err)
	if err != nil || len(f.yielding) > 0 {
		l.leases.endScan(nil, 0)
		return nil, f, err
	}
	l.leases.keep(f.spare)
	return l.leases.endScan(f.found, f.end), f, nil
}

// scanResult is the result of a scan.
type scanResult struct {
	found    []*heldLease
	yielding []*heldLease // those of found that must not be leased before their task was put in order
	spare    []*heldLease // fresh events that come next in turn
	end      int64        // where fresh events begin that are neither in found nor in spare
	nextDue  time.Time    // when the next retry is due, if nothing was found
	tooLate  bool         // some retry is due later than it can be meant to be
}

// find looks for the events that are wanted. Retries that are due get a quarter of
// the places, so that neither they nor new events starve.
func (l *leaser) find(w inbox.Want, f *scanResult) error {
	v := l.view.Load()
	inTurn := w.Max - w.Newest
	room := w.Max + l.leases.count()
	now := l.now().UnixMicro()
	var retries []int64
	var err error
	if !w.Untried && inTurn > 0 {
		if retries, err = l.rows(v.rows[retry], dueRetries, now, int64(room)); err != nil {
			return err
		}
	}
	first := min(l.retryShare(inTurn), len(retries))
	if err := l.take(f, retries[:first], retry); err != nil {
		return err
	}
	if err := l.takeNew(f, v, inTurn-first, room); err != nil {
		return err
	}
	more := min(inTurn-len(f.found), len(retries)-first)
	if err := l.take(f, retries[first:first+max(more, 0)], retry); err != nil {
		return err
	}
	if err := l.takeNewest(f, v, w.Newest); err != nil {
		return err
	}
	if len(f.found) == 0 && inTurn > 0 && !w.Untried && v.rows[retry] > 0 {
		next, err := l.conn.number(l.sql(nextRetry), now)
		if err != nil {
			return err
		}
		f.nextDue = inbox.FromMicros(next)
	}
	return nil
}

// retryShare is the part of so many events that is for retries.
func (l *leaser) retryShare(of int) int {
	l.retries += of
	share := l.retries / 4
	l.retries %= 4
	return share
}

const (
	nextRetry  = `SELECT due FROM delivery$ WHERE state = 1 AND due > ? ORDER BY due LIMIT 1`
	dueRetries = `SELECT seq FROM delivery$ WHERE state = 1 AND due <= ? ORDER BY due LIMIT +?`
	// The second condition is that of the index, see oldestWithRow.
	readyRows = `SELECT seq FROM delivery$ WHERE state = 0 AND state <= 2 AND seq > ? ORDER BY seq LIMIT +?`
)

// rows returns the events that the query finds and that are not leased. n is
// the number of events in that state: with none the query is skipped.
func (l *leaser) rows(n int64, query string, values ...driver.Value) (seqs []int64, err error) {
	if n == 0 {
		return nil, nil
	}
	err = l.conn.query(l.sql(query), func(row []driver.Value) error {
		seqs = append(seqs, integer(row[0]))
		return nil
	}, values...)
	return l.leases.unleased(seqs), err
}

// takeNew takes up to max events that were never leased, in order of arrival:
// fresh ones and those that were blocked.
func (l *leaser) takeNew(f *scanResult, v *queueView, max, room int) error {
	if max <= 0 {
		return nil
	}
	waited, err := l.rows(v.rows[ready], readyRows, int64(0), int64(room))
	if err != nil {
		return err
	}
	fresh, end, err := l.findFresh(v, max)
	if err != nil {
		return err
	}
	l.turn, f.end = end, end
	for ; max > 0 && len(waited)+len(fresh) > 0; max-- {
		if len(waited) > 0 && (len(fresh) == 0 || waited[0] < fresh[0].seq()) {
			if err := l.take(f, waited[:1], ready); err != nil {
				return err
			}
			waited = waited[1:]
			continue
		}
		f.found = append(f.found, fresh[0])
		l.reached = fresh[0].lease.Event.ReceivedAt
		fresh = fresh[1:]
	}
	if f.spare = fresh; len(fresh) > 0 {
		l.turn = fresh[0].seq()
	}
	return nil
}

const (
	leaseColumns = `SELECT e.seq, ` + eventColumns + `, d.state, d.attempts FROM `
	readLease    = leaseColumns + eventTables + ` WHERE e.seq = ?`
)

// take reads the events and keeps those that are still in the state in which
// the query found them.
func (l *leaser) take(f *scanResult, seqs []int64, want state) error {
	for _, seq := range seqs {
		var h *heldLease
		err := l.conn.query(l.sql(readLease), func(row []driver.Value) error {
			h = scanLease(row)
			return nil
		}, seq)
		if err != nil {
			return err
		}
		if h == nil || h.state != want || h.fresh {
			continue
		}
		if h.attempts.replayed() {
			if err := l.addReplay(h); err != nil {
				return err
			}
		}
		f.found = append(f.found, h)
	}
	return nil
}

func scanLease(row []driver.Value) *heldLease {
	e := scanEvent(row[1:])
	h := &heldLease{state: state(integer(row[9])), attempts: attempts(integer(row[10])), fresh: row[9] == nil}
	untried := h.fresh || h.state == ready && h.attempts == 0
	var id inbox.RawID
	copy(id[:], blob(row[1]))
	h.key = keyOf(id)
	h.lease = &inbox.Lease{Event: e, Attempt: h.attempts.made() + 1, Untried: untried, Ref: integer(row[0])}
	return h
}

// scanEvent reads an event from its columns.
func scanEvent(row []driver.Value) *inbox.Event {
	return &inbox.Event{
		ID:          hex.EncodeToString(blob(row[0])),
		TaskID:      text(row[1]),
		Type:        text(row[2]),
		Status:      inbox.Status(integer(row[3])), //nolint:gosec // as it was stored
		ReceivedAt:  time.UnixMicro(integer(row[4])).UTC(),
		Body:        blob(row[5]),
		TraceParent: text(row[6]),
		TraceState:  text(row[7]),
	}
}

// scanner is a connection on which one leaser at a time looks for events.
type scanner struct {
	mu     sync.Mutex
	conn   *conn
	closed bool
}

// scanner returns the connection for the scans of the queue. That of the default
// destination never waits for the others.
func (q *queue) scanner() *scanner {
	if q.isDefault() {
		return &q.scanners[0]
	}
	return &q.scanners[1]
}

// close closes the connection after the scan under way.
func (s *scanner) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.conn.close()
}
