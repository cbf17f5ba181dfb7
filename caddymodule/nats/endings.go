package nats

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"
)

// maxEndings bounds the deliveries of which it is remembered that they ended.
const maxEndings = 50_000

// endings remembers which deliveries of events with several destinations this inbox has
// ended lately, so that whoever ends the next one of an event need not ask. They may be
// pending again: then there is a record of the event as a whole, and what is remembered
// leads to nothing.
type endings struct {
	mu         sync.Mutex
	young, old map[ending]end // old is forgotten when young is full
}

type ending struct {
	event       uint64
	destination string
}

func (r *endings) add(event uint64, destination string, n end) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= maxEndings/2 {
		r.young, r.old = map[ending]end{}, r.young
	}
	r.young[ending{event, destination}] = n
}

func (r *endings) get(event uint64, destination string) (n end, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok = r.young[ending{event, destination}]; !ok {
		n, ok = r.old[ending{event, destination}]
	}
	return n, ok
}

func (r *endings) forget(event uint64, destinations []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range destinations {
		delete(r.young, ending{event, name})
		delete(r.old, ending{event, name})
	}
}

// ended is an event of which one delivery has just ended.
type ended struct {
	*member
	ends []end
	open bool // another delivery has not ended
}

// concludeAll is concludeMember for the ends of many events, which this inbox has just
// recorded.
func (d *destination) concludeAll(ctx context.Context, members []*member) error {
	all := make([]*ended, 0, len(members))
	for _, m := range members {
		n := end{kind: m.kind, settled: m.rec.Settled, last: m.last}
		d.endings.add(m.seq, d.name, n)
		all = append(all, &ended{member: m, ends: []end{n}})
	}
	for name, some := range d.undecided(all) {
		other, err := d.destinationNamed(ctx, name)
		if err != nil {
			return err
		}
		if other == nil {
			continue
		}
		if err := other.addEnds(ctx, some); err != nil {
			return err
		}
	}
	var jobs errgroup.Group
	jobs.SetLimit(settleAtOnce)
	for _, e := range all {
		switch {
		case !e.stored.several:
			jobs.Go(func() error { return d.conclude(ctx, e.stored) })
		case !e.open:
			jobs.Go(func() error { return d.concludeFirst(ctx, e) })
		}
	}
	return jobs.Wait()
}

// undecided returns, by the names of other destinations, the events of which it is not
// known how their deliveries there stand. One that is leased here has not ended: whoever
// settles that lease looks at the others, see heldLease.blind.
func (d *destination) undecided(all []*ended) map[string][]*ended {
	ask := map[string][]*ended{}
	for _, e := range all {
		var names []string
		for _, name := range e.to {
			if name == d.name {
				continue
			}
			if n, ok := d.endings.get(e.seq, name); ok {
				e.ends = append(e.ends, n) // its lease may just be being settled
				continue
			}
			names = append(names, name)
			q := d.queueNamed(name)
			e.open = e.open || q != nil && q.leaser.willLook(e.ID)
		}
		if e.open || !e.stored.several {
			continue
		}
		for _, name := range names {
			ask[name] = append(ask[name], e)
		}
	}
	return ask
}

// addEnds finds out how the deliveries of events to the destination stand. That one has
// not ended is only believed of the leader of the stream: a replica may not have the
// record yet of a Caddy that has just ended it and does not see the end here.
func (d *destination) addEnds(ctx context.Context, all []*ended) error {
	var events []*stored
	var asked []*ended
	for _, e := range all {
		if !e.open {
			events, asked = append(events, e.stored), append(asked, e)
		}
	}
	if len(events) == 0 {
		return nil
	}
	members, err := d.membersOf(ctx, events)
	if err != nil {
		return err
	}
	var jobs errgroup.Group
	jobs.SetLimit(settleAtOnce)
	for i, m := range members {
		n := end{kind: m.kind, settled: m.rec.Settled, absent: m.absent}
		switch {
		case n.ended() && !m.newer:
			asked[i].ends = append(asked[i].ends, n)
		case d.current.Load().replicas == 1 && !m.newer:
			asked[i].open = true
		default:
			jobs.Go(func() error {
				n, err := d.endAt(ctx, m.stored)
				asked[i].ends, asked[i].open = append(asked[i].ends, n), !n.ended()
				return err
			})
		}
	}
	return jobs.Wait()
}

// concludeFirst writes down the end of an event of which nobody has written before.
func (d *destination) concludeFirst(ctx context.Context, e *ended) error {
	rec := wholeRecord(e.stored, e.to)
	k := summarize(e.ends, &rec)
	rec.By = d.instance
	_, err := d.writeRecord(ctx, d.subjects.all(), k, e.ID, rec, 0)
	if errors.Is(err, errConflict) {
		err = d.conclude(ctx, e.stored)
	}
	if err == nil {
		d.endings.forget(e.seq, e.to)
	}
	return err
}
