package nats

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// LeaseTasks leases tasks that are due.
func (s *store) LeaseTasks(ctx context.Context, w inbox.TaskWant) ([]inbox.Task, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := w.Check(); err != nil {
		return nil, err
	}
	on, err := s.awaitTasks(bounded)
	if err != nil || !on {
		return nil, s.failed(ctx, err)
	}
	select { // calls at the same time would choose the same tasks
	case s.tracking.leasing <- struct{}{}:
		defer func() { <-s.tracking.leasing }()
	case <-bounded.Done():
		return nil, s.failed(ctx, bounded.Err())
	}
	if err := s.bringTasksForward(bounded); err != nil {
		return nil, s.failed(ctx, err)
	}
	chosen := s.tracking.mirror.due(w, time.Now())
	leased := make([]inbox.Task, len(chosen))
	var jobs errgroup.Group
	jobs.SetLimit(tasksAtOnce)
	for i := range chosen {
		jobs.Go(func() (err error) {
			leased[i], err = s.leaseTask(bounded, &chosen[i], w.Length(time.Now()))
			return err
		})
	}
	err = jobs.Wait()
	var got []inbox.Task
	for i := range leased {
		if leased[i].Ref != 0 {
			got = append(got, leased[i])
		}
	}
	if len(got) > 0 {
		return got, nil // what failed is tried again the next time
	}
	return nil, s.failed(ctx, err)
}

// leaseTask leases a task. Its Ref is 0 if another Caddy was faster, or if it is tracked no
// more.
func (s *store) leaseTask(ctx context.Context, e *mirrored, length time.Duration) (task inbox.Task, err error) {
	r, seq, err := s.readTask(ctx, e.hash)
	if err != nil {
		return task, err
	}
	if r == nil {
		s.tracking.mirror.apply(e.hash, max(seq, e.seq+1), nil, false)
		return task, nil
	}
	if seq != e.seq {
		s.tracking.mirror.apply(e.hash, seq, r, false)
		return task, nil
	}
	final, err := s.finalStored(ctx, r.ID)
	if err == nil && final {
		_, err = s.untrackOne(ctx, e.hash)
	}
	if err != nil || final {
		return task, err
	}
	r.By, r.Lease = s.instance, length.Microseconds()
	seq, err = s.writeTask(ctx, e.hash, r, seq)
	switch {
	case errors.Is(err, errConflict):
		return task, nil
	case err != nil:
		return task, err
	}
	s.tracking.mu.Lock()
	s.tracking.held[e.hash] = heldTask{*r, seq}
	s.tracking.mu.Unlock()
	task = r.public()
	task.Ref = int64(seq) //nolint:gosec // a sequence is far below
	return task, nil
}

// lateTasks is the number of tasks that one call brings forward.
const lateTasks = 256

// bringTasksForward sees to tasks that are due so late that their time must come from a
// wrong clock or a longer Policy.MaxTaskWait.
func (s *store) bringTasksForward(ctx context.Context) error {
	now, p := time.Now(), s.policy.Load()
	if p.MaxTaskWait <= 0 {
		return nil
	}
	var jobs errgroup.Group
	jobs.SetLimit(tasksAtOnce)
	for _, e := range s.tracking.mirror.late(now.Add(p.MaxTaskWait+inbox.DueSlack).UnixMicro(), lateTasks) {
		jobs.Go(func() error {
			r, seq, err := s.readTask(ctx, e.hash)
			if err != nil || r == nil || seq != e.seq || e.leased(now) {
				return err
			}
			r.Due, r.By, r.Lease = now.Add(p.MaxTaskWait).UnixMicro(), "", 0
			if _, err = s.writeTask(ctx, e.hash, r, seq); errors.Is(err, errConflict) {
				err = nil
			}
			return err
		})
	}
	return jobs.Wait()
}

// SettleTasks ends leases of tasks.
func (s *store) SettleTasks(ctx context.Context, tasks ...inbox.Task) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := inbox.CheckTasks(tasks); err != nil {
		return err
	}
	var jobs errgroup.Group
	jobs.SetLimit(tasksAtOnce)
	for i := range tasks {
		jobs.Go(func() error { return s.settleTask(bounded, &tasks[i]) })
	}
	return s.failed(ctx, jobs.Wait())
}

