package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// suspectOverhead is about what a quarantined callback takes in the file
// beside its body and problems, in bytes.
const suspectOverhead = 100

// quarantine is the request to keep a suspect.
type quarantine struct {
	request
	suspect *inbox.Suspect
	id      int64
}

// Quarantine keeps a suspect.
func (s *store) Quarantine(ctx context.Context, suspect *inbox.Suspect) error {
	r := &quarantine{request: newRequest(), suspect: suspect}
	r.ctx = ctx
	if err := s.do(ctx, r); err != nil {
		return err
	}
	if r.err == nil && r.id != 0 {
		suspect.ID = r.id
	}
	return r.err
}

const insertSuspect = `INSERT INTO quarantine (id, received_at, source_ip, status, problems, body) VALUES (?, ?, ?, ?, ?, ?)`

func (r *quarantine) apply(t *tx) error {
	r.err, r.id = nil, 0
	if t.w.policy.Load().Quarantine <= 0 {
		return nil
	}
	q := r.suspect
	if !t.room(&r.request, len(q.Body)+len(q.Problems)+suspectOverhead) {
		return nil
	}
	id := t.meta.nextSuspect
	err := t.c.exec(insertSuspect, id, micros(q.ReceivedAt), q.SourceIP, int64(q.Status), nonNil(q.Problems), nonNil(q.Body))
	if err != nil {
		return err
	}
	r.id = id
	t.meta.nextSuspect++
	t.meta.quarantined++
	return t.trimQuarantine(trimStep)
}

func (r *quarantine) grows() bool { return true }

// trimStep is the largest number of suspects that one transaction removes.
const trimStep = 16

// trimQuarantine removes the oldest suspects beyond the policy's limit, at
// most max of them.
func (t *tx) trimQuarantine(max int64) error {
	over := min(max, t.meta.quarantined-int64(t.w.policy.Load().Quarantine))
	if over <= 0 {
		return nil
	}
	err := t.c.exec(`DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine ORDER BY id LIMIT ?)`, over)
	if err != nil {
		return err
	}
	t.meta.quarantined -= over
	return nil
}

// unquarantine is the request to remove a suspect.
type unquarantine struct {
	request
	id int64
}

// Unquarantine removes a suspect.
func (s *store) Unquarantine(ctx context.Context, id int64) error {
	r := &unquarantine{request: newRequest(), id: id}
	r.ctx = ctx
	if err := s.do(ctx, r); err != nil {
		return err
	}
	return r.err
}

func (r *unquarantine) apply(t *tx) error {
	r.err = nil
	n, err := t.c.number(`SELECT 1 FROM quarantine WHERE id = ?`, r.id)
	if err != nil {
		return err
	}
	if n == 0 {
		r.err = suspectNotFound(r.id)
		return nil
	}
	t.meta.quarantined--
	return t.c.exec(`DELETE FROM quarantine WHERE id = ?`, r.id)
}

func (r *unquarantine) grows() bool { return false }

func suspectNotFound(id int64) error {
	return fmt.Errorf("quarantined callback %d: %w", id, inbox.ErrNotFound)
}

const (
	suspectColumns = `SELECT id, received_at, source_ip, status, problems, body FROM quarantine `
	listSuspects   = suspectColumns + `WHERE id < ? ORDER BY id DESC LIMIT ?`
	readSuspect    = suspectColumns + `WHERE id = ?`
)

func scanSuspect(row []driver.Value) *inbox.Suspect {
	return &inbox.Suspect{
		ID:         integer(row[0]),
		ReceivedAt: time.UnixMicro(integer(row[1])).UTC(),
		SourceIP:   text(row[2]),
		Status:     int(integer(row[3])),
		Problems:   blob(row[4]),
		Body:       blob(row[5]),
	}
}

// Suspects lists quarantined callbacks, newest first whatever the page says.
func (s *store) Suspects(ctx context.Context, p inbox.Page) (suspects []*inbox.Suspect, next string, err error) {
	past, limit, err := newestFirst.parsePage(p)
	if err != nil {
		return nil, "", err
	}
	err = s.read(ctx, func(c *conn) error {
		var bytes int
		err := c.query(listSuspects, func(row []driver.Value) error {
			q := scanSuspect(row)
			suspects = append(suspects, q)
			if bytes += len(q.Body) + len(q.Problems); bytes >= maxPageBytes {
				return errEnough
			}
			return ctx.Err()
		}, past, int64(limit))
		if err != nil && err != errEnough { //nolint:errorlint // it comes as it is
			return err
		}
		if len(suspects) == 0 {
			return nil
		}
		last := suspects[len(suspects)-1].ID
		more, err := c.number(`SELECT 1 FROM quarantine WHERE id < ? LIMIT 1`, last)
		if more != 0 {
			next = newestFirst.cursor(last)
		}
		return err
	})
	return suspects, next, err
}

// Suspect returns one quarantined callback.
func (s *store) Suspect(ctx context.Context, id int64) (suspect *inbox.Suspect, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.query(readSuspect, func(row []driver.Value) error {
			suspect = scanSuspect(row)
			return nil
		}, id)
	})
	if err == nil && suspect == nil {
		err = suspectNotFound(id)
	}
	return suspect, err
}
