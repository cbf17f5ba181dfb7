package nats

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// parkWaiting parks an event until its turn. If it is marked as leased, it
// becomes pending first, because others would wait for it.
func (q *queue) parkWaiting(ctx context.Context, c *candidate, m *member) error {
	if m.kind == leased {
		rec := m.rec
		rec.Event, rec.Received, rec.By, rec.Base = m.seq, inbox.Micros(m.ReceivedAt), q.instance, 0
		if _, err := q.writeRecord(ctx, m.at, pending, m.ID, rec, m.last); err != nil {
			return err
		}
		q.forgetRecords(ctx, m.at, m.others)
		q.leaser.wakeTask(c.id)
		return c.msg.Ack()
	}
	q.park(c, c.lookDelay())
	return nil
}

// markLeased writes the record that the event is leased. Any concurrent change
// of the event conflicts with it, and an earlier lease can no longer be
// settled.
func (q *queue) markLeased(ctx context.Context, c *candidate, m *member) (*heldLease, error) {
	token := q.token()
	rec := record{Event: m.seq, Received: inbox.Micros(m.ReceivedAt), By: token, Base: m.base, Early: c.early}
	seq, err := q.writeRecord(ctx, m.at, leased, m.ID, rec, m.last)
	if err != nil {
		return nil, err
	}
	h := &heldLease{candidate: c, history: m.history, token: token, marked: true}
	h.kind, h.history.lease, h.last = leased, rec, seq
	h.others = append(h.others, seq)
	return h, nil
}
