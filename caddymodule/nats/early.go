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
func (q *queue) renewEarly() {
	for _, h := range q.leaser.leases {
		if h.early {
			q.work.Go(func() { q.renew(h) })
		}
	}
}

func (q *queue) renew(h *heldLease) {
	ctx, cancel := q.bound(q.life)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	seq, err := q.writeRecord(ctx, h.history.at, leased, h.id, h.history.lease, h.last)
	if errors.Is(err, errConflict) {
		seq, err = q.ownMark(ctx, h)
	}
	if err == nil && seq != 0 {
		h.others = append(h.others[:len(h.others)-1], seq)
		h.last = seq
	}
}

// ownMark returns the number of the last record of an event if it is that of this
// lease: the answer to a renewal may have been lost. It is 0 if the event was settled
// meanwhile, or another Caddy has it.
func (q *queue) ownMark(ctx context.Context, h *heldLease) (uint64, error) {
	at := h.history.at
	m, err := q.last(ctx, at.stream, at.statesOf(h.id))
	if err != nil || m == nil || at.kindIn(m.subject) != leased {
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
	return src.pending, src.heard, src.asked > 0 && len(src.queue) == 0 && time.Now().Before(src.until)
}

// handBack returns a lease unspent: the event is as it was.
func (q *queue) handBack(ctx context.Context, h *heldLease) error {
	if h.marked {
		q.withdraw(ctx, []*heldLease{h})
		q.pick.forget(h.event.seq)
	}
	if h.history.at != q.subjects.home() {
		// If another Caddy got it and ended it meanwhile, those who ended other deliveries
		// here have left it to this lease to look whether that was the last.
		n, err := q.endAt(ctx, h.event)
		if err == nil && n.ended() {
			err = q.conclude(ctx, h.event)
		}
		if err != nil {
			return err
		}
	}
	m := q.leaser.messageOf(h)
	if m.Reply == "" {
		return nil // it was leased out of turn, and was not handed out since
	}
	return m.Nak()
}

// withdraw removes the records of leases that are none, also if ctx has ended: the
// events are as they were.
func (q *queue) withdraw(ctx context.Context, held []*heldLease) {
	seqs := map[place][]uint64{}
	for _, h := range held {
		seqs[h.history.at] = append(seqs[h.history.at], h.last)
	}
	for at, some := range seqs {
		q.forgetRecords(context.WithoutCancel(ctx), at, some)
	}
}
