package nats

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// chores removes what is too old and brings changed settings to the streams.
// Each Caddy does that by itself: what one has removed, the others do not find.
func (s *store) chores() {
	select {
	case <-s.ready:
	case <-s.life.Done():
		return
	}
	applied := s.options.settings // what was set up with; it may have changed since
	for {
		if s.conn.IsConnected() {
			if err := s.tidy(&applied); err != nil && !s.closed() {
				s.log.Warn("tidying up failed, it is tried again", zap.Error(err))
			}
		}
		// Caddys that were started at once do not tidy up at once.
		wait := s.options.limits.chores
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-s.life.Done():
			timer.Stop()
			return
		case <-s.poke:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tidy does what is due.
func (s *store) tidy(applied *settings) error {
	ctx, cancel := context.WithTimeout(s.life, time.Minute)
	defer cancel()
	if now := *s.current.Load(); now != *applied {
		if err := s.change(ctx, now); err != nil {
			return err
		}
		*applied = now
	}
	if err := s.trimQuarantine(ctx); err != nil {
		return err
	}
	surplus, err := s.surplus(ctx)
	if err != nil {
		return err
	}
	for _, k := range []kind{gone, delivered, superseded} {
		if err := s.retire(ctx, k, &surplus); err != nil {
			return err
		}
	}
	return nil
}

// surplus is the number of events that have to go before they are too old, so
// that the stream has room for new ones: once it is 7/8 full, it is brought back
// to 3/4. What is remembered of repeats is worth less than a new callback.
func (s *store) surplus(ctx context.Context) (int64, error) {
	there, err := s.js.Stream(ctx, s.subjects.stream)
	if err != nil {
		return 0, err
	}
	info := there.CachedInfo()
	limit, has, messages := info.Config.MaxBytes, int64(info.State.Bytes), int64(info.State.Msgs)
	if limit <= 0 || has < limit/8*7 || messages == 0 {
		return 0, nil
	}
	return (has - limit/4*3) / max(1, has/messages), nil
}

// full has the stream tidied up soon, as it refused an event.
func (s *store) full() {
	last := s.tidied.Load()
	now := time.Now().UnixMilli()
	if now-last >= fullPause.Milliseconds() && s.tidied.CompareAndSwap(last, now) {
		s.wakeChores()
	}
}

// fullPause is the least time between two such looks.
const fullPause = time.Second

// change brings settings to the streams and consumers.
func (s *store) change(ctx context.Context, now settings) error {
	for _, config := range s.streams() {
		if err := s.stream(ctx, config); err != nil {
			return err
		}
	}
	for _, c := range [][2]string{{s.subjects.stream, s.subjects.allEvents()}, {s.subjects.states(), s.subjects.ofKind(pending)}} {
		if err := s.consumer(ctx, c[0], c[1]); err != nil {
			return err
		}
	}
	s.log.Info("settings changed", zap.Duration("lease", now.lease), zap.Int("replicas", now.replicas), zap.Int64("max_size", now.maxSize))
	return nil
}

// retireAtOnce is the number of events that are removed at a time.
const retireAtOnce = 16

// retire removes the events of a kind that have ended long enough ago, and as
// many more as there are too many. Their
// records are in the order in which they ended: so it looks at none that stays
// but the first. It reads them one by one: for a batch the server would count
// all that there are.
func (s *store) retire(ctx context.Context, k kind, surplus *int64) error {
	var old []expired
	for from := uint64(1); ctx.Err() == nil; {
		m, err := s.next(ctx, s.subjects.states(), s.subjects.ofKind(k), from)
		if err != nil {
			return err
		}
		var e *expired
		if m != nil {
			if e, err = s.tooOld(*m, surplus); err != nil {
				return err
			}
		}
		if e != nil {
			old, from = append(old, *e), m.seq+1
		}
		if e == nil || len(old) == s.options.limits.window {
			if err := s.removeAll(ctx, k, old); err != nil {
				return err
			}
			old = old[:0]
		}
		if e == nil {
			return nil
		}
	}
	return ctx.Err()
}

// expired is an event that is too old.
type expired struct {
	id       string
	seq      uint64
	last     uint64 // number of its record
	received int64
}

// tooOld returns the event of a record if it ended long enough ago, or there
// are too many.
func (s *store) tooOld(m message, surplus *int64) (*expired, error) {
	var r record
	if err := json.Unmarshal(m.data, &r); err != nil {
		return nil, err
	}
	if r.Settled >= time.Now().Add(-s.policy.Load().Keep).UnixMicro() {
		if *surplus <= 0 {
			return nil, nil //nolint:nilnil // it stays
		}
		*surplus--
	}
	return &expired{idOf(m.subject), r.Event, m.seq, r.Received}, nil
}

// removeAll removes events, the earliest of a task first.
func (s *store) removeAll(ctx context.Context, k kind, events []expired) error {
	lanes := make([][]expired, retireAtOnce)
	for _, e := range events {
		lane := e.id[0] % retireAtOnce
		lanes[lane] = append(lanes[lane], e)
	}
	var jobs errgroup.Group
	for _, lane := range lanes {
		jobs.Go(func() error {
			for _, e := range lane {
				if err := s.removeOld(ctx, k, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return jobs.Wait()
}

// removeOld removes an event that ended, unless it was replayed: then it only
// removes the record that says so.
func (s *store) removeOld(ctx context.Context, k kind, e expired) error {
	if k == gone {
		return s.removeGone(ctx, e)
	}
	err := s.remove(ctx, e)
	if errors.Is(err, inbox.ErrState) {
		s.forgetRecords(ctx, []uint64{e.last})
		return nil
	}
	return err
}
