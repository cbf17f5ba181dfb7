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

// leaseWindow is the range of numbers in which one query looks for fresh
// events.
const leaseWindow = 10_000

// maxDueSleep bounds the wait for a retry, in case the clock is put forward.
const maxDueSleep = time.Minute

// leaser finds the events that are due, on a connection of its own,
// concurrently with the writer.
type leaser struct {
	*store
	mu      sync.Mutex // one call at a time
	conn    *conn
	retries int          // quarters of an event, of the share of retries
	reached time.Time    // when the last fresh event arrived that was leased in turn
	newest  atomic.Int64 // before it there is none of the newest that was not leased
}

// Lease waits until at least one event is due.
func (s *store) Lease(ctx context.Context, max int) ([]*inbox.Lease, error) {
	return s.Pick(ctx, inbox.Want{Max: max})
}

// Pick waits until at least one event is due that is wanted.
func (s *store) Pick(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	if w.Max < 1 || w.Newest < 0 || w.Newest > w.Max {
		return nil, fmt.Errorf("lease of %d events, of them %d of the newest: expected 1 or more, and no more of the newest", w.Max, w.Newest)
	}
	return s.leaser.lease(ctx, w)
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
	case <-l.store.leaserWake:
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
	l.gate.RLock()
	defer l.gate.RUnlock()
	cursor := l.leases.beginScan()
	f.cursor = cursor
	if err = l.find(w, &f); err == nil {
		err = l.findYielding(&f)
	}
	if err == nil {
		f.tooLate, err = l.findTooLate()
	}
	l.noteDamage(err)
	if err != nil || len(f.yielding) > 0 {
		l.leases.endScan(nil, cursor)
		return nil, f, err
	}
	return l.leases.endScan(f.found, f.cursor), f, nil
}

// scanResult is the result of a scan.
type scanResult struct {
	found    []*heldLease
	yielding []*heldLease // those of found that must not be leased before their task was put in order
	cursor   int64        // where fresh events begin once those found are leased
	nextDue  time.Time    // when the next retry is due, if nothing was found
	tooLate  bool         // some retry is due later than it can be meant to be
}

// lastWaiting returns the newest blocked event of a task.
const lastWaiting = `SELECT e.status FROM delivery d JOIN events e ON e.seq = d.seq
	WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? ORDER BY d.seq DESC LIMIT 1`

// findYielding finds events that must not be leased before their task was put
// in order: they were leased by an inbox that has ended since, and meanwhile an
// event of their task was blocked that goes first.
func (l *leaser) findYielding(f *scanResult) error {
	if l.view.Load().meta.rows[blocked] == 0 {
		return nil
	}
	for _, h := range f.found {
		yields, err := l.mustYield(h)
		if err != nil {
			return err
		}
		if yields {
			f.yielding = append(f.yielding, h)
		}
	}
	return nil
}

// mustYield reports whether a blocked event of the task goes before h: an older
// one, or a final one if h is in progress. Only the first and the last blocked
// event are looked at, because there may be very many: once a final event is
// stored, later in-progress ones are not blocked but superseded.
func (l *leaser) mustYield(h *heldLease) (bool, error) {
	e := h.lease.Event
	first, err := l.conn.number(firstWaiting, h.key, e.TaskID)
	if err != nil || first == 0 || first < h.seq() || e.Status.Final() {
		return first != 0 && first < h.seq(), err
	}
	status, err := l.conn.number(lastWaiting, h.key, e.TaskID)
	return status != 0, err
}

// reorder makes the writer put the tasks of these leases in order.
func (l *leaser) reorder(ctx context.Context, yielding []*heldLease) error {
	return l.submit(&reorder{request: newRequest(ctx), leases: yielding})
}

// reorder is the request to put tasks in order.
type reorder struct {
	request
	leases []*heldLease
}

func (r *reorder) apply(t *tx) error {
	r.err = nil
	for _, h := range r.leases {
		if err := t.orderWaiting(h.key, h.lease.Event.TaskID); err != nil {
			return err
		}
	}
	return nil
}

