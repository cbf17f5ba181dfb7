package sqlite

import (
	"context"
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// edit is the request to change one event.
type edit struct {
	request
	id     inbox.RawID
	name   string
	change func(t *tx, e *edited) (refusal, failure error)
}

// edited is the event to be changed.
type edited struct {
	taskEvent // with its state at the default destination
	taskID    string
	route     route
}

func (e *edited) key() int64 { return keyOf(e.id) }

// Replay makes deliveries of an event pending again.
func (s *store) Replay(ctx context.Context, id, destination string) error {
	return s.edit(ctx, id, func(t *tx, e *edited) (refusal, failure error) {
		set := e.route.open | e.route.dead
		if destination != "" {
			q := t.w.queues.find(destination)
			if q == nil || !e.to.has(q) {
				return noDelivery(destination), nil
			}
			set = q.bit()
		} else if set == 0 {
			set = e.to
		}
		if set == 0 {
			return fmt.Errorf("%w: it is skipped, it goes to no destination", inbox.ErrState), nil
		}
		return nil, t.replayAt(set, e)
	})
}

func noDelivery(destination string) error {
	return fmt.Errorf("it does not go to the destination %.80q: %w", destination, inbox.ErrNotFound)
}

// Move gives an event a pending delivery to another destination.
func (s *store) Move(ctx context.Context, id, from, to string) error {
	return s.edit(ctx, id, func(t *tx, e *edited) (refusal, failure error) {
		q := t.destination(to)
		if q == nil {
			return fmt.Errorf("the destination %.80q has no queue: %w", to, inbox.ErrNotFound), nil
		}
		var leaves *queue
		if from != "" {
			leaves = t.w.queues.find(from)
			if leaves == nil || !e.to.has(leaves) {
				return noDelivery(from), nil
			}
		}
		if leaves == q || leaves != nil && !(e.route.open|e.route.dead).has(leaves) {
			leaves = nil
		}
		if leaves != nil && e.route.open.has(leaves) && !t.revoke(leaves, e.seq) {
			return underWay(leaves), nil
		}
		return nil, t.moveTo(q, leaves, e)
	})
}

func underWay(q *queue) error {
	return fmt.Errorf("%w: it is being delivered to %s just now", inbox.ErrState, q.name)
}

// Purge removes deliveries of an event, and the event with its last one.
func (s *store) Purge(ctx context.Context, id, destination string) error {
	return s.edit(ctx, id, func(t *tx, e *edited) (refusal, failure error) {
		set := e.to
		if destination != "" {
			q := t.w.queues.find(destination)
			if q == nil || !e.to.has(q) {
				return noDelivery(destination), nil
			}
			set = q.bit()
		}
		leaves, err := t.queues(set)
		if err != nil {
			return nil, err
		}
		for _, q := range leaves {
			if e.route.open.has(q) && !t.revoke(q, e.seq) {
				return underWay(q), nil
			}
		}
		return nil, t.purge(leaves, e)
	})
}

func (s *store) edit(ctx context.Context, id string, change func(*tx, *edited) (refusal, failure error)) error {
	raw, err := inbox.LookUpID(id)
	if err != nil {
		return err
	}
	return s.submit(&edit{request: newRequest(ctx), id: raw, name: id, change: change})
}

func (r *edit) apply(t *tx) (err error) {
	r.err = nil
	e, err := t.findEdited(r.id)
	if err != nil {
		return err
	}
	if e == nil {
		r.err = fmt.Errorf("event %s: %w", r.name, inbox.ErrNotFound)
		return nil
	}
	refusal, err := r.change(t, e)
	if refusal != nil {
		r.err = fmt.Errorf("event %s: %w", r.name, refusal)
	}
	return err
}

func (r *edit) grows() bool { return false }

// findEdited returns the event with the id, or nil.
func (t *tx) findEdited(id inbox.RawID) (*edited, error) {
	e, taskID, ok, err := t.find(id)
	if err != nil || !ok {
		return nil, err
	}
	r, err := t.route(e.seq)
	if err == nil && !r.stored {
		r, err = t.defaultRoute(e)
	}
	return &edited{taskEvent: e, taskID: taskID, route: r}, err
}

// defaultRoute returns what would be in routes of an event that goes to the default
// destination alone.
func (t *tx) defaultRoute(e taskEvent) (route, error) {
	settledAt, err := t.c.number(`SELECT settled_at FROM delivery WHERE seq = ?`, e.seq)
	return route{}.set(t.w.usual, e.state.public(), settledAt), err
}

// replaySooner makes a pending event due. If the event is leased, settling sets
// a new time.
const replaySooner = `UPDATE delivery$ SET due = 1 WHERE seq = ? AND due > 1`

// replayAt makes the deliveries to some destinations pending again.
func (t *tx) replayAt(set slots, e *edited) error {
	queues, err := t.queues(set)
	if err != nil {
		return err
	}
	for _, q := range queues {
		if err := t.replay(q, e); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) replay(q *queue, e *edited) error {
	there, err := t.at(q, e.taskEvent)
	if err != nil {
		return err
	}
	t.of(q).wake = true
	if !there.state.ended() {
		return t.c.exec(q.sql(replaySooner), e.seq)
	}
	if err := t.again(q, e.seq, ""); err != nil {
		return err
	}
	if err := t.changed(q, e.seq, there.state, false, ready); err != nil {
		return err
	}
	return t.rejoin(q, e)
}

// rejoin puts the event's task in order after the event became ready at a destination.
func (t *tx) rejoin(q *queue, e *edited) error {
	if b := t.w.tasks.get(e.key()); b != nil && b.taskID == e.taskID {
		b.at(q).join(e.seq, e.final)
		t.w.tasks.touch(b)
	}
	return t.orderTask(q, e.key(), e.taskID)
}

// moveTo gives the event a pending delivery to a destination, and takes another one from
// it unless that is nil.
func (t *tx) moveTo(q, leaves *queue, e *edited) error {
	if e.to.has(q) {
		if err := t.replay(q, e); err != nil {
			return err
		}
	} else if err := t.add(q, leaves, e); err != nil {
		return err
	}
	if leaves == nil {
		return nil
	}
	// The replay has changed the route.
	r, err := t.route(e.seq)
	if err != nil {
		return err
	}
	return t.leave(leaves, e, r)
}

// add gives the event a new delivery, which takes over the attempts of another one unless
// that is nil.
func (t *tx) add(q, leaves *queue, e *edited) error {
	if err := t.c.exec(q.sql(`INSERT INTO delivery$ (state, seq) VALUES (0, ?)`), e.seq); err != nil {
		return err
	}
	from := ""
	if leaves != nil {
		from = leaves.name
		if err := t.takeOver(q, leaves, e.seq); err != nil {
			return err
		}
	}
	if err := t.again(q, e.seq, from); err != nil {
		return err
	}
	if err := t.setRoute(e.seq, e.route, e.route.set(q, inbox.Pending, 0)); err != nil {
		return err
	}
	c := t.of(q)
	c.counters.count(ready, false, +1)
	c.wake = true
	c.becomesReady(e.seq)
	return t.rejoin(q, e)
}

// leave takes a delivery from an event that has others.
func (t *tx) leave(q *queue, e *edited, r route) error {
	there, err := t.at(q, e.taskEvent)
	if err != nil {
		return err
	}
	if err := t.removeDelivery(q, e.seq, there.state, there.fresh); err != nil {
		return err
	}
	if err := t.setRoute(e.seq, r, r.without(q)); err != nil {
		return err
	}
	return t.orderWaiting(q, e.key(), e.taskID)
}

// purge takes deliveries from an event, and removes the event if it has no others.
func (t *tx) purge(leaves []*queue, e *edited) error {
	var set slots
	for _, q := range leaves {
		set |= q.bit()
	}
	if set != e.to {
		return t.leave(leaves[0], e, e.route) // only one, or all, are purged at a time
	}
	for _, q := range leaves {
		there, err := t.at(q, e.taskEvent)
		if err == nil {
			err = t.removeDelivery(q, e.seq, there.state, there.fresh)
		}
		if err != nil {
			return err
		}
	}
	if err := t.removeEvent(e.seq, e.route.state(), e.route.stored); err != nil {
		return err
	}
	for _, q := range leaves {
		if err := t.orderWaiting(q, e.key(), e.taskID); err != nil {
			return err
		}
	}
	return nil
}
