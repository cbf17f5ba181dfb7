package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// setHold is the request to store a hold.
type setHold struct {
	request
	queue *queue
	hold  inbox.Hold
}

// SetHold stores a hold.
func (q *queue) SetHold(ctx context.Context, h inbox.Hold) error {
	return q.submit(&setHold{request: newRequest(ctx), queue: q, hold: h})
}

const writeHold = `INSERT OR REPLACE INTO hold$ (id, since, until, ended, reason) VALUES (1, ?, ?, ?, ?)`

func (r *setHold) apply(t *tx) error {
	r.err = nil
	since, until, ended, reason := inbox.Micros(r.hold.Since), inbox.Micros(r.hold.Until), inbox.Micros(r.hold.Ended), clip.Text(r.hold.Reason, inbox.MaxReason)
	t.of(r.queue).hold = holdOf(since, until, ended, reason)
	return t.c.exec(r.queue.sql(writeHold), since, until, ended, reason)
}

func (r *setHold) grows() bool { return false }

// holdOf returns the hold as it is stored, so that memory and file agree.
func holdOf(since, until, ended int64, reason string) inbox.Hold {
	return inbox.Hold{Since: inbox.FromMicros(since), Until: inbox.FromMicros(until), Ended: inbox.FromMicros(ended), Reason: reason}
}

// readHold reads the hold from the file.
func readHold(c *conn, q *queue) (h inbox.Hold, err error) {
	err = c.query(q.sql(`SELECT since, until, ended, reason FROM hold$`), func(row []driver.Value) error {
		h = holdOf(integer(row[0]), integer(row[1]), integer(row[2]), text(row[3]))
		return nil
	})
	return h, err
}

// Hold returns the hold stored last, from memory.
func (q *queue) Hold(context.Context) (inbox.Hold, error) {
	select {
	case <-q.closing:
		return inbox.Hold{}, q.errClosed()
	default:
		return q.view.Load().hold, nil
	}
}
