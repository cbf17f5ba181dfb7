package nats

import (
	"context"
	"encoding/json"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// dropOrphans removes records whose events no longer exist, beginning with the
// sequences in first. Records of delivered and superseded events become records of
// kind gone, so that their events are counted as removed. A dead event had not
// been delivered, so it is lost.
func (s *store) dropOrphans(ctx context.Context, mine *claim, first map[place]uint64) error {
	places := s.eventPlaces()
	for _, d := range s.destinations() {
		places = append(places, d.place())
	}
	for _, at := range places {
		for _, k := range []kind{delivered, superseded, dead, skipped, reopened, purged} {
			if k == purged && at.marks != "" {
				continue // that is seen to elsewhere
			}
			for records, err := range s.batches(ctx, at.stream, at.ofKind(k), max(1, first[at]), s.options.limits.window) {
				if err != nil {
					return err
				}
				if ok, err := s.claim(ctx, mine); err != nil || !ok {
					return err
				}
				if err := s.dropOrphansAmong(ctx, at, k, records); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// dropOrphansAmong removes those of the records whose events no longer exist.
func (s *store) dropOrphansAmong(ctx context.Context, at place, k kind, records []message) error {
	subjects := make([]string, 0, len(records))
	for _, m := range records {
		if id := idOf(m.subject); len(id) == inbox.IDLength { // else the gateway did not write it
			subjects = append(subjects, s.subjects.event(id))
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	events, err := s.latest(ctx, s.subjects.stream, subjects...)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(events))
	for _, m := range events {
		there[m.subject] = true
	}
	var jobs errgroup.Group
	jobs.SetLimit(retireAtOnce)
	for _, m := range records {
		id := idOf(m.subject)
		if len(id) != inbox.IDLength || there[s.subjects.event(id)] {
			continue
		}
		jobs.Go(func() error { return s.dropOrphan(ctx, at, k, id, m) })
	}
	return jobs.Wait()
}

func (s *store) dropOrphan(ctx context.Context, at place, k kind, id string, m message) error {
	// A replica may not have the event yet.
	if event, err := s.last(ctx, s.subjects.stream, s.subjects.event(id)); err != nil || event != nil {
		return err
	}
	if at.marks == "" || k == dead || k == reopened {
		s.forgetRecords(ctx, at, []uint64{m.seq})
		return nil
	}
	var r record
	if err := json.Unmarshal(m.data, &r); err != nil {
		return err
	}
	_, err := s.writeRecord(ctx, at, gone, id, record{Event: r.Event, Received: r.Received, By: s.instance, Also: r.Also, Moved: r.Moved}, m.seq)
	if errors.Is(err, errConflict) {
		return nil // there is a newer record, which the next round looks at
	}
	if err == nil {
		s.forgetRecords(ctx, at, []uint64{m.seq})
	}
	return err
}
