package nats

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// No server takes a lease out of turn from a Caddy that died, as the event was not handed
// to it: its record says so, and is renewed as long as the lease lasts. The event
// comes in turn, and who gets it then waits until the record is gone, or was not
// renewed for as long as a lease lasts.

// renewEarly renews the leases out of turn. The leaser is locked.
func (s *store) renewEarly() {
	for _, h := range s.leaser.leases {
		if h.early {
			s.work.Go(func() { s.renew(h) })
		}
	}
}

func (s *store) renew(h *heldLease) {
	ctx, cancel := s.bound(s.life)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	seq, err := s.writeRecord(ctx, leased, h.id, h.history.lease, h.last)
	if errors.Is(err, errConflict) {
		seq, err = s.ownMark(ctx, h)
	}
	if err == nil && seq != 0 {
		h.others = append(h.others[:len(h.others)-1], seq)
		h.last = seq
	}
}

// ownMark returns the number of the last record of an event if it is that of this
// lease: the answer to a renewal may have been lost. It is 0 if the event was settled
// meanwhile, or another Caddy has it.
func (s *store) ownMark(ctx context.Context, h *heldLease) (uint64, error) {
	m, err := s.last(ctx, s.subjects.states(), s.subjects.statesOf(h.id))
	if err != nil || m == nil || s.subjects.kindIn(m.subject) != leased {
		return 0, err
	}
	var r record
	if err := json.Unmarshal(m.data, &r); err != nil || r.By != h.token {
		return 0, err
	}
	return m.seq, nil
}

// early returns the leases out of turn that have not ended.
func (l *leaser) early() (held []*heldLease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.leases {
		if h.early {
			held = append(held, h)
		}
	}
	return held
}

// maxClaims bounds the records that are remembered. With more, it takes longer to
// find out that one was not renewed.
const maxClaims = 10_000

// isClaimed reports whether the record of a lease out of turn still counts.
func (l *leaser) isClaimed(record uint64, lease time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, ok := l.claims[record]
	if !ok {
		if len(l.claims) >= maxClaims {
			clear(l.claims)
		}
		since = time.Now()
		l.claims[record] = since
	}
	return time.Since(since) < lease
}

// pendingNew returns how many new events the server had to hand out beside the last one
// that came, when that was, and whether it is asked for more and has none.
func (l *leaser) pendingNew() (n uint64, at time.Time, asked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	src := &l.fresh
	return src.pending, src.at, src.asked > 0 && len(src.queue) == 0 && time.Now().Before(src.until)
}

// handBack returns a lease unspent: the event is as it was.
func (s *store) handBack(ctx context.Context, h *heldLease) error {
	if h.marked {
		s.withdraw(ctx, []*heldLease{h})
		s.pick.forget(h.event.seq)
	}
	m := s.leaser.messageOf(h)
	if m.Reply == "" {
		return nil // it was leased out of turn, and was not handed out since
	}
	return m.Nak()
}

// withdraw removes the records of leases that are none, also if ctx has ended: the
// events are as they were.
func (s *store) withdraw(ctx context.Context, held []*heldLease) {
	seqs := make([]uint64, len(held))
	for i, h := range held {
		seqs[i] = h.last
	}
	s.forgetRecords(context.WithoutCancel(ctx), seqs)
}
