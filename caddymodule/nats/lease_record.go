package nats

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// parkWaiting parks an event until its turn comes. One whose lease has come back does
// not stay leased meanwhile: it would be waited for.
func (s *store) parkWaiting(ctx context.Context, c *candidate, m *member) error {
	if m.kind == leased {
		rec := m.rec
		rec.Event, rec.Received, rec.By, rec.Base = m.seq, inbox.Micros(m.ReceivedAt), s.instance, 0
		if _, err := s.writeRecord(ctx, pending, m.ID, rec, m.last); err != nil {
			return err
		}
		s.forgetRecords(ctx, m.others)
		s.leaser.wakeTask(c.id)
		return c.msg.Ack()
	}
	s.park(c, c.lookDelay())
	return nil
}

// markLeased writes down that the event is leased. Whoever changes its record now
// knows, and whoever has had it before can settle it no more.
func (s *store) markLeased(ctx context.Context, c *candidate, m *member) (*heldLease, error) {
	token := s.token()
	rec := record{Event: m.seq, Received: inbox.Micros(m.ReceivedAt), By: token, Base: m.base, Early: c.early}
	seq, err := s.writeRecord(ctx, leased, m.ID, rec, m.last)
	if err != nil {
		return nil, err
	}
	h := &heldLease{candidate: c, history: m.history, token: token, marked: true}
	h.kind, h.history.lease, h.last = leased, rec, seq
	h.others = append(h.others, seq)
	return h, nil
}