func (s *store) settleTask(ctx context.Context, t *inbox.Task) error {
	h := hashOf(t.ID)
	s.tracking.mu.Lock()
	held, ok := s.tracking.held[h]
	s.tracking.mu.Unlock()
	if !ok || int64(held.seq) != t.Ref { //nolint:gosec // a sequence is far below
		return nil
	}
	r := held.record
	r.set(t, s.policy.Load(), time.Now())
	r.By, r.Lease = "", 0
	_, err := s.writeTask(ctx, h, &r, held.seq)
	if err != nil && !errors.Is(err, errConflict) {
		return err // it may be tried again
	}
	s.dropHeld(h, held.seq)
	return nil
}

func (s *store) dropHeld(h taskHash, seq uint64) {
	s.tracking.mu.Lock()
	defer s.tracking.mu.Unlock()
	if s.tracking.held[h].seq == seq {
		delete(s.tracking.held, h)
	}
}

// releaseTasks ends the leases of this inbox, which is being closed.
func (s *store) releaseTasks() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	s.tracking.mu.Lock()
	held := s.tracking.held
	s.tracking.held = nil
	s.tracking.mu.Unlock()
	var jobs errgroup.Group
	jobs.SetLimit(tasksAtOnce)
	for h, one := range held {
		jobs.Go(func() error {
			r := one.record
			r.By, r.Lease = "", 0
			_, err := s.writeTask(ctx, h, &r, one.seq)
			return err
		})
	}
	_ = jobs.Wait() // such a lease ends by itself
}

// Task returns a tracked task.
func (s *store) Task(ctx context.Context, id string) (inbox.Task, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return inbox.Task{}, err
	}
	defer cancel()
	on, err := s.startTracking(bounded, false)
	var r *taskRecord
	if on {
		r, _, err = s.readTask(bounded, hashOf(id))
	}
	switch {
	case err != nil:
		return inbox.Task{}, s.failed(ctx, err)
	case r == nil:
		return inbox.Task{}, inbox.TaskNotFound(id)
	}
	return r.public(), nil
}

// Tasks lists the tracked tasks.
func (s *store) Tasks(ctx context.Context, p inbox.Page) (tasks []inbox.Task, next string, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, "", err
	}
	defer cancel()
	past, limit, err := p.Start()
	if err != nil {
		return nil, "", err
	}
	on, err := s.awaitTasks(bounded)
	if err != nil || !on {
		return nil, "", s.failed(ctx, err)
	}
	list := s.tracking.mirror.newest
	if p.OldestFirst {
		list = s.tracking.mirror.oldest
	}
	chosen := list(uint64(past), limit+1)
	if len(chosen) > limit {
		chosen = chosen[:limit]
		next = p.Next(int64(chosen[limit-1].first)) //nolint:gosec // a sequence is far below
	}
	tasks, err = s.readTasks(bounded, chosen)
	if err != nil {
		return nil, "", s.failed(ctx, err)
	}
	return tasks, next, nil
}

// readTasks returns tasks as their records are, without those that are tracked no more.
func (s *store) readTasks(ctx context.Context, chosen []mirrored) ([]inbox.Task, error) {
	if len(chosen) == 0 {
		return nil, nil
	}
	subjects := make([]string, len(chosen))
	for i := range chosen {
		subjects[i] = s.subjects.tracked(chosen[i].hash)
	}
	messages, err := s.latest(ctx, s.subjects.tasks(), subjects...)
	if err != nil {
		return nil, err
	}
	found := make(map[taskHash]message, len(messages))
	for _, m := range messages {
		if h, ok := hashIn(m.subject); ok {
			found[h] = m
		}
	}
	tasks := make([]inbox.Task, 0, len(chosen))
	for _, e := range chosen {
		var r *taskRecord
		if m := found[e.hash]; m.seq >= e.seq {
			r, err = decodeTask(m)
		} else { // the replica that answered lags
			r, _, err = s.readTask(ctx, e.hash)
		}
		if err != nil {
			return nil, err
		}
		if r != nil {
			tasks = append(tasks, r.public())
		}
	}
	return tasks, nil
}

// TaskStats returns a summary of the tracked tasks.
func (s *store) TaskStats(ctx context.Context) (stats inbox.TaskStats, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return stats, err
	}
	defer cancel()
	on, err := s.awaitTasks(bounded)
	if err != nil || !on {
		return stats, s.failed(ctx, err)
	}
	m := &s.tracking.mirror
	stats.Waiting, stats.Due = m.count(time.Now())
	stats.Dropped = s.tracking.dropped.Load()
	if oldest := m.oldest(0, 1); len(oldest) > 0 {
		stats.Oldest = inbox.FromMicros(oldest[0].since)
	}
	return stats, nil
}
