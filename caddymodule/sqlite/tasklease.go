package sqlite

import (
	"context"
	"database/sql/driver"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// taskLeases are the leases of tracked tasks, in memory only as those of events.
//
// A task is read and leased under the lock, and its lease ends under it after the commit
// that changes it: so a task is never leased as it was before.
type taskLeases struct {
	mu   sync.Mutex
	held map[int64]taskLease // by the number of the task
	last int64               // the last reference
}

type taskLease struct {
	ref   int64
	until time.Time // with a monotonic time, so that clocks do not matter
}

// holds reports whether the task is leased by that reference, or was last and the lease
// has ended by itself.
func (l *taskLeases) holds(n, ref int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.held[n]
	return ok && h.ref == ref
}

// end ends leases.
func (l *taskLeases) end(numbers []int64) {
	if len(numbers) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range numbers {
		delete(l.held, n)
	}
}

// keepEnded is how long a lease that has ended by itself is kept, since whoever has it may
// only be late.
const keepEnded = inbox.MaxTaskLease

// inForce returns how many leases are in force, and forgets those that ended long ago.
func (l *taskLeases) inForce(now time.Time) (n int) {
	for number, h := range l.held {
		switch {
		case now.Before(h.until):
			n++
		case now.Sub(h.until) > keepEnded:
			delete(l.held, number)
		}
	}
	return n
}

// lease leases a task unless that is leased.
func (l *taskLeases) lease(n int64, now time.Time, length time.Duration) (ref int64, ok bool) {
	if h, held := l.held[n]; held && now.Before(h.until) {
		return 0, false
	}
	if l.held == nil {
		l.held = make(map[int64]taskLease)
	}
	l.last++
	l.held[n] = taskLease{l.last, now.Add(length)}
	return l.last, true
}

const (
	trackedColumns = `SELECT n, task_id, source, since, due, asked, asked_at, answer FROM tracked `
	dueTracked     = trackedColumns + `WHERE due <= ? ORDER BY due, n LIMIT +?`
	newTracked     = trackedColumns + `WHERE asked = 0 AND due <= ? ORDER BY due DESC, n DESC LIMIT +?`
)

// scanTask reads trackedColumns.
func scanTask(row []driver.Value) (n int64, task inbox.Task) {
	return integer(row[0]), inbox.Task{
		ID:      text(row[1]),
		Source:  inbox.TaskSource(integer(row[2])), //nolint:gosec // as it was stored
		Since:   inbox.FromMicros(integer(row[3])),
		Due:     inbox.FromMicros(integer(row[4])),
		Asked:   int(integer(row[5])),
		AskedAt: inbox.FromMicros(integer(row[6])),
		Answer:  text(row[7]),
	}
}

// LeaseTasks leases tasks that are due.
func (s *store) LeaseTasks(ctx context.Context, w inbox.TaskWant) (tasks []inbox.Task, err error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	if err := s.Broken(); err != nil {
		return nil, s.errClosed() // nothing could be settled
	}
	if err := s.bringTasksForward(ctx); err != nil {
		return nil, err
	}
	if s.numbers.count.Load() == 0 {
		return nil, ctx.Err()
	}
	err = s.read(ctx, func(c *conn) error {
		tasks, err = s.leaseTasks(c, w)
		return err
	})
	return tasks, err
}

// bringTasksForward sees to tasks that are due so late that their time must come from a
// wrong clock or a longer Policy.MaxTaskWait.
func (s *store) bringTasksForward(ctx context.Context) error {
	var last int64
	err := s.read(ctx, func(c *conn) (err error) {
		if s.numbers.count.Load() > 0 {
			last, err = c.number(lastDueTask)
		}
		return err
	})
	if err != nil || !s.policy.Load().TaskTooLate(inbox.FromMicros(last), s.now()) {
		return err
	}
	return s.submit(&bringTasksForward{request: newRequest(ctx)})
}

func (s *store) leaseTasks(c *conn, w inbox.TaskWant) (tasks []inbox.Task, err error) {
	l := &s.taskLeases
	l.mu.Lock()
	defer l.mu.Unlock()
	now := s.now()
	length, leased := w.Length(now), l.inForce(now)
	take := func(query string, max int) error {
		if max == 0 {
			return nil
		}
		left := max
		return c.query(query, func(row []driver.Value) error {
			n, task := scanTask(row)
			if left == 0 {
				return nil
			}
			if ref, ok := l.lease(n, now, length); ok {
				task.Ref = ref
				tasks = append(tasks, task)
				left--
			}
			return nil
		}, now.UnixMicro(), int64(leased+len(tasks)+max))
	}
	if err = take(newTracked, w.Newest); err == nil {
		err = take(dueTracked, w.Max-len(tasks))
	}
	return tasks, err
}

const (
	pageNewest = trackedColumns + `WHERE n < ? ORDER BY n DESC LIMIT +?`
	pageOldest = trackedColumns + `WHERE n > ? ORDER BY n LIMIT +?`
)

// Tasks lists the tracked tasks.
func (s *store) Tasks(ctx context.Context, p inbox.Page) (tasks []inbox.Task, next string, err error) {
	past, limit, err := p.Start()
	if err != nil {
		return nil, "", err
	}
	query := pageNewest
	if p.OldestFirst {
		query = pageOldest
	}
	err = s.read(ctx, func(c *conn) error {
		var last int64
		return c.query(query, func(row []driver.Value) error {
			if len(tasks) == limit {
				next = p.Next(last)
				return nil
			}
			n, task := scanTask(row)
			tasks, last = append(tasks, task), n
			return ctx.Err()
		}, past, int64(limit)+1)
	})
	return tasks, next, err
}

// Task returns a tracked task.
func (s *store) Task(ctx context.Context, id string) (task inbox.Task, err error) {
	n := s.numbers.get(hashOf(id))
	err = s.read(ctx, func(c *conn) error {
		return c.query(trackedColumns+`WHERE n = ?`, func(row []driver.Value) error {
			_, task = scanTask(row)
			return nil
		}, n)
	})
	if err == nil && task.ID != id || n == 0 && err == nil {
		return inbox.Task{}, inbox.TaskNotFound(id)
	}
	return task, err
}

const (
	countDueTasks = `SELECT count(*) FROM tracked WHERE due <= ?`
	oldestTask    = `SELECT since FROM tracked ORDER BY n LIMIT 1`
)

// TaskStats returns a summary of the tracked tasks.
func (s *store) TaskStats(ctx context.Context) (stats inbox.TaskStats, err error) {
	if err := s.Broken(); err != nil {
		return stats, err
	}
	stats.Waiting, stats.Dropped = s.numbers.count.Load(), s.numbers.dropped.Load()
	err = s.read(ctx, func(c *conn) error {
		if stats.Waiting == 0 {
			return nil
		}
		oldest, err := c.number(oldestTask)
		if err == nil {
			stats.Oldest = inbox.FromMicros(oldest)
			stats.Due, err = c.number(countDueTasks, s.now().UnixMicro())
		}
		return err
	})
	return stats, err
}
