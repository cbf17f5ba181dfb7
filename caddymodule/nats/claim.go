package nats

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// claim says until when one Caddy removes what is due and the others need not.
// It spares work: that two do it at once harms nothing.
type claim struct {
	By    string `json:"by"`
	Until int64  `json:"until,omitempty"` // in µs since 1970
	Books bool   `json:"books,omitempty"` // what it removes goes into the ledger: earlier versions did not do that

	stale bool // somebody has removed events since that are not in the ledger
}

// claim makes the work this inbox's for a while, unless it is another's.
func (s *store) claim(ctx context.Context, mine *claim) (bool, error) {
	now := time.Now()
	if inbox.FromMicros(mine.Until).After(now.Add(retireTimeout / 2)) {
		return true, nil
	}
	subject, after := s.subjects.meta(metaMaintenance), uint64(0)
	m, err := s.last(ctx, s.subjects.states(), subject)
	if err != nil {
		return false, err
	}
	if m != nil {
		var other claim
		if err := json.Unmarshal(m.data, &other); err == nil && other.By != s.instance && inbox.FromMicros(other.Until).After(now) {
			return false, nil
		}
		after = m.seq
		mine.stale = mine.stale || !other.Books
	}
	next := claim{By: s.instance, Until: now.Add(retireTimeout).UnixMicro(), Books: !mine.stale, stale: mine.stale}
	data, err := json.Marshal(next)
	if err == nil {
		_, err = s.publish(ctx, &nats.Msg{Subject: subject, Data: data}, after, subject)
	}
	if errors.Is(err, errConflict) {
		return false, nil
	}
	if err == nil {
		*mine = next
	}
	return err == nil, err
}

// releaseClaim lets others do the work at once. If it fails they wait for a while.
func (s *store) releaseClaim(ctx context.Context, mine *claim) {
	if mine.Until != 0 {
		_ = s.setMeta(ctx, metaMaintenance, claim{By: s.instance, Books: !mine.stale})
	}
}
