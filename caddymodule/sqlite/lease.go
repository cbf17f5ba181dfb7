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

// leaseWindow is the number of events that one query looks at for fresh ones.
const leaseWindow = 10_000

// maxDueSleep bounds the wait for a retry, in case the clock is put forward.
const maxDueSleep = time.Minute

// leaser finds the events that may be delivered, on a connection of its own
// beside the writer.
type leaser struct {
	*store
	mu      sync.Mutex // one call at a time
	conn    *conn
	retries int          // quarters of an event, of the share of retries
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

// wait returns when something may have come due: at the latest at the time
// given, if it is not zero.
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

// scanResult is what a scan has found.
type scanResult struct {
	found    []*heldLease
	yielding []*heldLease // those whose tasks have to be put in order first
	cursor   int64        // where fresh events begin once the holdings are leased
	nextDue  time.Time    // when the next retry is due, if there was nothing
	tooLate  bool         // there are retries that cannot be meant to be due so late
}

// lastWaiting is the newest event that waits for another of its task.
const lastWaiting = `SELECT e.status FROM delivery d JOIN events e ON e.seq = d.seq
	WHERE d.state = 2 AND d.task_key = ? AND e.task_id = ? ORDER BY d.seq DESC LIMIT 1`

// findYielding finds the events that an older or a final one of their task
// waits for only because they were leased when that one came, to an inbox that
// has ended since.
func (l *leaser) findYielding(f *scanResult) error {
	if l.view.Load().meta.rows[blocked] == 0 {
		return nil
	}
	for _, h := range f.found {
		inVain, err := l.mustYield(h)
		if err != nil {
			return err
		}
		if inVain {
			f.yielding = append(f.yielding, h)
		}
	}
	return nil
}

// mustYield reports whether an event waits for one that must not go before
// it: because it is older, or final while the other is in progress. There may
// be very many that wait, so only the first and the last are looked at: once a
// final one has come, those in progress that come later do not wait.
func (l *leaser) mustYield(h *heldLease) (bool, error) {
	e := h.lease.Event
	first, err := l.conn.number(firstWaiting, h.key, e.TaskID)
	if err != nil || first == 0 || first < h.seq() || e.Status.Final() {
		return first != 0 && first < h.seq(), err
	}
	status, err := l.conn.number(lastWaiting, h.key, e.TaskID)
	return status != 0, err
}

// reorder asks the writer to put the tasks of outdated events in order.
func (l *leaser) reorder(ctx context.Context, outdated []*heldLease) error {
	return l.submit(&reorder{request: newRequest(ctx), leases: outdated})
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
// the room, so that neither they nor events never leased are kept waiting by the
// others.
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

// rows returns the events that the query finds and that are not leased, if
// there are any such rows at all.
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
// those that are fresh, and those that have waited for another event.
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

// fresh returns up to max fresh events that are not leased, from the cursor on,
// and where to look for those that follow them.
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

// skipGap returns the first event from seq on, at most next: large parts of
// the numbers may be gone.
func (l *leaser) skipGap(seq, next int64) (int64, error) {
	first, err := l.conn.number(`SELECT seq FROM events WHERE seq >= ? ORDER BY seq LIMIT 1`, seq)
	if first == 0 || first > next {
		first = next
	}
	return first, err
}

// take reads the events and keeps those that are still in the state in which
// they were found.
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

// close closes the connection once the call under way has returned.
func (l *leaser) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn.close()
}
