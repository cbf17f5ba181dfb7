package nats

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// postpone returns an event to the server until it is due. If it cannot be
// meant to be due as late as that, because a clock was wrong, its record is
// corrected instead.
func (q *queue) postpone(ctx context.Context, c *candidate, m *member, left time.Duration) error {
	now, p := time.Now(), q.policy.Load()
	if !p.TooLate(inbox.FromMicros(m.rec.Due), now) {
		q.leaser.done(c)
		return c.msg.NakWithDelay(left)
	}
	if err := q.writePending(ctx, m, now.Add(p.MaxWait)); err != nil {
		return err
	}
	return c.msg.Ack()
}

// writePending stores a new pending record with this due time for an event that
// has a record. The new record is handed out.
func (d *destination) writePending(ctx context.Context, m *member, due time.Time) error {
	rec := m.rec
	rec.Event, rec.Received, rec.By, rec.Base, rec.Due = m.seq, inbox.Micros(m.ReceivedAt), d.instance, 0, inbox.Micros(due)
	if _, err := d.writeRecord(ctx, m.at, pending, m.ID, rec, m.last); err != nil {
		return err
	}
	d.forgetRecords(ctx, m.at, m.others)
	return nil
}

// makeDue makes an event due that waits for its time. It does nothing unless
// the event is pending and has a record.
func (d *destination) makeDue(ctx context.Context, m *member) error {
	for m.kind == pending {
		err := d.writePending(ctx, m, time.Time{})
		if err == nil {
			d.wake()
		}
		if !errors.Is(err, errConflict) {
			return err
		}
		// It was leased or settled concurrently, or the replica does not have
		// its last record yet.
		if !sleep.For(ctx, conflictWait) {
			return ctx.Err()
		}
		if m, err = d.find(ctx, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// wake has the queue of the destination look for what is due, if there is one here.
func (d *destination) wake() {
	if q := d.queueNamed(d.name); q != nil {
		q.leaser.signal()
	}
}

// wakeTask has it look at the events of a task.
func (d *destination) wakeTask(id string) {
	if q := d.queueNamed(d.name); q != nil {
		q.leaser.wakeTask(id)
		q.pick.wakeTask(id)
	}
}

// holds reports whether an event is leased by this inbox.
func (d *destination) holds(id string) bool {
	q := d.queueNamed(d.name)
	return q != nil && q.leaser.holds(id)
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
	for _, q := range s.openQueues() {
		if q != s.home && !q.made.Load() {
			continue
		}
		for _, c := range q.consumed()[1:] {
			for records, err := range s.batches(ctx, c.stream, c.filter, 1, maxBatch) {
				if err == nil {
					err = q.bringSomeForward(ctx, p, records)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	s.boundedTo = p.MaxWait
	return nil
}

func (q *queue) bringSomeForward(ctx context.Context, p *inbox.Policy, records []message) error {
	var jobs errgroup.Group
	jobs.SetLimit(retireAtOnce)
	for _, message := range records {
		id, now := idOf(message.subject), time.Now()
		var r record
		if json.Unmarshal(message.data, &r) != nil || len(id) != inbox.IDLength || !p.TooLate(inbox.FromMicros(r.Due), now) {
			continue
		}
		jobs.Go(func() error {
			m, err := q.find(ctx, id)
			if err == nil && m.kind == pending && p.TooLate(inbox.FromMicros(m.rec.Due), now) {
				err = q.writePending(ctx, m, now.Add(p.MaxWait))
			}
			if errors.Is(err, inbox.ErrNotFound) || errors.Is(err, errConflict) {
				return nil // it was changed concurrently
			}
			return err
		})
	}
	err := jobs.Wait()
	q.leaser.signal()
	return err
}
