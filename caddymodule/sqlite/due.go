package sqlite

import (
	"context"
	"time"
)

// lateStep is the number of retries that are brought forward in one
// transaction.
const lateStep = 256

const (
	lastDue = `SELECT due FROM delivery$ WHERE state = 1 ORDER BY due DESC LIMIT 1`

	// The second condition is that of the index, see oldestWithRow.
	bringLateForward = `UPDATE delivery$ SET due = ? WHERE seq IN (
		SELECT seq FROM delivery$ WHERE due > ? AND state = 1 ORDER BY due DESC LIMIT +?)`
)

// findTooLate reports whether a retry is due so late that its time must come
// from a wrong clock or a longer Policy.MaxWait.
func (l *leaser) findTooLate() (bool, error) {
	if l.view.Load().rows[retry] == 0 {
		return false, nil
	}
	last, err := l.conn.number(l.sql(lastDue))
	return l.policy.Load().TooLate(time.UnixMicro(last), l.now()), err
}

// bringForward makes the writer bring some of these retries forward. It does
// not do all at once, so that callbacks need not wait.
func (l *leaser) bringForward(ctx context.Context) error {
	return l.submit(&bringForward{request: newRequest(ctx), queue: l.queue})
}

// bringForward is the request to bring retries forward.
type bringForward struct {
	request
	queue *queue
}

func (r *bringForward) apply(t *tx) error {
	r.err = nil
	now, p := t.w.now(), t.w.policy.Load()
	last := now.Add(p.MaxWait).UnixMicro()
	if p.MaxWait == 0 {
		return nil
	}
	return t.c.exec(r.queue.sql(bringLateForward), last, last, int64(lateStep))
}

func (r *bringForward) grows() bool { return false }
