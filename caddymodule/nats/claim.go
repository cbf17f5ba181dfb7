package nats

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// claim says which Caddy removes old events, and until when. It only saves
// work: if two do so at once, no harm is done.
type claim struct {
	By    string `json:"by"`
	Until int64  `json:"until,omitempty"` // in µs since 1970
	Books bool   `json:"books,omitempty"` // this version records its removals in the ledger; earlier ones did not

	stale bool // removals since then may be missing in the ledger
}

// claim claims the removal for a while. It reports false if another inbox has
// claimed it.
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

// releaseClaim lets others claim at once, also if the inbox is being closed. If it fails
// the claim expires.
func (s *store) releaseClaim(ctx context.Context, mine *claim) {
	if mine.Until == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	if data, err := json.Marshal(claim{By: s.instance, Books: !mine.stale}); err == nil {
		_, _ = s.js.Publish(ctx, s.subjects.meta(metaMaintenance), data)
	}
}
