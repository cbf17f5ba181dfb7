package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	eventColumns    = `e.id, e.task_id, e.type, e.status, e.received_at, e.body, t.trace_parent, t.trace_state`
	eventTables     = `events e LEFT JOIN delivery$ d ON d.seq = e.seq LEFT JOIN traces t ON t.seq = e.seq`
	deliveryColumns = `d.state, d.attempts, d.due, d.settled_at, d.last_at, d.last_duration, d.last_status, d.last_reason`

	// recordColumns has the delivery to the default destination, if there is one.
	recordColumns = `SELECT e.seq, ` + eventColumns + `, ` + deliveryColumns + `, r.slots, o.origin, o.outcome, o.revision FROM `

	readRecord = recordColumns + `events e LEFT JOIN delivery d ON d.seq = e.seq LEFT JOIN traces t ON t.seq = e.seq
		LEFT JOIN outcomes o ON o.seq = e.seq LEFT JOIN routes r ON r.seq = e.seq `

	readRouted = recordColumns + `routes r CROSS JOIN events e ON e.seq = r.seq LEFT JOIN delivery d ON d.seq = r.seq
		LEFT JOIN traces t ON t.seq = r.seq LEFT JOIN outcomes o ON o.seq = r.seq `

	readDelivery = `SELECT ` + deliveryColumns + ` FROM delivery$ d WHERE d.seq = ?`
)

// found is an event that was read.
type found struct {
	seq    int64
	to     slots
	record *inbox.Record
}

// scanRecord reads recordColumns. The deliveries are complete only if the event goes to
// the default destination alone, see readDeliveries.
func (s *store) scanRecord(row []driver.Value) found {
	f := found{seq: integer(row[0]), to: defaultOnly, record: &inbox.Record{Event: scanEvent(row[1:])}}
	if row[17] != nil {
		f.to = slots(integer(row[17]))
	}
	if row[18] != nil {
		scanOutcome(f.record.Event, row[18:])
	}
	if f.to&defaultOnly != 0 {
		f.record.Progress = s.scanProgress(row[9:])
		f.record.Deliveries = []inbox.Delivery{{Destination: inbox.DefaultDestination, Progress: f.record.Progress}}
	}
	return f
}

// scanProgress reads deliveryColumns, which are NULL while there is no row.
func (s *store) scanProgress(row []driver.Value) inbox.Progress {
	st := state(integer(row[0]))
	p := inbox.Progress{
		State:     st.public(),
		Attempts:  attempts(integer(row[1])).made(),
		SettledAt: inbox.FromMicros(integer(row[3])),
		Last: inbox.Attempt{
			At:       inbox.FromMicros(integer(row[4])),
			Duration: time.Duration(integer(row[5])),
			Status:   int(integer(row[6])),
			Reason:   text(row[7]),
		},
	}
	if st == retry {
		p.Due = s.policy.Load().Due(inbox.FromMicros(integer(row[2])), s.now())
	}
	return p
}

// snapshot calls f with a connection for look-ups, on which all reads see the same
// state.
func (s *store) snapshot(ctx context.Context, f func(*conn) error) error {
	return s.read(ctx, func(c *conn) error {
		if err := c.exec(`BEGIN`); err != nil {
			return err
		}
		defer rollback(c)
		return f(c)
	})
}

// destinationsIn returns the queues by their slots as the snapshot has them: one that
// the writer has dropped since is still there.
func (s *store) destinationsIn(c *conn) (map[int]*queue, error) {
	queues := map[int]*queue{0: s.usual}
	err := c.query(`SELECT slot, name FROM destinations`, func(row []driver.Value) error {
		slot, name := int(integer(row[0])), text(row[1])
		q := s.queues.find(name)
		if q == nil || q.slot != slot {
			q = newQueue(s, slot, name, counters{})
		}
		queues[slot] = q
		return nil
	})
	return queues, err
}

// complete reads the deliveries of events that do not go to the default destination
// alone.
func (s *store) complete(c *conn, events []found) error {
	var queues map[int]*queue
	for _, f := range events {
		if f.to == defaultOnly {
			continue
		}
		if queues == nil {
			var err error
			if queues, err = s.destinationsIn(c); err != nil {
				return err
			}
		}
		if err := s.readDeliveries(c, queues, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) readDeliveries(c *conn, queues map[int]*queue, f found) error {
	for slot := 1; slot < maxSlots; slot++ {
		if f.to&(slots(1)<<slot) == 0 {
			continue
		}
		q := queues[slot]
		if q == nil {
			return fmt.Errorf("event %s goes to the slot %d, which no destination has", f.record.Event.ID, slot)
		}
		var p inbox.Progress // pending, if there is no row
		err := c.query(q.sql(readDelivery), func(row []driver.Value) error {
			p = s.scanProgress(row)
			return nil
		}, f.seq)
		if err != nil {
			return err
		}
		f.record.Deliveries = append(f.record.Deliveries, inbox.Delivery{Destination: q.name, Progress: p})
	}
	slices.SortFunc(f.record.Deliveries, func(a, b inbox.Delivery) int { return cmp.Compare(a.Destination, b.Destination) })
	f.record.Progress = inbox.Summarize(f.record.Deliveries)
	return nil
}

// Get returns an event with its deliveries and their attempts.
func (s *store) Get(ctx context.Context, id string) (record *inbox.Record, err error) {
	raw, err := inbox.LookUpID(id)
	if err != nil {
		return nil, err
	}
	err = s.snapshot(ctx, func(c *conn) error {
		f, err := s.get(c, raw)
		if err != nil {
			return err
		}
		if f.record == nil {
			return fmt.Errorf("event %s: %w", id, inbox.ErrNotFound)
		}
		record = f.record
		if err := s.complete(c, []found{f}); err != nil {
			return err
		}
		return s.readLogs(c, f)
	})
	if err != nil {
		return nil, err
	}
	return record, nil
}

// get reads the event with the id; its record is nil if there is none.
func (s *store) get(c *conn, id inbox.RawID) (f found, err error) {
	recent := s.index.lookup(keyOf(id), nil) // the snapshot begins with the query after it
	seqs, err := s.taskEvents(c, newestFirst, recent, keyOf(id), math.MaxInt64, math.MaxInt64)
	for _, seq := range seqs {
		if err != nil || f.record != nil {
			break
		}
		err = c.query(readRecord+`WHERE e.seq = ?`, func(row []driver.Value) error {
			if bytes.Equal(blob(row[1]), id[:]) {
				f = s.scanRecord(row)
			}
			return nil
		}, seq)
	}
	return f, err
}

// readLogs reads the attempts of each delivery.
func (s *store) readLogs(c *conn, f found) error {
	queues, err := s.destinationsIn(c)
	if err != nil {
		return err
	}
	for _, q := range queues {
		for i := range f.record.Deliveries {
			if d := &f.record.Deliveries[i]; d.Destination == q.name {
				if err := readLog(c, q, f.seq, d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
