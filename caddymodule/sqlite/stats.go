package sqlite

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Stats returns a summary.
func (s *store) Stats(ctx context.Context) (inbox.Stats, error) {
	if err := s.Broken(); err != nil {
		return inbox.Stats{}, err
	}
	v := s.view.Load()
	stats := inbox.Stats{
		Events:      v.meta.events,
		Quarantined: v.meta.quarantined,
		Bytes:       v.bytes,
		MaxBytes:    s.maxSize.Load(),
	}
	err := s.read(ctx, func(c *conn) error {
		for _, q := range s.queues.list() {
			if q.isGone() {
				continue
			}
			d, err := q.stats(c)
			if err != nil {
				return err
			}
			stats.Destinations = append(stats.Destinations, d)
			if oldest := stats.OldestPending; oldest.IsZero() || (!d.OldestPending.IsZero() && d.OldestPending.Before(oldest)) {
				stats.OldestPending = d.OldestPending
			}
		}
		return nil
	})
	return stats, err
}

// stats returns the summary of one destination.
func (q *queue) stats(c *conn) (inbox.DestinationStats, error) {
	v := q.view.Load()
	oldest, err := q.oldestPending(c, v)
	return inbox.DestinationStats{Name: q.name, Deliveries: v.byState(), OldestPending: oldest}, err
}

// SQLite uses a partial index only if the query repeats its condition word
// for word. Without the index the query would read all that was delivered.
const oldestWithRow = `SELECT e.seq, e.received_at FROM events e WHERE e.seq = (
	SELECT min(seq) FROM (
		SELECT min(seq) AS seq FROM delivery$ WHERE state = 0 AND state <= 2 UNION ALL
		SELECT min(seq) FROM delivery$ WHERE state = 1 AND state <= 2 UNION ALL
		SELECT min(seq) FROM delivery$ WHERE state = 2 AND state <= 2))`

// oldestPending returns when the oldest event was received whose delivery is pending.
func (q *queue) oldestPending(c *conn, v *queueView) (time.Time, error) {
	var first, received int64
	take := func(row []driver.Value) error {
		if seq := integer(row[0]); first == 0 || seq < first {
			first, received = seq, integer(row[1])
		}
		return nil
	}
	if v.counters.fresh > 0 {
		// They begin at low_seq, or where the leaser is by now, or soon after it.
		low := max(v.lowSeq, q.leases.low(nil))
		if err := c.query(q.sql(q.fresh(v).oldest), take, low); err != nil {
			return time.Time{}, err
		}
	}
	if v.pending() > v.counters.fresh {
		if err := c.query(q.sql(oldestWithRow), take); err != nil {
			return time.Time{}, err
		}
	}
	if first == 0 {
		return time.Time{}, nil
	}
	return time.UnixMicro(received).UTC(), nil
}
