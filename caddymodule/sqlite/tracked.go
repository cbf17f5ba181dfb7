package sqlite

import (
	"crypto/sha256"
	"database/sql/driver"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// trackedSchema adds the tasks whose final events have not come. An index that finds them
// by their ids would have random keys: taskNumbers does so in memory.
var trackedSchema = migration{
	`CREATE TABLE tracked (
		n        INTEGER PRIMARY KEY, -- in the order in which they were tracked
		task_id  TEXT    NOT NULL,
		source   INTEGER NOT NULL,    -- 0 callback, 1 submission, 2 operator
		since    INTEGER NOT NULL,    -- times are in µs since 1970
		due      INTEGER NOT NULL,
		asked    INTEGER NOT NULL,
		asked_at INTEGER NOT NULL,
		answer   TEXT    NOT NULL
	) STRICT`,
	`CREATE INDEX tracked_due ON tracked (due)`,
	`CREATE INDEX tracked_new ON tracked (due) WHERE asked = 0`,
}

// trackedOverhead is about the size of a tracked task in the file without its texts, in
// bytes: its row and its entries in two indexes.
const trackedOverhead = 80

// trackedTrim is the number of tasks that one step of maintenance drops.
const trackedTrim = 256

// taskHash identifies a task: the first half of the SHA-256 of its id.
type taskHash [sha256.Size / 2]byte

func hashOf(taskID string) taskHash {
	sum := sha256.Sum256([]byte(taskID))
	return taskHash(sum[:len(taskHash{})])
}

// taskNumbers finds the tracked tasks. It takes about 50 bytes for each. Only the writer
// changes it.
type taskNumbers struct {
	mu      sync.RWMutex
	byHash  map[taskHash]int64
	count   atomic.Int64 // for readers that need no number
	next    int64        // the number of the next task; only the writer uses it
	dropped atomic.Int64
}

// get returns the number of a task, 0 if it is not tracked.
func (x *taskNumbers) get(h taskHash) int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byHash[h]
}

// load reads the numbers from the file.
func (x *taskNumbers) load(c *conn) error {
	x.byHash, x.next = make(map[taskHash]int64), 1
	err := c.query(`SELECT n, task_id FROM tracked ORDER BY n`, func(row []driver.Value) error {
		n := integer(row[0])
		x.byHash[hashOf(text(row[1]))], x.next = n, n+1
		return nil
	})
	x.count.Store(int64(len(x.byHash)))
	return err
}

// trackedChange is what a transaction changes of the tracked tasks.
type trackedChange struct {
	numbers map[taskHash]int64 // 0 if the task is not tracked any more
	count   int64              // tasks then
	next    int64
	dropped int64
	ended   []int64 // leases
}

// tracking returns the changes, which it begins.
func (t *tx) tracking() *trackedChange {
	if t.tracked == nil {
		t.tracked = &trackedChange{
			numbers: make(map[taskHash]int64), count: t.w.numbers.count.Load(), next: t.w.numbers.next,
		}
	}
	return t.tracked
}

// tracksNothing reports whether no task is tracked.
func (t *tx) tracksNothing() bool {
	return t.tracked == nil && t.w.numbers.count.Load() == 0 || t.tracked != nil && t.tracked.count == 0
}

// numberOf returns the number of a task, 0 if it is not tracked.
func (t *tx) numberOf(h taskHash) int64 {
	if t.tracked != nil {
		if n, ok := t.tracked.numbers[h]; ok {
			return n
		}
	}
	return t.w.numbers.get(h)
}

const insertTracked = `INSERT INTO tracked (n, task_id, source, since, due, asked, asked_at, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

// track stores a task that is not tracked yet.
func (t *tx) track(h taskHash, task *inbox.Task) error {
	c := t.tracking()
	n := c.next
	due := t.w.policy.Load().TaskDue(task.Due, t.w.now())
	err := t.c.exec(insertTracked, n, task.ID, int64(task.Source), inbox.Micros(task.Since), inbox.Micros(due),
		int64(task.Asked), inbox.Micros(task.AskedAt), clip.Text(task.Answer, inbox.MaxReason))
	if err != nil {
		return err
	}
	c.next++
	c.count++
	c.numbers[h] = n
	return nil
}

// untrack forgets a task. It reports whether it was tracked.
func (t *tx) untrack(h taskHash) (bool, error) {
	n := t.numberOf(h)
	if n == 0 {
		return false, nil
	}
	c := t.tracking()
	c.count--
	c.numbers[h] = 0
	c.ended = append(c.ended, n)
	return true, t.c.exec(`DELETE FROM tracked WHERE n = ?`, n)
}

// untrackFinal forgets the task of a final event.
func (t *tx) untrackFinal(taskID string) error {
	if t.tracksNothing() {
		return nil
	}
	_, err := t.untrack(hashOf(taskID))
	return err
}

// dropOldest forgets up to max tasks beyond the policy's limit, those that were tracked
// first.
func (t *tx) dropOldest(max int64) error {
	over := min(max, t.tracking().count-int64(t.w.policy.Load().MaxTasks()))
	if over <= 0 {
		return nil
	}
	var hashes []taskHash
	err := t.c.query(`SELECT task_id FROM tracked ORDER BY n LIMIT +?`, func(row []driver.Value) error {
		hashes = append(hashes, hashOf(text(row[0])))
		return nil
	}, over)
	if err != nil {
		return err
	}
	for _, h := range hashes {
		if _, err := t.untrack(h); err != nil {
			return err
		}
	}
	t.tracked.dropped += int64(len(hashes))
	return nil
}

// publish updates the state in memory after a commit.
func (c *trackedChange) publish(s *store) {
	x := &s.numbers
	x.mu.Lock()
	for h, n := range c.numbers {
		if n == 0 {
			delete(x.byHash, h)
		} else {
			x.byHash[h] = n
		}
	}
	x.mu.Unlock()
	x.next = c.next
	x.count.Store(c.count)
	x.dropped.Add(c.dropped)
	s.taskLeases.end(c.ended)
}

// tasksOver reports whether more tasks are tracked than the policy allows.
func (w *writer) tasksOver() bool {
	return w.numbers.count.Load() > int64(w.policy.Load().MaxTasks())
}

func trimTracked(w *writer) error {
	return w.transact(func(t *tx) error { return t.dropOldest(trackedTrim) })
}

// hasFinalEvent reports whether a final event of the task is stored.
func (t *tx) hasFinalEvent(taskID string) (bool, error) {
	events, b, err := t.task(int64(inbox.TaskKey(taskID)), taskID) //nolint:gosec // the same 64 bits
	if err != nil {
		return false, err
	}
	return t.anyFinal(events, b)
}

// anyFinal reports whether any event of a task is final. They are in b if they are many.
func (t *tx) anyFinal(events []taskEvent, b *bigTask) (bool, error) {
	if b == nil {
		return slices.ContainsFunc(events, func(e taskEvent) bool { return e.final }), nil
	}
	if b.final == 0 {
		return false, nil
	}
	n, err := t.c.number(`SELECT 1 FROM events WHERE seq = ?`, b.final) // it may have been removed
	return n != 0, err
}

// taskSize returns about the size of a task in the file, in bytes.
func taskSize(task *inbox.Task) int {
	return trackedOverhead + len(task.ID) + min(len(task.Answer), inbox.MaxReason)
}