func (r *reorder) grows() bool { return false }

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
		if retries, err = l.rows(v.meta.rows[retry], dueRetries, now, int64(room)); err != nil {
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
	if err := l.takeNewest(f, v.meta.nextSeq, w.Newest); err != nil {
		return err
	}
	if len(f.found) == 0 && inTurn > 0 && !w.Untried && v.meta.rows[retry] > 0 {
		next, err := l.conn.number(`SELECT due FROM delivery WHERE state = 1 AND due > ? ORDER BY due LIMIT 1`, now)
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
	dueRetries = `SELECT seq FROM delivery WHERE state = 1 AND due <= ? ORDER BY due LIMIT ?`
	// The second condition is that of the index, see oldestWithRow.
	readyRows = `SELECT seq FROM delivery WHERE state = 0 AND state <= 2 AND seq > ? ORDER BY seq LIMIT ?`
)

// rows returns the events that the query finds and that are not leased. n is
// the number of events in that state: with none the query is skipped.
func (l *leaser) rows(n int64, query string, values ...driver.Value) (seqs []int64, err error) {
	if n == 0 {
		return nil, nil
	}
	err = l.conn.query(query, func(row []driver.Value) error {
		seqs = append(seqs, integer(row[0]))
		return nil
	}, values...)
	return l.leases.unleased(seqs), err
}

// takeNew takes up to max events that were never leased, in order of arrival:
// fresh ones and those that were blocked.
func (l *leaser) takeNew(f *scanResult, v *view, max, room int) error {
	if max <= 0 {
		return nil
	}
	waited, err := l.rows(v.meta.rows[ready], readyRows, int64(0), int64(room))
	if err != nil {
		return err
	}
	fresh, end, err := l.fresh(f.cursor, v.meta.nextSeq, max)
	if err != nil {
		return err
	}
	f.cursor = end
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
	if len(fresh) > 0 {
		f.cursor = fresh[0].seq()
	}
	return nil
}

const (
	leaseColumns = `SELECT e.seq, ` + eventColumns + `, d.state, d.attempts FROM ` + eventTables + ` `
	readFresh    = leaseColumns + `WHERE e.seq >= ? AND e.seq < ? AND d.seq IS NULL ORDER BY e.seq LIMIT ?`
	readLease    = leaseColumns + `WHERE e.seq = ?`
)

// fresh returns up to max fresh events from the cursor on that are not leased,
// and where to continue after them.
func (l *leaser) fresh(cursor, next int64, max int) (fresh []*heldLease, end int64, err error) {
	for cursor < next && len(fresh) == 0 {
		end := min(next, cursor+leaseWindow)
		seen, last := 0, int64(0)
		err := l.conn.query(readFresh, func(row []driver.Value) error {
			h := scanLease(row)
			seen, last = seen+1, h.seq()
			if len(l.leases.unleased([]int64{last})) > 0 {
				fresh = append(fresh, h)
			}
			return nil
		}, cursor, end, int64(max))
		if err != nil {
			return nil, cursor, err
		}
		switch {
		case seen == max:
			cursor = last + 1
		case seen > 0:
			cursor = end
		default:
			if cursor, err = l.skipGap(end, next); err != nil {
				return nil, cursor, err
			}
		}
	}
	return fresh, cursor, nil
}

// skipGap returns the first event from seq on, at most next. Large ranges of
// numbers may be gone.
func (l *leaser) skipGap(seq, next int64) (int64, error) {
	first, err := l.conn.number(`SELECT seq FROM events WHERE seq >= ? ORDER BY seq LIMIT 1`, seq)
	if first == 0 || first > next {
		first = next
	}
	return first, err
}

// take reads the events and keeps those that are still in the state in which
// the query found them.
func (l *leaser) take(f *scanResult, seqs []int64, want state) error {
	for _, seq := range seqs {
		err := l.conn.query(readLease, func(row []driver.Value) error {
			if h := scanLease(row); h.state == want && !h.fresh {
				f.found = append(f.found, h)
			}
			return nil
		}, seq)
		if err != nil {
			return err
		}
	}
	return nil
}

func scanLease(row []driver.Value) *heldLease {
	e := scanEvent(row[1:])
	h := &heldLease{state: state(integer(row[9])), attempts: int(integer(row[10])), fresh: row[9] == nil}
	untried := h.fresh || h.state == ready && h.attempts == 0
	var id inbox.RawID
	copy(id[:], blob(row[1]))
	h.key = keyOf(id)
	h.lease = &inbox.Lease{Event: e, Attempt: h.attempts + 1, Untried: untried, Ref: integer(row[0])}
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

// close closes the connection after the call under way.
func (l *leaser) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn.close()
}
