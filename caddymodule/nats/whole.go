package nats

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// whole is an event with its deliveries.
type whole struct {
	*stored
	spread bool    // its deliveries are in the streams of their destinations
	sum    history // the record of the event as a whole, if it is spread
	parts  []part  // in the order of the destinations' names
}

// part is one delivery of an event.
type part struct {
	*destination
	*member
	redo bool // it is to become pending again, and has no record of that yet
}

func (p *part) state() inbox.State {
	if p.redo {
		return inbox.Pending
	}
	if p.kind == none && p.member.origin != nil {
		return p.member.origin.Kind.public()
	}
	return p.kind.public()
}

// leasedNow reports whether the delivery is leased, as far as that is known.
func (p *part) leasedNow() bool { return p.kind == leased || p.holds(p.ID) }

// part returns the delivery to a destination, nil if there is none.
func (w *whole) part(name string) *part {
	for i := range w.parts {
		if w.parts[i].name == name {
			return &w.parts[i]
		}
	}
	return nil
}

// removed reports whether the event is being removed.
func (w *whole) removed() bool {
	if w.spread {
		return w.sum.kind.beingRemoved()
	}
	return w.parts[0].kind.beingRemoved()
}

// newer reports whether a replica does not have the event as it is now.
func (w *whole) newer() bool {
	return w.spread && w.sum.newer || slices.ContainsFunc(w.parts, func(p part) bool { return p.newer })
}

// public returns the inbox.Record. In a list of one destination's events its progress is
// that of the delivery there.
func (w *whole) public(destination string, p *inbox.Policy, now time.Time) *inbox.Record {
	r := &inbox.Record{Event: w.Event}
	for _, part := range w.parts {
		d := part.delivery(part.name, part.member.origin, p, now)
		if part.redo {
			d.Progress = inbox.Progress{Attempts: d.Attempts, Last: d.Last}
		}
		r.Deliveries = append(r.Deliveries, d)
		if part.name == destination {
			r.Progress = d.Progress
		}
	}
	if destination == "" {
		r.Progress = inbox.Summarize(r.Deliveries)
	}
	return r
}

// findWhole returns the event with the id and its deliveries.
func (s *store) findWhole(ctx context.Context, id string) (*whole, error) {
	e, err := s.event(ctx, id)
	if err != nil {
		return nil, err
	}
	all, err := s.wholes(ctx, []*stored{e})
	switch {
	case err != nil:
		return nil, err
	case all[0].newer():
		return nil, errConflict
	case all[0].removed():
		return nil, notFound(id)
	}
	return all[0], nil
}

// wholes returns events with their deliveries.
func (s *store) wholes(ctx context.Context, events []*stored) ([]*whole, error) {
	members, err := s.home.membersOf(ctx, events)
	if err != nil {
		return nil, err
	}
	home := s.subjects.home()
	all := make([]*whole, len(events))
	var spread []*whole
	for i, e := range events {
		all[i] = &whole{stored: e}
		if members[i].at == home {
			all[i].parts = []part{{destination: s.home.destination, member: members[i]}}
		} else {
			all[i].spread = true
			spread = append(spread, all[i])
		}
	}
	if len(spread) == 0 {
		return all, nil
	}
	return all, s.addParts(ctx, spread)
}

// addParts completes events whose deliveries are in the streams of their destinations.
func (s *store) addParts(ctx context.Context, spread []*whole) error {
	if err := s.addSums(ctx, spread); err != nil {
		return err
	}
	byName := map[string][]*whole{}
	for _, w := range spread {
		for _, name := range namesOf(w.stored, &w.sum.rec) {
			byName[name] = append(byName[name], w)
		}
	}
	var mu sync.Mutex
	var jobs errgroup.Group
	for name, some := range byName {
		jobs.Go(func() error {
			d, err := s.destinationNamed(ctx, name)
			if err != nil || d == nil {
				return err
			}
			members, err := d.membersOf(ctx, storedOf(some))
			mu.Lock()
			defer mu.Unlock()
			for i, m := range members {
				last, redo := some[i].sum.rec.Redo[name]
				p := part{destination: d, member: m, redo: redo && m.last <= last}
				if !m.absent || p.redo {
					some[i].parts = append(some[i].parts, p)
				}
			}
			return err
		})
	}
	err := jobs.Wait()
	for _, w := range spread {
		slices.SortFunc(w.parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	}
	return err
}

// addSums adds the records of events as wholes.
func (s *store) addSums(ctx context.Context, spread []*whole) error {
	at := s.subjects.all()
	records, err := s.recordsByID(ctx, at, statesOfAll(at, storedOf(spread)))
	if err != nil {
		return err
	}
	for _, w := range spread {
		if w.sum, err = historyOf(w.stored, at, records[w.ID]); err != nil {
			return err
		}
	}
	return nil
}

func storedOf(all []*whole) []*stored {
	events := make([]*stored, len(all))
	for i, w := range all {
		events[i] = w.stored
	}
	return events
}

// withWhole calls f with an event and its deliveries. If the event is changed meanwhile, it
// looks and calls again, unless f may have changed some of several deliveries by then.
func (s *store) withWhole(ctx context.Context, id string, f func(context.Context, *whole) error) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if _, err := inbox.LookUpID(id); err != nil {
		return err
	}
	for wait := conflictWait; ; wait = min(2*wait, 50*time.Millisecond) {
		w, err := s.findWhole(bounded, id)
		if err == nil {
			err = f(bounded, w)
		}
		if !errors.Is(err, errConflict) {
			return s.failed(ctx, err)
		}
		if w != nil && w.spread || !sleep.For(bounded, wait) {
			return s.failed(ctx, wrongState(id))
		}
	}
}
