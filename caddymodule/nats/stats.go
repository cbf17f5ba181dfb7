package nats

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
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
	if err := cmp.Or(s.health.problem(), s.health.silent()); err != nil {
		return inbox.Stats{}, err
	}
	stats, err := s.stats(bounded)
	if err != nil && s.several.Load() {
		// Another Caddy may have removed a destination without deliveries.
		if lerr := s.learn(bounded); lerr == nil {
			stats, err = s.stats(bounded)
		}
	}
	return stats, s.failed(ctx, err)
}

// tally is the number of records in a place by kind.
type tally struct {
	messages uint64
	counts   map[kind]uint64
	rest     uint64 // those of kind delivered
}

// ended counts the records of kinds that have ended, by state.
func (t *tally) ended(n *[len(inbox.States)]int64) {
	n[inbox.Delivered] += int64(t.rest)
	for _, k := range []kind{superseded, dead, skipped} {
		n[k.public()] += int64(t.counts[k])
	}
}

// tallyOf counts the records in a place. others is the number of messages in the stream
// that are no records.
func (s *store) tallyOf(ctx context.Context, at place, kinds ...kind) (t tally, err error) {
	t.counts = make(map[kind]uint64, len(kinds))
	counts := make([]uint64, len(kinds))
	var others uint64
	var jobs errgroup.Group
	jobs.Go(func() error {
		// Other messages in the stream are counted in the same answer, because they come
		// and go.
		filter := ""
		switch at {
		case s.subjects.home():
			filter = s.subjects.allMeta()
		case s.subjects.all():
			filter = at.allErased()
		}
		there, err := s.info(ctx, at.stream, filter)
		t.messages, others = there.State.Msgs, uint64(len(there.State.Subjects))
		return err
	})
	for i, k := range kinds {
		jobs.Go(func() (err error) {
			counts[i], err = s.count(ctx, at.stream, at.ofKind(k))
			return err
		})
	}
	if err := jobs.Wait(); err != nil {
		return t, err
	}
	// All other records are of delivered events. Those are not counted by
	// themselves, as there may be very many.
	sum := others
	for i, k := range kinds {
		t.counts[k] = counts[i]
		sum += counts[i]
	}
	t.rest = saturatingSub(t.messages, sum)
	return t, nil
}

// eventTally counts the events.
type eventTally struct {
	events    *jetstream.StreamInfo
	home, all tally
}

func (s *store) tallyEvents(ctx context.Context) (t eventTally, err error) {
	var jobs errgroup.Group
	jobs.Go(func() (err error) {
		t.events, err = s.info(ctx, s.subjects.stream, "")
		return err
	})
	jobs.Go(func() (err error) {
		kinds := []kind{pending, leased, superseded, dead}
		if s.several.Load() {
			kinds = append(kinds, moved)
		}
		t.home, err = s.tallyOf(ctx, s.subjects.home(), kinds...)
		return err
	})
	if s.several.Load() {
		jobs.Go(func() (err error) {
			t.all, err = s.tallyOf(ctx, s.subjects.all(), reopened, superseded, dead, skipped, gone, purged)
			return err
		})
	}
	return t, jobs.Wait()
}

// byState returns the numbers of events by state.
func (t *eventTally) byState() (n [len(inbox.States)]int64) {
	t.home.ended(&n)
	t.all.ended(&n)
	ended := t.all.counts[gone] + t.all.counts[purged]
	for _, some := range n {
		ended += uint64(some)
	}
	n[inbox.Pending] = int64(saturatingSub(t.events.State.Msgs, ended))
	return n
}

func (s *store) stats(ctx context.Context) (stats inbox.Stats, err error) {
	var tally eventTally
	var suspects *jetstream.StreamInfo
	var jobs errgroup.Group
	jobs.Go(func() (err error) {
		tally, err = s.tallyEvents(ctx)
		return err
	})
	jobs.Go(func() (err error) {
		suspects, err = s.info(ctx, s.subjects.quarantine(), "")
		return err
	})
	jobs.Go(func() error {
		l, _, err := s.readLedger(ctx)
		if l != nil {
			stats.Lost, stats.LostAt = int64(l.Lost), inbox.FromMicros(l.LostAt)
		}
		return err
	})
	others := s.destinations()
	of := make([]destinationTally, len(others))
	for i, d := range others {
		jobs.Go(func() (err error) {
			of[i], err = d.tally(ctx)
			return err
		})
	}
	var waits waiting
	jobs.Go(func() (err error) {
		waits, err = s.home.waiting(ctx, len(others) == 0)
		return err
	})
	if err := jobs.Wait(); err != nil {
		return inbox.Stats{}, err
	}
	stats.Events = tally.byState()
	s.addDestinations(&stats, &tally.home, waits, others, of)
	stats.Quarantined = int64(suspects.State.Msgs)
	if s.policy.Load().Quarantine == 0 {
		stats.Quarantined = 0
	}
	stats.Bytes = int64(tally.events.State.Bytes) // MaxBytes limits this stream
	stats.MaxBytes = max(0, tally.events.Config.MaxBytes)
	return stats, nil
}

// addDestinations adds the part of a summary that is about each destination.
func (s *store) addDestinations(stats *inbox.Stats, home *tally, waits waiting, others []*destination, of []destinationTally) {
	usual := inbox.DestinationStats{Name: inbox.DefaultDestination}
	home.ended(&usual.Deliveries)
	if len(others) == 0 {
		usual.Deliveries[inbox.Pending] = stats.Events[inbox.Pending]
	} else {
		usual.Deliveries[inbox.Pending] = int64(home.counts[pending]+home.counts[leased]) + waits.count
	}
	usual.OldestPending = waits.oldest.at
	stats.Destinations = []inbox.DestinationStats{usual}
	for i, d := range others {
		one := of[i].public(d.name)
		if d.isDefault() {
			first := &stats.Destinations[0]
			for state, n := range one.Deliveries {
				first.Deliveries[state] += n
			}
			first.OldestPending = earlier(first.OldestPending, one.OldestPending)
			continue
		}
		if one.Deliveries != [len(inbox.States)]int64{} || s.queueNamed(d.name) != nil {
			stats.Destinations = append(stats.Destinations, one)
		}
	}
	slices.SortFunc(stats.Destinations, func(a, b inbox.DestinationStats) int { return strings.Compare(a.Name, b.Name) })
	for i := range stats.Destinations {
		one := &stats.Destinations[i]
		if one.Deliveries[inbox.Pending] == 0 {
			one.OldestPending = time.Time{} // it was of an event that is gone
		}
		stats.OldestPending = earlier(stats.OldestPending, one.OldestPending)
	}
	if stats.Events[inbox.Pending] == 0 {
		stats.OldestPending = time.Time{}
	}
}

// earlier returns the earlier of two times that are not zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
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
