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
		Quarantined: v.meta.quarantined,
		Bytes:       v.bytes,
		MaxBytes:    s.maxSize.Load(),
	}
	stats.Events[inbox.Pending] = v.meta.pending()
	stats.Events[inbox.Delivered] = v.meta.rows[delivered]
	stats.Events[inbox.Superseded] = v.meta.rows[superseded]
	stats.Events[inbox.Dead] = v.meta.rows[dead]
	err := s.read(ctx, func(c *conn) (err error) {
		if v.meta.pending() > 0 {
			stats.OldestPending, err = oldestPending(c, v.meta.lowSeq)
		}
		return err
	})
	stats.Destinations = []inbox.DestinationStats{{Name: inbox.DefaultDestination, Deliveries: stats.Events, OldestPending: stats.OldestPending}}
	return stats, err
}

const (
	// The events without a row in delivery begin at low_seq or soon after it.
	oldestFresh = `SELECT e.seq, e.received_at FROM events e LEFT JOIN delivery d ON d.seq = e.seq
		WHERE e.seq >= ? AND d.seq IS NULL ORDER BY e.seq LIMIT 1`

	// SQLite uses a partial index only if the query repeats its condition word
	// for word. Without the index the query would read all that was delivered.
	oldestWithRow = `SELECT e.seq, e.received_at FROM events e WHERE e.seq = (
		SELECT min(seq) FROM (
			SELECT min(seq) AS seq FROM delivery WHERE state = 0 AND state <= 2 UNION ALL
			SELECT min(seq) FROM delivery WHERE state = 1 AND state <= 2 UNION ALL
			SELECT min(seq) FROM delivery WHERE state = 2 AND state <= 2))`
)

// oldestPending returns when the oldest pending event was received.
func oldestPending(c *conn, low int64) (time.Time, error) {
	var first, received int64
	take := func(row []driver.Value) error {
		if seq := integer(row[0]); first == 0 || seq < first {
			first, received = seq, integer(row[1])
		}
		return nil
	}
	err := c.query(oldestFresh, take, low)
	if err == nil {
		err = c.query(oldestWithRow, take)
	}
	if err != nil || first == 0 {
		return time.Time{}, err
	}
	return time.UnixMicro(received).UTC(), nil
}
