package nats

import (
	"context"
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
	// If it was settled meanwhile, or another has it, there is a newer record or none.
	seq, err := s.writeRecord(ctx, leased, h.id, h.history.lease, h.last)
	if err == nil {
		h.others = append(h.others[:len(h.others)-1], seq)
		h.last = seq
	}
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
