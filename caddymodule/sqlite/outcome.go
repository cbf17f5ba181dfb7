package sqlite

import (
	"database/sql/driver"
	"encoding/hex"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// outcomeOverhead is about the size in the file of a row in outcomes.
const outcomeOverhead = 30

const (
	insertOutcome = `INSERT INTO outcomes (seq, origin, outcome, revision) VALUES (?, ?, ?, ?)`
	readOutcome   = `SELECT o.origin, o.outcome, o.revision, e.id FROM outcomes o JOIN events e ON e.seq = o.seq WHERE o.seq = ?`
)

// hasOutcome reports whether an event has a row in outcomes.
func hasOutcome(e *inbox.Event) bool { return e.Origin != inbox.FromCallback || !e.Outcome.IsZero() }

func (t *tx) insertOutcome(seq int64, e *inbox.Event) error {
	outcome := []byte{}
	if !e.Outcome.IsZero() {
		outcome = e.Outcome[:]
	}
	t.w.outcomes.Store(true)
	return t.c.exec(insertOutcome, seq, int64(e.Origin), outcome, int64(e.Revision))
}

// scanOutcome reads the columns origin, outcome and revision.
func scanOutcome(e *inbox.Event, row []driver.Value) {
	e.Origin = inbox.Origin(integer(row[0])) //nolint:gosec // as it was stored
	copy(e.Outcome[:], blob(row[1]))
	e.Revision = int(integer(row[2]))
}

// addOutcomes reads what outcomes has about events that are to be leased. It is not joined
// to them, because most inboxes have none.
func (l *leaser) addOutcomes(found []*heldLease) error {
	if !l.outcomes.Load() {
		return nil
	}
	for _, h := range found {
		if h.whole {
			continue
		}
		err := l.conn.query(readOutcome, func(row []driver.Value) error {
			scanOutcome(h.lease.Event, row)
			return nil
		}, h.seq())
		if err != nil {
			return err
		}
	}
	return nil
}

// compare compares the event with final ones of its task, oldest first. It reports false
// if there is nothing to store: the event is a duplicate, or the request is refused.
func (p *put) compare(told []inbox.Told) (store bool, err error) {
	duplicateOf, revision := p.event.CompareOutcome(told)
	switch {
	case duplicateOf != "":
		p.duplicateOf, err = inbox.ParseID(duplicateOf)
		return false, err
	case revision != p.event.Revision:
		p.err = &inbox.RevisionError{Revision: revision}
		return false, nil
	}
	return true, nil
}

// told returns the last final events of a task that have an outcome.
func (t *tx) told(events []taskEvent) (told []inbox.Told, err error) {
	for _, e := range slices.Backward(events) {
		if !e.final || len(told) == inbox.MaxOutcomes {
			continue
		}
		if told, _, err = t.appendTold(told, e.seq); err != nil {
			return nil, err
		}
	}
	slices.Reverse(told)
	return told, nil
}

// toldBig is told for a task with many events. Final ones without an outcome, or that are
// gone, are not looked at again.
func (t *tx) toldBig(b *bigTask) (told []inbox.Told, err error) {
	var with []int64
	for len(b.finals) > 0 && len(told) < inbox.MaxOutcomes {
		last := b.finals[len(b.finals)-1]
		var ok bool
		if told, ok, err = t.appendTold(told, last); err != nil {
			break
		}
		b.finals = b.finals[:len(b.finals)-1]
		if ok {
			with = append(with, last)
		}
	}
	slices.Reverse(with)
	b.finals = append(b.finals, with...)
	slices.Reverse(told)
	return told, err
}

// appendTold appends an event if it has an outcome. ok is false if it has none or is gone.
func (t *tx) appendTold(told []inbox.Told, seq int64) (_ []inbox.Told, ok bool, err error) {
	err = t.c.query(readOutcome, func(row []driver.Value) error {
		var e inbox.Event
		scanOutcome(&e, row)
		if ok = !e.Outcome.IsZero(); ok {
			e.ID = hex.EncodeToString(blob(row[3]))
			told = append(told, e.Told())
		}
		return nil
	}, seq)
	return told, ok, err
}
