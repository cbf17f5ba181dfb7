package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// edit is the request to change one event.
type edit struct {
	request
	id     inbox.RawID
	name   string
	change func(t *tx, e taskEvent, taskID string) (refusal, failure error)
}

// Replay makes an event pending again.
func (s *store) Replay(ctx context.Context, id, destination string) error {
	if err := onlyDefault(destination); err != nil {
		return err
	}
	return s.edit(ctx, id, (*tx).replay)
}

// Move makes an event pending again for a destination.
func (s *store) Move(ctx context.Context, id, from, to string) error {
	if err := errors.Join(onlyDefault(from), onlyDefault(to)); err != nil {
		return err
	}
	return s.edit(ctx, id, (*tx).replay)
}

// Purge removes an event.
func (s *store) Purge(ctx context.Context, id, destination string) error {
	if err := onlyDefault(destination); err != nil {
		return err
	}
	return s.edit(ctx, id, (*tx).purge)
}

func onlyDefault(destination string) error {
	if destination == "" || destination == inbox.DefaultDestination {
		return nil
	}
	return fmt.Errorf("destination %.80q: %w", destination, inbox.ErrNotFound)
}

// Queue returns the queue of the default destination.
func (s *store) Queue(_ context.Context, destination string) (inbox.Queue, error) {
	if err := onlyDefault(destination); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *store) edit(ctx context.Context, id string, change func(*tx, taskEvent, string) (error, error)) error {
	raw, err := inbox.LookUpID(id)
	if err != nil {
		return err
	}
	return s.submit(&edit{request: newRequest(ctx), id: raw, name: id, change: change})
}

func (r *edit) apply(t *tx) (err error) {
	r.err = nil
	e, taskID, ok, err := t.find(r.id)
	if err != nil {
		return err
	}
	if !ok {
		r.err = fmt.Errorf("event %s: %w", r.name, inbox.ErrNotFound)
		return nil
	}
	refusal, err := r.change(t, e, taskID)
	if refusal != nil {
		r.err = fmt.Errorf("event %s: %w", r.name, refusal)
	}
	return err
}

func (r *edit) grows() bool { return false }

const replayState = `UPDATE delivery SET state = 0, attempts = 0, due = 0, settled_at = 0,
	last_at = 0, last_duration = 0, last_status = 0, last_reason = '' WHERE seq = ?`

// replaySooner makes a pending event due. If the event is leased, settling sets
// a new time.
const replaySooner = `UPDATE delivery SET due = 1 WHERE seq = ? AND due > 1`

func (t *tx) replay(e taskEvent, taskID string) (refusal, failure error) {
	if !e.state.ended() {
		t.wake = true
		return nil, t.c.exec(replaySooner, e.seq)
	}
	if err := t.c.exec(replayState, e.seq); err != nil {
		return nil, err
	}
	if err := t.c.exec(`DELETE FROM attempts WHERE seq = ?`, e.seq); err != nil {
		return nil, err
	}
	t.count(e.state, false, -1)
	t.count(ready, false, +1)
	t.wake = true
	if b := t.w.tasks.get(keyOf(e.id)); b != nil && b.taskID == taskID {
		b.activate(e.seq)
		t.w.tasks.touch(b)
	}
	return nil, t.orderTask(keyOf(e.id), taskID)
}

func (t *tx) purge(e taskEvent, taskID string) (refusal, failure error) {
	if !e.state.ended() && !t.revoke(e.seq) {
		return fmt.Errorf("%w: it is being delivered just now", inbox.ErrState), nil
	}
	if err := t.remove(e.seq, e.state, e.fresh); err != nil {
		return nil, err
	}
	return nil, t.orderWaiting(keyOf(e.id), taskID)
}
