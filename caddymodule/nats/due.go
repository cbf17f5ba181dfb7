package nats

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// postpone returns an event to the server until it is due. If it cannot be
// meant to be due as late as that, because a clock was wrong, its record is
// corrected instead.
func (s *store) postpone(ctx context.Context, c *candidate, m *member, left time.Duration) error {
	now, p := time.Now(), s.policy.Load()
	if !p.TooLate(inbox.FromMicros(m.rec.Due), now) {
		return c.msg.NakWithDelay(left)
	}
	if err := s.writePending(ctx, m, now.Add(p.MaxWait)); err != nil {
		return err
	}
	return c.msg.Ack()
}

// writePending stores a new pending record with this due time for an event that
// has a record. The new record is handed out.
func (s *store) writePending(ctx context.Context, m *member, due time.Time) error {
	rec := m.rec
	rec.Event, rec.Received, rec.By, rec.Base, rec.Due = m.seq, inbox.Micros(m.ReceivedAt), s.instance, 0, inbox.Micros(due)
	if _, err := s.writeRecord(ctx, pending, m.ID, rec, m.last); err != nil {
		return err
	}
	s.forgetRecords(ctx, m.others)
	return nil
}

// makeDue makes an event due that waits for its time. It does nothing unless
// the event is pending and has a record.
func (s *store) makeDue(ctx context.Context, m *member) error {
	for m.kind == pending {
		err := s.writePending(ctx, m, time.Time{})
		if err == nil {
			s.leaser.signal()
		}
		if !errors.Is(err, errConflict) {
			return err
		}
		// It was leased or settled concurrently, or the replica does not have
		// its last record yet.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(conflictWait):
		}
		if m, err = s.find(ctx, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// bringForward makes events due within Policy.MaxWait that were set to be due
// later, because of a wrong clock or a longer MaxWait. The server would not
// hand them out earlier by itself. This is done once, and again when MaxWait
// becomes shorter.
func (s *store) bringForward(ctx context.Context) error {
	p := s.policy.Load()
	if p.MaxWait == 0 || s.boundedTo != 0 && p.MaxWait >= s.boundedTo {
		s.boundedTo = p.MaxWait
		return nil
	}
	for records, err := range s.batches(ctx, s.subjects.states(), s.subjects.ofKind(pending), 1, maxBatch) {
		if err == nil {
			err = s.bringSomeForward(ctx, p, records)
		}
		if err != nil {
			return err
		}
	}
	s.boundedTo = p.MaxWait
	return nil
}

func (s *store) bringSomeForward(ctx context.Context, p *inbox.Policy, records []message) error {
	var jobs errgroup.Group
	jobs.SetLimit(retireAtOnce)
	for _, message := range records {
		id, now := idOf(message.subject), time.Now()
		var r record
		if json.Unmarshal(message.data, &r) != nil || len(id) != inbox.IDLength || !p.TooLate(inbox.FromMicros(r.Due), now) {
			continue
		}
		jobs.Go(func() error {
			m, err := s.find(ctx, id)
			if err == nil && m.kind == pending && p.TooLate(inbox.FromMicros(m.rec.Due), now) {
				err = s.writePending(ctx, m, now.Add(p.MaxWait))
			}
			if errors.Is(err, inbox.ErrNotFound) || errors.Is(err, errConflict) {
				return nil // it was changed concurrently
			}
			return err
		})
	}
	err := jobs.Wait()
	s.leaser.signal()
	return err
}
