package nats

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// ledger accounts for the events that are no longer in the stream. Each event
// ever stored has a sequence number. Either it is still in the stream, or a
// gateway removed it properly, or somebody else removed it: then it is lost
// unless it had been delivered before. The ledger is one message in the stream
// of states, shared by all Caddys. Each change is conditional on the one
// before, so that nothing is counted twice.
type ledger struct {
	Removed uint64 `json:"removed"` // events removed by gateways, and sequences that no event had
	Lost    uint64 `json:"lost,omitempty"`
	Seen    uint64 `json:"seen,omitempty"` // sequence of the last event seen
	Next    uint64 `json:"next,omitempty"` // first sequence of a stream created in place of a removed one

	// LostAt is when a loss was last found, in µs since 1970. All records
	// written since then have higher sequences than LostFrom.
	LostAt   int64  `json:"lostAt,omitempty"`
	LostFrom uint64 `json:"lostFrom,omitempty"`

	// Records of kind gone with a sequence below Gone have been counted, and so
	// have marks of purges below Erased.
	Gone   uint64 `json:"gone,omitempty"`
	Erased uint64 `json:"erased,omitempty"`

	// The same of the stream for events with several destinations as wholes.
	AllLostFrom uint64 `json:"allLostFrom,omitempty"`
	AllGone     uint64 `json:"allGone,omitempty"`
	AllErased   uint64 `json:"allErased,omitempty"`
}

// gone and erased return up to where the records of a stream have been counted.
func (l *ledger) gone(all bool) *uint64 {
	if all {
		return &l.AllGone
	}
	return &l.Gone
}

func (l *ledger) erased(all bool) *uint64 {
	if all {
		return &l.AllErased
	}
	return &l.Erased
}

// missing returns the number of events that are neither in the stream nor
// accounted for. It is negative if some are accounted for twice.
func (l *ledger) missing(state *jetstream.StreamState) int64 {
	return int64(state.LastSeq) - int64(state.Msgs) - int64(l.Removed) - int64(l.Lost)
}

// mayRecover reports whether lost events may still turn out to have been
// delivered, by a Caddy that had leased them before.
func (l *ledger) mayRecover() bool { return time.Since(inbox.FromMicros(l.LostAt)) < recoverFor }

const recoverFor = 10 * time.Minute

// balance accounts for all missing events as removed.
func (l *ledger) balance(state *jetstream.StreamState) {
	l.Removed += uint64(l.missing(state)) // the sum may wrap around, which subtracts
}

// countRemoved counts the records from where the last count ended, which it
// advances to past.
func (l *ledger) countRemoved(from *uint64, records []expired, past uint64) {
	for _, e := range records {
		if e.last >= *from {
			l.Removed++
		}
	}
	*from = max(*from, past)
}

// readLedger returns the ledger and the sequence of its message; nil if there
// is none.
func (s *store) readLedger(ctx context.Context) (*ledger, uint64, error) {
	m, err := s.last(ctx, s.subjects.states(), s.subjects.meta(metaLedger))
	if err != nil || m == nil {
		return nil, 0, err
	}
	l := new(ledger)
	return l, m.seq, json.Unmarshal(m.data, l)
}

func (s *store) writeLedger(ctx context.Context, l *ledger, after uint64) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	subject := s.subjects.meta(metaLedger)
	_, err = s.publish(ctx, &nats.Msg{Subject: subject, Data: data}, after, subject)
	return err
}

// updateLedger changes the ledger if there is one. After a conflict it tries
// again.
func (s *store) updateLedger(ctx context.Context, change func(*ledger)) error {
	for {
		l, after, err := s.readLedger(ctx)
		if err != nil || l == nil {
			return err
		}
		before := *l
		if change(l); *l == before {
			return nil
		}
		if err := s.writeLedger(ctx, l, after); !errors.Is(err, errConflict) {
			return err
		}
		if !sleep.For(ctx, conflictWait) {
			return ctx.Err()
		}
	}
}

// noteNewest records the sequence of the last event.
func (s *store) noteNewest(seq uint64) {
	for {
		now := s.newest.Load()
		if seq <= now || s.newest.CompareAndSwap(now, seq) {
			return
		}
	}
}

// ledgerTimeout bounds the search for lost events, which may have to read all
// records of the inbox.
const ledgerTimeout = 15 * time.Minute

