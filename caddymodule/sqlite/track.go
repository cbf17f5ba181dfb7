package sqlite

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// track is the request to track tasks.
type track struct {
	request
	tasks []inbox.Task
	added int
}

// Track stores tasks whose final events have not come.
func (s *store) Track(ctx context.Context, tasks ...inbox.Task) (added int, err error) {
	if err := inbox.CheckTasks(tasks); err != nil || len(tasks) == 0 {
		return 0, err
	}
	r := &track{request: newRequest(ctx), tasks: tasks}
	if err := s.submit(r); err != nil {
		return 0, err
	}
	return r.added, nil
}

func (r *track) apply(t *tx) error {
	r.err, r.added = nil, 0
	added, size := make(map[taskHash]*inbox.Task), 0
	var order []taskHash
	for i := range r.tasks {
		task := &r.tasks[i]
		h := hashOf(task.ID)
		if added[h] != nil || t.numberOf(h) != 0 {
			continue
		}
		final, err := t.hasFinalEvent(task.ID)
		if err != nil {
			return err
		}
		if !final {
			added[h], order = task, append(order, h)
			size += taskSize(task)
		}
	}
	if len(order) == 0 || !t.hasRoom(&r.request, size) {
		return nil
	}
	for _, h := range order {
		if err := t.track(h, added[h]); err != nil {
			return err
		}
	}
	r.added = len(order)
	return t.dropOldest(int64(r.added) + trimStep)
}

func (r *track) grows() bool { return true }

// readKeys returns the keys of tasks whose events apply looks for.
func (r *track) readKeys(w *writer, keys []int64) []int64 {
	for i := range r.tasks {
		key := int64(inbox.TaskKey(r.tasks[i].ID)) //nolint:gosec // the same 64 bits
		if w.mayHaveInTable(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// untrack is the request to forget tasks.
type untrack struct {
	request
	ids     []string
	removed int
}

// Untrack forgets tasks.
func (s *store) Untrack(ctx context.Context, ids ...string) (removed int, err error) {
	if err := inbox.CheckTaskIDs(ids); err != nil || len(ids) == 0 {
		return 0, err
	}
	r := &untrack{request: newRequest(ctx), ids: ids}
	if err := s.submit(r); err != nil {
		return 0, err
	}
	return r.removed, nil
}

func (r *untrack) apply(t *tx) error {
	r.err, r.removed = nil, 0
	for _, id := range r.ids {
		tracked, err := t.untrack(hashOf(id))
		if err != nil {
			return err
		}
		if tracked {
			r.removed++
		}
	}
	return nil
}

func (r *untrack) grows() bool { return false }

// settleTasks is the request to end leases of tasks.
type settleTasks struct {
	request
	tasks []inbox.Task
}

// SettleTasks ends leases of tasks.
func (s *store) SettleTasks(ctx context.Context, tasks ...inbox.Task) error {
	if err := inbox.CheckTasks(tasks); err != nil || len(tasks) == 0 {
		return err
	}
	return s.submit(&settleTasks{request: newRequest(ctx), tasks: tasks})
}

const settleTracked = `UPDATE tracked SET due = ?, asked = ?, asked_at = ?, answer = ? WHERE n = ?`

func (r *settleTasks) apply(t *tx) error {
	r.err = nil
	now, policy := t.w.now(), t.w.policy.Load()
	for i := range r.tasks {
		task := &r.tasks[i]
		n := t.numberOf(hashOf(task.ID))
		if n == 0 || !t.w.taskLeases.holds(n, task.Ref) {
			continue
		}
		err := t.c.exec(settleTracked, inbox.Micros(policy.TaskDue(task.Due, now)), int64(task.Asked),
			inbox.Micros(task.AskedAt), clip.Text(task.Answer, inbox.MaxReason), n)
		if err != nil {
			return err
		}
		c := t.tracking()
		c.ended = append(c.ended, n)
	}
	return nil
}

func (r *settleTasks) grows() bool { return false }

// bringTasksForward is the request to bring tasks forward that are due too late.
type bringTasksForward struct{ request }

const (
	lastDueTask = `SELECT due FROM tracked ORDER BY due DESC LIMIT 1`

	bringLateTasksForward = `UPDATE tracked SET due = ? WHERE n IN (
		SELECT n FROM tracked WHERE due > ? ORDER BY due DESC LIMIT +?)`
)

func (r *bringTasksForward) apply(t *tx) error {
	r.err = nil
	p := t.w.policy.Load()
	if p.MaxTaskWait == 0 {
		return nil
	}
	last := t.w.now().Add(p.MaxTaskWait).UnixMicro()
	return t.c.exec(bringLateTasksForward, last, last, int64(lateStep))
}

func (r *bringTasksForward) grows() bool { return false }

// Interface guard
var _ inbox.Tracker = (*store)(nil)
