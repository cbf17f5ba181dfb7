package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// quarantine is the request to store a suspect.
type quarantine struct {
	request
	suspect *inbox.Suspect // complete; apply does not change it
	kept    inbox.Suspect  // the suspect as stored; its ID is 0 if it was not
}

// Quarantine stores a suspect.
func (s *store) Quarantine(ctx context.Context, suspect *inbox.Suspect) error {
	complete := *suspect // a copy, because the caller may not wait for the writer
	complete.Complete()
	r := &quarantine{request: newRequest(ctx), suspect: &complete}
	err := s.submit(r)
	if err == nil && r.kept.ID != 0 {
		suspect.ID, suspect.Count, suspect.ReceivedAt, suspect.Last = r.kept.ID, r.kept.Count, r.kept.ReceivedAt, r.kept.Last
	}
	return err
}

const (
	insertSuspect  = `INSERT INTO quarantine (id, received_at, source_ip, status, problems, body) VALUES (?, ?, ?, ?, ?, ?)`
	updateSuspect  = `UPDATE quarantine SET received_at = ?, status = ?, problems = ? WHERE id = ?`
	insertArrivals = `INSERT INTO arrivals (place, id, body_key, count, last_at, source_ip) VALUES (?, ?, ?, ?, ?, ?)`
	updateArrivals = `UPDATE arrivals SET place = ?, count = ?, last_at = ?, source_ip = ? WHERE id = ?`
)

func (r *quarantine) apply(t *tx) error {
	r.err, r.kept = nil, inbox.Suspect{}
	if t.w.policy.Load().Quarantine <= 0 {
		return nil
	}
	q := *r.suspect
	key := q.Key()
	before, err := t.suspectWith(key[:])
	if err != nil {
		return err
	}
	if before != nil {
		return r.repeat(t, before, &q)
	}
	if fits, err := t.placeFor(&r.request, &q); err != nil || !fits {
		return err
	}
	place := t.nextPlace()
	q.ID = place
	err = t.c.exec(insertSuspect, q.ID, inbox.Micros(q.ReceivedAt), q.SourceIP, int64(q.Status), nonNil(q.Problems), nonNil(q.Body))
	if err == nil {
		err = t.c.exec(insertArrivals, place, q.ID, key[:], q.Count, inbox.Micros(q.Last), q.SourceIP)
	}
	if err != nil {
		return err
	}
	r.kept = q
	t.meta.quarantined++
	t.suspectBytes += suspectSize(&q)
	return nil
}

// repeat adds the suspect to the one with the same body, which takes no more room.
func (r *quarantine) repeat(t *tx, before, q *inbox.Suspect) error {
	if !t.diskHasRoom(&r.request, suspectOverhead) {
		return nil
	}
	t.grown += suspectOverhead
	r.kept = *before
	r.kept.Add(q)
	t.suspectBytes += int64(len(r.kept.Problems) - len(before.Problems))
	return t.repeated(t.nextPlace(), before, &r.kept)
}

// nextPlace returns the place of what has arrived last.
func (t *tx) nextPlace() int64 {
	place := t.meta.nextSuspect
	t.meta.nextSuspect++
	return place
}

// suspectWith returns the suspect whose body has this key, without the body, or
// nil.
func (t *tx) suspectWith(key []byte) (found *inbox.Suspect, err error) {
	err = t.c.query(findSuspect, func(row []driver.Value) error {
		found = scanSuspect(append(slices.Clone(row), nil))
		return nil
	}, key)
	return found, err
}

// repeated records that a suspect arrived again. The row with the body only
// changes if the answer was another one than before.
func (t *tx) repeated(place int64, before, now *inbox.Suspect) error {
	if now.Status != before.Status || !bytes.Equal(now.Problems, before.Problems) || !now.ReceivedAt.Equal(before.ReceivedAt) {
		err := t.c.exec(updateSuspect, inbox.Micros(now.ReceivedAt), int64(now.Status), nonNil(now.Problems), now.ID)
		if err != nil {
			return err
		}
	}
	return t.c.exec(updateArrivals, place, now.Count, inbox.Micros(now.Last), now.SourceIP, now.ID)
}

func (r *quarantine) grows() bool { return true }

// unquarantine is the request to remove a suspect.
type unquarantine struct {
	request
	id int64
}

// Unquarantine removes a suspect.
func (s *store) Unquarantine(ctx context.Context, id int64) error {
	return s.submit(&unquarantine{request: newRequest(ctx), id: id})
}

func (r *unquarantine) apply(t *tx) error {
	r.err = nil
	size, found := int64(0), false
	err := t.c.query(suspectLength+` WHERE id = ?`, func(row []driver.Value) error {
		size, found = suspectOverhead+integer(row[0]), true
		return nil
	}, r.id)
	if err != nil {
		return err
	}
	if !found {
		r.err = inbox.SuspectNotFound(r.id)
		return nil
	}
	t.meta.quarantined--
	t.suspectBytes -= size
	if err := t.c.exec(`DELETE FROM arrivals WHERE id = ?`, r.id); err != nil {
		return err
	}
	return t.c.exec(`DELETE FROM quarantine WHERE id = ?`, r.id)
}

func (r *unquarantine) grows() bool { return false }

const (
	suspectColumns = `SELECT a.place, q.id, q.received_at, a.last_at, a.count, a.source_ip, q.status, q.problems`
	suspectTables  = ` FROM arrivals a JOIN quarantine q ON q.id = a.id `
	findSuspect    = suspectColumns + suspectTables + `WHERE a.body_key = ?`
	listSuspects   = suspectColumns + `, q.body` + suspectTables + `WHERE a.place < ? ORDER BY a.place DESC LIMIT +?`
	readSuspect    = suspectColumns + `, q.body` + suspectTables + `WHERE a.id = ?`
)

func scanSuspect(row []driver.Value) *inbox.Suspect {
	return &inbox.Suspect{
		ID:         integer(row[1]),
		ReceivedAt: time.UnixMicro(integer(row[2])).UTC(),
		Last:       time.UnixMicro(integer(row[3])).UTC(),
		Count:      integer(row[4]),
		SourceIP:   text(row[5]),
		Status:     int(integer(row[6])),
		Problems:   blob(row[7]),
		Body:       blob(row[8]),
	}
}

// Suspects lists quarantined callbacks, always the last arrivals first.
func (s *store) Suspects(ctx context.Context, p inbox.Page) (suspects []*inbox.Suspect, next string, err error) {
	p.OldestFirst = false
	past, limit, err := p.Start()
	if err != nil {
		return nil, "", err
	}
	err = s.read(ctx, func(c *conn) error {
		var size int
		var last int64 // its place
		err := c.query(listSuspects, func(row []driver.Value) error {
			q := scanSuspect(row)
			suspects, last = append(suspects, q), integer(row[0])
			if size += len(q.Body) + len(q.Problems); size >= inbox.MaxPageBytes {
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
		more, err := c.number(`SELECT 1 FROM arrivals WHERE place < ? LIMIT 1`, last)
		if more != 0 {
			next = p.Next(last)
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
		err = inbox.SuspectNotFound(id)
	}
	return suspect, err
}