// checkLedger finds events that vanished without a gateway removing them, and
// reports those that had not been delivered.
func (s *store) checkLedger(ctx context.Context, mine *claim) error {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	state, err := s.eventState(ctx)
	if err != nil {
		return err
	}
	l, after, err := s.readLedger(ctx)
	if err != nil {
		return err
	}
	if l != nil && l.missing(state) == 0 && !mine.stale && !l.mayRecover() {
		if state.LastSeq != l.Seen {
			l.Seen = state.LastSeq
			if err = s.writeLedger(ctx, l, after); errors.Is(err, errConflict) {
				err = nil // another Caddy was faster
			}
		}
		return err
	}
	if ok, err := s.claim(ctx, mine); err != nil || !ok {
		return err
	}
	if l == nil {
		l = new(ledger)
		l.balance(state)
		l.Seen = state.LastSeq
		// If another Caddy began one meanwhile, that one counts.
		if err := s.writeLedger(ctx, l, after); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	return s.accountForLosses(ctx, mine)
}

// accountForLosses brings the ledger up to date. One Caddy at a time does so.
func (s *store) accountForLosses(ctx context.Context, mine *claim) error {
	old, at, err := s.readLedger(ctx)
	if err != nil || old == nil {
		return err
	}
	state, quiet, err := s.finishRemovals(ctx, mine)
	if err != nil || !quiet {
		return err
	}
	now, _, err := s.readLedger(ctx)
	if err != nil || now == nil {
		return err
	}
	stale, older := mine.stale, state.LastSeq < old.Seen
	if missing := now.missing(state); !stale && !older && (missing > 0 || old.mayRecover()) {
		// Events that had ended are gone but not lost.
		from := map[place]uint64{}
		if missing <= 0 {
			from[s.subjects.home()], from[s.subjects.all()] = old.LostFrom, old.AllLostFrom
		}
		if err := s.dropOrphans(ctx, mine, from); err != nil {
			return err
		}
		if state, quiet, err = s.finishRemovals(ctx, mine); err != nil || !quiet {
			return err
		}
	}
	allAt, err := s.lastOfAll(ctx)
	if err != nil {
		return err
	}
	return s.book(ctx, mine, finding{old, at, allAt, state})
}

// finding is what was found out about losses.
type finding struct {
	old   *ledger // before the state was read
	at    uint64  // its number
	allAt uint64  // the last number of the stream for events with several destinations as wholes
	state *jetstream.StreamState
}

// book brings the ledger up to date with what was found, unless the stream of events was
// made anew meanwhile: the state would be that of the removed one.
func (s *store) book(ctx context.Context, mine *claim, f finding) error {
	old, state := f.old, f.state
	stale, older := mine.stale, state.LastSeq < old.Seen
	lost, remade := int64(0), false
	err := s.updateLedger(ctx, func(l *ledger) {
		if remade = l.Next != old.Next; remade {
			return
		}
		lost = l.missing(state)
		switch {
		case stale, older, lost < 0 && (!old.mayRecover() || -lost > int64(l.Lost)):
			lost = 0
			l.balance(state)
		case lost > 0:
			l.LostAt, l.LostFrom, l.AllLostFrom = time.Now().UnixMicro(), f.at, f.allAt
		}
		l.Lost += uint64(lost)
		l.Seen = state.LastSeq
	})
	if err != nil || remade {
		return err
	}
	mine.stale = false
	switch {
	case older:
		s.log.Error("the stream of events has fewer than it had: an old copy of it was restored, and what was accepted since is not in it",
			zap.Uint64("last", state.LastSeq), zap.Uint64("had", old.Seen))
	case lost > 0:
		s.log.Error("events that had not been delivered are gone from the stream, and no gateway removed them: somebody purged it, deleted messages or the stream, or changed its limits",
			zap.Int64("lost", lost), zap.Uint64("first_left", state.FirstSeq))
	case lost < 0:
		s.log.Info("events that were counted as lost had been delivered", zap.Int64("count", -lost))
	}
	return nil
}

// lastOfAll returns the last sequence of the stream for events with several destinations
// as wholes, 0 if there is none.
func (s *store) lastOfAll(ctx context.Context) (uint64, error) {
	if !s.several.Load() {
		return 0, nil
	}
	_, last, err := s.bounds(ctx, s.subjects.all().stream)
	return last, err
}

func (s *store) eventState(ctx context.Context) (*jetstream.StreamState, error) {
	there, err := s.led(ctx, s.subjects.stream)
	if err != nil {
		return nil, err
	}
	return &there.CachedInfo().State, nil
}

// finishRemovals completes the removals under way and returns the state of the
// stream then. It reports false if events are being removed concurrently.
func (s *store) finishRemovals(ctx context.Context, mine *claim) (state *jetstream.StreamState, quiet bool, err error) {
	for _, at := range s.eventPlaces() {
		if err := s.retire(ctx, at, gone, nil, mine); err != nil {
			return nil, false, err
		}
		if err := s.finishPurges(ctx, at); err != nil {
			return nil, false, err
		}
	}
	if state, err = s.eventState(ctx); err != nil {
		return nil, false, err
	}
	// One of these exists before an event is removed, and until the removal is
	// in the ledger.
	for _, at := range s.eventPlaces() {
		for _, subject := range []string{at.ofKind(gone), at.ofKind(purged), at.allErased()} {
			m, err := s.leaderGet(ctx, at.stream, map[string]any{"seq": 1, "next_by_subj": subject})
			if err != nil || m != nil {
				return nil, false, err
			}
		}
	}
	return state, true, nil
}

// finishPurges completes the purges of Caddys that have died, and counts the
// completed ones.
func (s *store) finishPurges(ctx context.Context, at place) error {
	records, err := s.all(ctx, at.stream, at.ofKind(purged))
	if err != nil {
		return err
	}
	for _, m := range records {
		var r record
		if err := json.Unmarshal(m.data, &r); err != nil {
			return err
		}
		if err := s.erase(ctx, at, expired{id: idOf(m.subject), seq: r.Event, also: r.Also, moved: r.Moved}, m.seq); err != nil {
			return err
		}
	}
	for {
		marks, more, err := s.directGet(ctx, at.stream, query{Seq: 1, NextFor: at.allErased(), Batch: retireBatch, MaxBytes: maxAnswer})
		if err != nil || len(marks) == 0 {
			return err
		}
		past := marks[len(marks)-1].seq + 1
		list := make([]expired, len(marks))
		for i, m := range marks {
			list[i].last = m.seq
		}
		if err := s.updateLedger(ctx, func(l *ledger) { l.countRemoved(l.erased(at == s.subjects.all()), list, past) }); err != nil {
			return err
		}
		err = s.api(ctx, "STREAM.PURGE."+at.stream, map[string]any{"filter": at.allErased(), "seq": past})
		if err != nil || more == 0 {
			return err
		}
	}
}
