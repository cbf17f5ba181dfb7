package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	eventColumns = `e.id, e.task_id, e.type, e.status, e.received_at, e.body, t.trace_parent, t.trace_state`
	eventTables  = `events e LEFT JOIN delivery d ON d.seq = e.seq LEFT JOIN traces t ON t.seq = e.seq`

	recordColumns = `SELECT e.seq, ` + eventColumns + `, d.state, d.attempts, d.due, d.settled_at,
		d.last_at, d.last_duration, d.last_status, d.last_reason FROM ` + eventTables + ` `
)

// scanRecord reads recordColumns.
func (s *store) scanRecord(row []driver.Value) *inbox.Record {
	st := state(integer(row[9]))
	p := inbox.Progress{
		State:     st.public(),
		Attempts:  int(integer(row[10])),
		SettledAt: inbox.FromMicros(integer(row[12])),
		Last: inbox.Attempt{
			At:       inbox.FromMicros(integer(row[13])),
			Duration: time.Duration(integer(row[14])),
			Status:   int(integer(row[15])),
			Reason:   text(row[16]),
		},
	}
	if st == retry {
		p.Due = s.policy.Load().Due(inbox.FromMicros(integer(row[11])), s.now())
	}
	return &inbox.Record{
		Event: scanEvent(row[1:]), Progress: p,
		Deliveries: []inbox.Delivery{{Destination: inbox.DefaultDestination, Progress: p}},
	}
}

// Get returns an event and its attempts.
func (s *store) Get(ctx context.Context, id string) (record *inbox.Record, err error) {
	raw, err := inbox.LookUpID(id)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, func(c *conn) error {
		seqs, err := s.taskEvents(c, newestFirst, keyOf(raw), math.MaxInt64, math.MaxInt64)
		if err != nil {
			return err
		}
		for _, seq := range seqs {
			err := c.query(recordColumns+`WHERE e.seq = ?`, func(row []driver.Value) error {
				if bytes.Equal(blob(row[1]), raw[:]) {
					record = s.scanRecord(row)
				}
				return nil
			}, seq)
			if err != nil {
				return err
			}
			if record != nil {
				record.Deliveries[0].Log, err = readAttempts(c, seq, record)
				return err
			}
		}
		return fmt.Errorf("event %s: %w", id, inbox.ErrNotFound)
	})
	return record, err
}

// readAttempts returns the failed attempts and the successful one, if any.
func readAttempts(c *conn, seq int64, r *inbox.Record) (attempts []inbox.Attempt, err error) {
	err = c.query(`SELECT at, duration, status, reason FROM attempts WHERE seq = ? ORDER BY n`, func(row []driver.Value) error {
		attempts = append(attempts, inbox.Attempt{
			At:       inbox.FromMicros(integer(row[0])),
			Duration: time.Duration(integer(row[1])),
			Status:   int(integer(row[2])),
			Reason:   text(row[3]),
		})
		return nil
	}, seq)
	if r.State == inbox.Delivered {
		attempts = append(attempts, r.Last)
	}
	return attempts, err
}
