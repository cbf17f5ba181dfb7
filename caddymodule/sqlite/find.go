package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	readID = `SELECT id, received_at FROM events WHERE seq = ?`

	// findSteps is how many events one search looks at, as a multiple of limits.scan.
	// Only a task that has more of them is not searched as a whole.
	findSteps = 20
)

var eventsBetween = newPartQuery(`SELECT seq FROM part_entries WHERE part = ? AND task_key >= ? AND task_key <= ?`)

// Find returns the events with the prefix. It needs no index of its own, as an id begins
// with the key of its task.
func (s *store) Find(ctx context.Context, p inbox.Prefix, limit int) (f inbox.Found, err error) {
	var events []found
	err = s.snapshot(ctx, func(c *conn) error {
		seqs, err := s.eventsBetween(ctx, c, p)
		if err != nil {
			return err
		}
		var more bool
		if most := int(findSteps * s.limits.scan); len(seqs) > most {
			seqs, more = seqs[:most], true
		}
		for _, seq := range seqs {
			if err := ctx.Err(); err != nil {
				return err
			}
			matches := false
			err := c.query(readID, func(row []driver.Value) error {
				matches = p.Matches(hex.EncodeToString(blob(row[0])))
				if more {
					f.Since = inbox.FromMicros(integer(row[1]))
				}
				return nil
			}, seq)
			if err == nil && matches {
				if f.More = len(events) == limit; f.More {
					break
				}
				err = c.query(readRecord+`WHERE e.seq = ?`, func(row []driver.Value) error {
					events = append(events, s.scanRecord(row))
					return nil
				}, seq)
			}
			if err != nil {
				return err
			}
		}
		return s.complete(c, events)
	})
	if err != nil {
		return inbox.Found{}, err
	}
	for _, e := range events {
		f.Records = append(f.Records, e.record)
	}
	return f, nil
}

// eventsBetween returns the events whose task's key has the prefix, newest first. Some may
// be gone.
func (s *store) eventsBetween(ctx context.Context, c *conn, p inbox.Prefix) ([]int64, error) {
	low, high := p.TaskKeys()
	first, last := int64(low), int64(high) //nolint:gosec // the same 64 bits
	// An entry is in the table before it leaves the memory, so the memory is
	// read first.
	seqs := s.index.between(first, last)
	parts, err := c.partNumbers()
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		err := c.query(eventsBetween.of(part), func(row []driver.Value) error {
			seqs = append(seqs, integer(row[0]))
			return ctx.Err()
		}, part, first, last)
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	slices.Reverse(seqs)
	return seqs, nil
}
