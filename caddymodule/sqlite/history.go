package sqlite

import (
	"database/sql/driver"
	"math"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// A replay is a row in attempts whose number is not above 0: -n follows the attempt n. So
// attempts and replays have an order, and there is one replay at most between two attempts.
// Its reason is the destination that the delivery was moved from.
//
// That a delivery was replayed is also in its column attempts, so that nothing else has to
// be read of one that was not: the number of attempts is in the lower bits, and one more
// than the number before the last replay in those above.
const (
	replayShift = 31
	madeMask    = math.MaxInt32
)

// attempts is the column of that name.
type attempts int64

// made is the number of attempts.
func (a attempts) made() int { return int(a & madeMask) }

// replayed reports whether the delivery was replayed.
func (a attempts) replayed() bool { return a > madeMask }

// before is the number of attempts before the last replay, 0 if there was none.
func (a attempts) before() int { return max(int(a>>replayShift)-1, 0) }

const (
	// keepDelivered adds the attempt that ended a delivery, which so far is only in its row.
	keepDelivered = `INSERT OR REPLACE INTO attempts$ SELECT seq, attempts & 0x7fffffff, last_at, last_duration, last_status, last_reason
		FROM delivery$ WHERE seq = ? AND state = 3`

	insertReplay = `INSERT OR REPLACE INTO attempts$ SELECT seq, -(attempts & 0x7fffffff), ?, 0, 0, ? FROM delivery$ WHERE seq = ?`

	replayState = `UPDATE delivery$ SET state = 0, due = 0, settled_at = 0,
		attempts = (attempts & 0x7fffffff) | (((attempts & 0x7fffffff) + 1) << 31) WHERE seq = ?`

	insertAttempt = `INSERT OR REPLACE INTO attempts$ (seq, n, at, duration, status, reason) VALUES (?, ?, ?, ?, ?, ?)`
	trimAttempts  = `DELETE FROM attempts$ WHERE seq = ? AND n > ? AND n <= ?`
	readAttempts  = `SELECT n, at, duration, status, reason FROM attempts$ WHERE seq = ? ORDER BY n`
	readReplay    = `SELECT n, at, duration, status, reason FROM attempts$ WHERE seq = ? AND n = ?`

	// takeAttempts and takeDelivery are followed by the name of another destination's table.
	takeAttempts = `INSERT INTO attempts$ SELECT * FROM `
	takeDelivery = `INSERT OR REPLACE INTO delivery$ (state, attempts, last_at, last_duration, last_status, last_reason, seq)
		SELECT 0, attempts, last_at, last_duration, last_status, last_reason, seq FROM `
)

// again makes a delivery ready, and records when.
func (t *tx) again(q *queue, seq int64, from string) error {
	if err := t.c.exec(q.sql(keepDelivered), seq); err != nil {
		return err
	}
	if err := t.c.exec(q.sql(insertReplay), t.now, from, seq); err != nil {
		return err
	}
	return t.c.exec(q.sql(replayState), seq)
}

// takeOver gives the only delivery of an event to a destination, which is new, the
// attempts of another one that is pending or dead.
func (t *tx) takeOver(q, leaves *queue, seq int64) error {
	for _, query := range []string{
		q.sql(takeAttempts) + leaves.sql(`attempts$ WHERE seq = ?`),
		q.sql(takeDelivery) + leaves.sql(`delivery$ WHERE seq = ?`),
	} {
		if err := t.c.exec(query, seq); err != nil {
			return err
		}
	}
	return nil
}

// keepAttempt stores a failed attempt, and removes what is beyond the number that is kept.
// The last replay stays, since the retry schedule begins there.
func (t *tx) keepAttempt(q *queue, seq int64, count attempts, a *inbox.Attempt, reason string) error {
	n := int64(count.made())
	if err := t.c.exec(q.sql(insertAttempt), seq, n, inbox.Micros(a.At), int64(a.Duration), int64(a.Status), reason); err != nil {
		return err
	}
	last := n - t.w.limits.keptAttempts
	if last <= 0 {
		return nil
	}
	return t.c.exec(q.sql(trimAttempts), seq, -min(last, int64(count.before())), last)
}

// readLog reads the failed attempts and the successful one, if any, and the replays.
func readLog(c *conn, q *queue, seq int64, d *inbox.Delivery) error {
	err := c.query(q.sql(readAttempts), func(row []driver.Value) error {
		if integer(row[0]) <= 0 {
			d.Replays = append(d.Replays, scanReplay(row))
			return nil
		}
		d.Log = append(d.Log, inbox.Attempt{
			At:       inbox.FromMicros(integer(row[1])),
			Duration: time.Duration(integer(row[2])),
			Status:   int(integer(row[3])),
			Reason:   text(row[4]),
		})
		return nil
	}, seq)
	slices.Reverse(d.Replays)
	if d.State == inbox.Delivered {
		d.Log = append(d.Log, d.Last)
	}
	return err
}

func scanReplay(row []driver.Value) inbox.Replay {
	return inbox.Replay{At: inbox.FromMicros(integer(row[1])), After: int(-integer(row[0])), From: text(row[4])}
}

// addReplay adds to a lease when its delivery was last replayed.
func (l *leaser) addReplay(h *heldLease) error {
	h.lease.Replay.After = h.attempts.before()
	return l.conn.query(l.sql(readReplay), func(row []driver.Value) error {
		h.lease.Replay = scanReplay(row)
		return nil
	}, h.seq(), -int64(h.attempts.before()))
}
