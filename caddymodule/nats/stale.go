package nats

import (
	"context"
	"slices"
)

// staleAtOnce is how many records are compared with others in one request.
const staleAtOnce = 100

// forgetStale removes records of leases that a later record has replaced. A Caddy that
// died in between has left them, and they would be counted as pending.
func (s *store) forgetStale(ctx context.Context) error {
	others := s.destinations()
	places := make([]place, 0, 1+len(others))
	places = append(places, s.subjects.home())
	for _, d := range others {
		places = append(places, d.place())
	}
	for _, at := range places {
		leases, err := s.all(ctx, at.stream, at.ofKind(leased))
		if err != nil {
			return err
		}
		for some := range slices.Chunk(leases, staleAtOnce) {
			stale, err := s.replaced(ctx, at, some)
			if err != nil {
				return err
			}
			s.forgetRecords(ctx, at, stale)
		}
	}
	return nil
}

// replaced returns the sequences of those records that are not the last of their events.
func (s *store) replaced(ctx context.Context, at place, records []message) (stale []uint64, err error) {
	subjects := make([]string, len(records))
	for i, m := range records {
		subjects[i] = at.statesOf(idOf(m.subject))
	}
	all, err := s.latest(ctx, at.stream, subjects...)
	if err != nil {
		return nil, err
	}
	last := make(map[string]uint64, len(records))
	for _, m := range all {
		last[idOf(m.subject)] = max(last[idOf(m.subject)], m.seq)
	}
	for _, m := range records {
		if last[idOf(m.subject)] > m.seq {
			stale = append(stale, m.seq)
		}
	}
	return stale, nil
}
