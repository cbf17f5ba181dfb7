package nats

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// trackTrim is the number of tasks that a round of maintenance drops at most.
const trackTrim = 10_000

// Track stores tasks whose final events have not come.
func (s *store) Track(ctx context.Context, tasks ...inbox.Task) (added int, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	if err := inbox.CheckTasks(tasks); err != nil || len(tasks) == 0 {
		return 0, err
	}
	if err := s.health.problem(); err != nil {
		return 0, err
	}
	if _, err := s.startTracking(bounded, true); err != nil {
		return 0, s.failed(ctx, err)
	}
	if _, err := s.awaitTasks(bounded); err != nil {
		return 0, s.failed(ctx, err)
	}
	n, err := s.trackAll(bounded, tasks)
	if err == nil {
		err = s.dropOldest(bounded, n+trimStep)
	}
	return n, s.failed(ctx, err)
}

// trackAll tracks tasks, and returns how many were new.
func (s *store) trackAll(ctx context.Context, tasks []inbox.Task) (added int, err error) {
	fresh, err := s.storeTasks(ctx, tasks)
	var count atomic.Int64
	var jobs errgroup.Group
	jobs.SetLimit(tasksAtOnce)
	for _, id := range fresh { // after they were stored: of a final event put meanwhile one of both is aware
		jobs.Go(func() error {
			final, err := s.finalStored(ctx, id)
			if err == nil && final {
				_, err = s.untrackOne(ctx, hashOf(id))
			} else if err == nil {
				count.Add(1)
			}
			return err
		})
	}
	err = errors.Join(err, jobs.Wait())
	return int(count.Load()), err
}

