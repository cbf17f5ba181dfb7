package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Stats returns a summary.
func (s *store) Stats(ctx context.Context) (inbox.Stats, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return inbox.Stats{}, err
	}
	defer cancel()
	if err := s.health.problem(); err != nil {
		return inbox.Stats{}, err
	}
	stats, err := s.stats(bounded)
	stats.Destinations = []inbox.DestinationStats{{Name: inbox.DefaultDestination, Deliveries: stats.Events, OldestPending: stats.OldestPending}}
	return stats, s.failed(ctx, err)
}

func (s *store) stats(ctx context.Context) (stats inbox.Stats, err error) {
	var states [4]jetstream.StreamState
	var meta uint64
	var limit int64
	kinds := []kind{pending, leased, superseded, dead}
	counts := make([]uint64, len(kinds))
	var jobs errgroup.Group
	for i, name := range []string{s.subjects.stream, s.subjects.states(), s.subjects.quarantine()} {
		jobs.Go(func() error {
			there, err := s.info(ctx, name, s.subjects.allMeta())
			if err != nil {
				return err
			}
			states[i] = there.State
			switch i {
			case 0:
				limit = there.Config.MaxBytes
			case 1:
				// Other messages in the stream of states are counted in the
				// same answer, because they come and go.
				meta = uint64(len(there.State.Subjects))
			}
			return nil
		})
	}
	for i, k := range kinds {
		jobs.Go(func() (err error) {
			counts[i], err = s.count(ctx, s.subjects.states(), s.subjects.ofKind(k))
			return err
		})
	}
	jobs.Go(func() error {
		l, _, err := s.readLedger(ctx)
		if l != nil {
			stats.Lost, stats.LostAt = int64(l.Lost), inbox.FromMicros(l.LostAt)
		}
		return err
	})
	jobs.Go(func() (err error) {
		stats.OldestPending, err = s.oldestPending(ctx)
		return err
	})
	if err := jobs.Wait(); err != nil {
		return inbox.Stats{}, err
	}
	// All other records are of delivered events. Those are not counted by
	// themselves, as there may be very many.
	rest := saturatingSub(states[1].Msgs, counts[0]+counts[1]+counts[2]+counts[3]+meta)
	stats.Events[inbox.Delivered] = int64(rest)
	stats.Events[inbox.Superseded] = int64(counts[2])
	stats.Events[inbox.Dead] = int64(counts[3])
	stats.Events[inbox.Pending] = int64(saturatingSub(states[0].Msgs, rest+counts[2]+counts[3]))
	if stats.Events[inbox.Pending] == 0 {
		stats.OldestPending = time.Time{} // it was of an event that is gone
	}
	stats.Quarantined = int64(states[2].Msgs)
	if s.policy.Load().Quarantine == 0 {
		stats.Quarantined = 0
	}
	stats.Bytes = int64(states[0].Bytes) // MaxBytes limits this stream
	stats.MaxBytes = max(0, limit)
	return stats, nil
}

// info returns the state of a stream, and the subjects in it that match.
func (s *store) info(ctx context.Context, stream, subjects string) (*jetstream.StreamInfo, error) {
	var answer struct {
		apiAnswer
		jetstream.StreamInfo
	}
	err := s.apiRequest(ctx, "STREAM.INFO."+stream, map[string]string{"subjects_filter": subjects}, &answer)
	if answer.Error != nil {
		err = fmt.Errorf("looking at stream %s: %w", stream, err)
	}
	return &answer.StreamInfo, err
}

// saturatingSub subtracts counts that were read at different times.
func saturatingSub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// oldestPending returns when the oldest pending event was received. It is the
// oldest of the events that have a pending record and of those that were not
// acknowledged yet.
func (s *store) oldestPending(ctx context.Context) (time.Time, error) {
	var seq uint64
	var received time.Time
	take := func(n uint64, at time.Time) {
		if seq == 0 || n < seq {
			seq, received = n, at
		}
	}
	records, _, err := s.directGet(ctx, s.subjects.states(), query{NextFor: s.subjects.ofKind(pending), Batch: s.options.limits.scan, MaxBytes: maxAnswer})
	if err != nil {
		return received, err
	}
	for _, m := range records {
		var r record
		if err := json.Unmarshal(m.data, &r); err == nil {
			take(r.Event, inbox.FromMicros(r.Received))
		}
	}
	there, err := s.js.Consumer(ctx, s.subjects.stream, consumerName)
	if err != nil {
		return received, err
	}
	past := there.CachedInfo().AckFloor.Stream
	for seen := 0; seen < s.options.limits.scan; {
		messages, more, err := s.directGet(ctx, s.subjects.stream, query{Seq: past + 1, Batch: s.options.limits.window, MaxBytes: maxAnswer})
		if err != nil || len(messages) == 0 {
			return received, err
		}
		p := &pager{store: s, f: inbox.Filter{States: []inbox.State{inbox.Pending}}, limit: 1}
		if err := p.add(ctx, messages); err != nil {
			return received, err
		}
		if p.full {
			take(p.last, p.records[0].Event.ReceivedAt)
			return received, nil
		}
		if past = p.last; more == 0 {
			break
		}
		seen += len(messages)
	}
	return received, nil
}