// storeTasks stores the first records of tasks in order, without waiting for each, and
// returns the ids of those that were not tracked.
func (s *store) storeTasks(ctx context.Context, tasks []inbox.Task) (fresh []string, err error) {
	type sent struct {
		task   *inbox.Task
		record taskRecord
		ack    jetstream.PubAckFuture
	}
	var all []sent
	for i := range tasks {
		task := &tasks[i]
		if _, tracked := s.tracking.mirror.get(hashOf(task.ID)); tracked {
			continue
		}
		r := s.firstRecord(task)
		data, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		subject := s.subjects.tracked(hashOf(task.ID))
		ack, err := s.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: data}, jetstream.WithExpectLastSequenceForSubject(0, subject))
		if err != nil {
			return nil, err
		}
		all = append(all, sent{task, r, ack})
	}
	var errs []error
	for _, one := range all {
		select {
		case <-ctx.Done():
			return fresh, errors.Join(append(errs, ctx.Err())...)
		case ack := <-one.ack.Ok():
			one.record.First = ack.Sequence
			s.tracking.mirror.apply(hashOf(one.task.ID), ack.Sequence, &one.record, true)
			fresh = append(fresh, one.task.ID)
		case err := <-one.ack.Err():
			var isFresh bool
			if err = publishError(err); errors.Is(err, errConflict) {
				isFresh, err = s.trackOne(ctx, one.task)
			}
			if isFresh {
				fresh = append(fresh, one.task.ID)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return fresh, errors.Join(errs...)
}

func (s *store) firstRecord(task *inbox.Task) taskRecord {
	r := taskRecord{ID: task.ID, Source: task.Source, Since: inbox.Micros(task.Since)}
	r.set(task, s.policy.Load(), time.Now())
	return r
}

// trackOne stores the first record of a task. It reports whether it was not tracked.
func (s *store) trackOne(ctx context.Context, task *inbox.Task) (fresh bool, err error) {
	h := hashOf(task.ID)
	if _, tracked := s.tracking.mirror.get(h); tracked {
		return false, nil
	}
	r := s.firstRecord(task)
	for after := uint64(0); ; {
		_, err := s.writeTask(ctx, h, &r, after)
		if !errors.Is(err, errConflict) {
			return err == nil, err
		}
		there, seq, err := s.readTask(ctx, h)
		if err != nil {
			return false, err
		}
		if there != nil { // or the answer to an earlier try was lost
			return false, nil
		}
		if err := awaitOther(ctx, seq == after); err != nil {
			return false, err
		}
		after = seq
	}
}

// untrackOne replaces the record of a task by an empty one. It reports whether it was
// tracked.
func (s *store) untrackOne(ctx context.Context, h taskHash) (was bool, err error) {
	e, known := s.tracking.mirror.get(h)
	for seq := e.seq; ; {
		if known {
			_, err := s.writeTask(ctx, h, nil, seq)
			if !errors.Is(err, errConflict) {
				return err == nil, err
			}
		}
		r, last, err := s.readTask(ctx, h)
		if err != nil {
			return false, err
		}
		if r == nil {
			s.tracking.mirror.apply(h, max(last, seq+1), nil, false)
			return false, nil
		}
		if err := awaitOther(ctx, known && last == seq); err != nil {
			return false, err
		}
		seq, known = last, true
	}
}

// awaitOther waits a moment if the record of another Caddy, with which there was a
// conflict, is just being stored.
func awaitOther(ctx context.Context, unseen bool) error {
	if !unseen {
		return nil
	}
	if !sleep.For(ctx, conflictWait) {
		return ctx.Err()
	}
	return nil
}

// Untrack forgets tasks.
func (s *store) Untrack(ctx context.Context, ids ...string) (removed int, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	if err := inbox.CheckTaskIDs(ids); err != nil || len(ids) == 0 {
		return 0, err
	}
	on, err := s.awaitTasks(bounded)
	if err != nil || !on {
		return 0, s.failed(ctx, err)
	}
	hashes := make([]taskHash, len(ids))
	for i, id := range ids {
		hashes[i] = hashOf(id)
	}
	n, err := s.untrackAll(bounded, hashes)
	return n, s.failed(ctx, err)
}

// untrackAll forgets tasks, and returns how many of them were tracked.
func (s *store) untrackAll(ctx context.Context, hashes []taskHash) (removed int, err error) {
	var count atomic.Int64
	var jobs errgroup.Group
	jobs.SetLimit(tasksAtOnce)
	seen := make(map[taskHash]bool, len(hashes))
	for _, h := range hashes {
		if seen[h] {
			continue
		}
		seen[h] = true
		jobs.Go(func() error {
			was, err := s.untrackOne(ctx, h)
			if was {
				count.Add(1)
			}
			return err
		})
	}
	err = jobs.Wait()
	return int(count.Load()), err
}

// dropOldest forgets up to max tasks beyond the policy's limit, those that were tracked
// first.
func (s *store) dropOldest(ctx context.Context, max int) error {
	over := min(max, s.tracking.mirror.len()-s.policy.Load().MaxTasks())
	if over <= 0 {
		return nil
	}
	var hashes []taskHash
	for _, e := range s.tracking.mirror.oldest(0, over) {
		hashes = append(hashes, e.hash)
	}
	n, err := s.untrackAll(ctx, hashes)
	s.tracking.dropped.Add(int64(n))
	return err
}

// trackEvent tracks the task of an event in progress before the event is stored. It
// reports whether it was not tracked. An error is no reason not to store the event, see
// trackLate.
func (s *store) trackEvent(ctx context.Context, e *inbox.Event) (fresh bool, err error) {
	task, ok := e.Tracked()
	if !ok {
		return false, nil
	}
	err = s.tryOnce(ctx, func(ctx context.Context) (err error) {
		if _, err = s.startTracking(ctx, true); err == nil {
			fresh, err = s.trackOne(ctx, &task)
		}
		if err == nil && fresh {
			err = s.dropOldest(ctx, trimStep)
		}
		return err
	})
	return fresh, err
}

// trackLate tracks the task of an event that was stored though the task could not be
// tracked before. It is tried for as long as there is time, since the servers may be
// electing a leader. After that the task is only one that Fotor is not asked for.
func (s *store) trackLate(ctx context.Context, e *inbox.Event, err error) {
	for errors.Is(err, errUnanswered) {
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
		err = s.tryOnce(ctx, s.inspectTasks) // it may be gone
		fresh := false
		if err == nil {
			fresh, err = s.trackEvent(ctx, e)
		}
		if err == nil && fresh {
			s.untrackIfFinal(ctx, e)
		}
	}
	if err != nil && !s.closed() {
		s.warnUntracked(err)
		s.health.inspectSoon()
	}
}

func (s *store) untrackIfFinal(ctx context.Context, e *inbox.Event) {
	final, err := s.finalStored(ctx, e.TaskID)
	if err == nil && final {
		_, err = s.untrackOne(ctx, hashOf(e.TaskID))
	}
	if err != nil {
		s.noteStillTracked(e, err)
	}
}

// noteStillTracked notes that a task could not be ended. Who leases it looks for its final
// event.
func (s *store) noteStillTracked(e *inbox.Event, err error) {
	s.health.inspectSoon()
	s.log.Debug("a task whose final event is stored is still tracked", zap.String("task", e.TaskID), zap.Error(err))
}

// warnUntracked logs that tasks are not tracked, rarely.
func (s *store) warnUntracked(err error) {
	t := &s.tracking
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.logged) < logAgain {
		return
	}
	t.logged = time.Now()
	s.log.Error("tasks cannot be tracked: Fotor is not asked for them if their callbacks do not come", zap.Error(err))
}

// followEvent sees to the task of an event that was stored, or is a duplicate. fresh says
// that it was tracked just before.
func (s *store) followEvent(ctx context.Context, e *inbox.Event, fresh bool, p *pendingPut, duplicateOf string) {
	if !s.tracking.on.Load() {
		return
	}
	h, ended := hashOf(e.TaskID), e.Status.Final()
	switch {
	case ended:
		s.tracking.finals.add(h)
		if _, tracked := s.tracking.mirror.get(h); !tracked {
			return // if it is tracked elsewhere, the mirror will tell
		}
	case !fresh, duplicateOf == "" && !p.final:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sideWorkTimeout)
	defer cancel()
	if !ended && duplicateOf != "" {
		s.untrackIfFinal(ctx, e)
	} else if _, err := s.untrackOne(ctx, h); err != nil {
		s.noteStillTracked(e, err)
	}
}

// tendTasks finds the stream of tasks if another Caddy has made it, and drops tasks beyond a
// limit that was lowered. Its failure keeps nothing else from being done.
func (s *store) tendTasks(ctx context.Context) {
	on, err := s.startTracking(ctx, false)
	if err == nil && on {
		err = s.dropOldest(ctx, trackTrim)
	}
	if err != nil && !isUnreachable(err) && !s.closed() {
		s.warnUntracked(err)
	}
}

// inspectTasks makes the stream of tasks anew if somebody has removed it, and tells if it
// was changed.
func (s *store) inspectTasks(ctx context.Context) error {
	if !s.tracking.on.Load() {
		return nil
	}
	want, m := s.tasksConfig(), &s.tracking.mirror
	there, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.log.Error("the stream of tracked tasks is gone and is made anew: Fotor is not asked for these tasks any more",
			zap.String("name", want.Name), zap.Int("tasks", m.len()))
		if err = s.ensureStream(ctx, want); err == nil {
			there, err = s.js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return err
	}
	if !there.CachedInfo().Created.Equal(m.madeAt()) {
		s.remirror()
	}
	return checkStream(there.CachedInfo().Config, want, true)
}

// remirror makes the mirror read all records again.
func (s *store) remirror() {
	s.tracking.mu.Lock()
	defer s.tracking.mu.Unlock()
	if s.tracking.restart != nil {
		s.tracking.restart()
	}
}

// Interface guard
var _ inbox.Tracker = (*store)(nil)
