package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// checkpointPasses bounds how often a checkpoint repeats to copy what was
	// written meanwhile.
	checkpointPasses = 3

	// checkpointRest is the number of pages left for the writer to copy, fewer
	// than a batch writes.
	checkpointRest = 64

	// logOverrun is how far the log may exceed its limit, as a multiple of it,
	// before the writer waits for readers in order to restart it.
	logOverrun = 4

	// logKept is how much of the log's file is kept for reuse, as a multiple of
	// its limit.
	logKept = 2

	// countEvery is the number of transactions after which the frames in the
	// log are counted.
	countEvery = 8

	// logShare bounds the log: it may take this fraction of the size limit.
	logShare = 16
)

// checkpointer copies the write-ahead log into the file, on a connection of its
// own, so that commits need not wait for it. The log can only restart once all
// of it is copied and nobody reads it; the writer does that, see tidyLog.
type checkpointer struct {
	store *store
	conn  *conn
	start chan chan struct{}
	ended chan struct{} // closed when the last checkpoint has ended; only the writer uses it
	done  chan struct{}
	state atomic.Int32

	failureLogged atomic.Int64 // when a failure was last logged, in ns; 0 if none was
}

// The states of a checkpoint.
const (
	logGrows   int32 = iota // nothing to do
	logCopying              // the checkpointer is at work
	logCopied               // the writer may finish
)

func newCheckpointer(s *store, c *conn) *checkpointer {
	k := &checkpointer{store: s, conn: c, start: make(chan chan struct{}, 1), done: make(chan struct{})}
	go k.run()
	return k
}

func (k *checkpointer) run() {
	defer close(k.done)
	for ended := range k.start {
		for range checkpointPasses {
			frames, copied, err := checkpoint(k.conn, `PRAGMA wal_checkpoint(PASSIVE)`)
			if err != nil {
				k.logFailure(err)
				k.store.noteDamage(err)
				break
			}
			if frames-copied <= checkpointRest {
				break
			}
		}
		k.state.Store(logCopied)
		close(ended)
	}
}

// logFailure logs that a checkpoint failed, as rarely as failures of the writer: on a disk
// that fails, each transaction tries again.
func (k *checkpointer) logFailure(err error) {
	now := k.store.now()
	last := k.failureLogged.Load()
	if last != 0 && now.Sub(time.Unix(0, last)).Abs() < failureLogPause || !k.failureLogged.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	k.store.log.Error("checkpoint failed", zap.String("path", k.store.path), zap.Error(err))
}

// stop waits for the checkpoint under way and closes the connection.
func (k *checkpointer) stop() {
	close(k.start)
	<-k.done
	if err := k.conn.close(); err != nil {
		k.store.log.Error("closing the checkpoint's connection failed", zap.String("path", k.store.path), zap.Error(err))
	}
}

// checkpoint runs the pragma. It returns the number of pages in the log, and
// how many of them were copied to the file.
func checkpoint(c *conn, pragma string) (frames, copied int64, err error) {
	err = c.query(pragma, func(row []driver.Value) error {
		frames, copied = integer(row[1]), integer(row[2])
		return nil
	})
	return frames, copied, err
}

// begin begins a checkpoint.
func (k *checkpointer) begin() {
	k.ended = make(chan struct{})
	k.state.Store(logCopying)
	k.start <- k.ended
}

// tidyLog keeps the log short. The writer calls it between commits. It waits only if
// the log takes room from events, or grows faster than it is copied.
func (w *writer) tidyLog() {
	k := w.checkpoint
	hurry := w.size.log > w.keptLog() && w.nearlyFull() || w.size.log-w.size.waited > logOverrun*w.logBytes()
	if k.state.Load() == logGrows && (hurry || w.size.logStuck || w.logIsLong()) {
		if w.checkLog(false, true) != nil {
			return
		}
		w.size.logStuck = false
		k.begin()
	}
	if hurry {
		<-k.ended
		w.size.waited = w.size.log // if somebody reads for long, not with each transaction
	}
	if k.state.Load() == logCopied && w.checkLog(false, true) == nil {
		w.restartLog(hurry)
	}
}

// logIsLong reports whether the log is to be copied.
func (w *writer) logIsLong() bool {
	if !w.logMayBeLong() {
		return false
	}
	frames, _, err := checkpoint(w.conn, `PRAGMA wal_checkpoint(NOOP)`)
	if err != nil {
		w.log.Error("reading the log's size failed", zap.String("path", w.path), zap.Error(err))
		return false
	}
	return frames >= w.logBytes()/w.size.page
}

// logMayBeLong reports whether to count the frames in the log. Counting after
// every transaction would cost more than a small transaction.
func (w *writer) logMayBeLong() bool {
	if w.size.since < countEvery && w.size.grown < w.logBytes()/2 {
		return false
	}
	w.size.since, w.size.grown = 0, 0
	return true
}

// logBytes returns the size of the log in bytes at which it is copied. It is
// smaller if the size limit is small.
func (w *writer) logBytes() int64 {
	return min(w.limits.logFrames*pageSize, w.maxSize.Load()/logShare)
}

// keptLog returns the size of the log's file in bytes beyond which it is shortened.
func (w *writer) keptLog() int64 { return logKept * w.logBytes() }

// restartLog copies the rest of the log and restarts it, unless somebody is
// reading. In a hurry and beyond the overrun it waits for the readers, and new
// readers wait for it.
func (w *writer) restartLog(hurry bool) {
	if !w.gate.TryLock() {
		if !hurry && w.size.log < logOverrun*w.logBytes() {
			return
		}
		w.gate.Lock()
	}
	defer w.gate.Unlock()
	// The log file is kept for reuse, except what exceeds its limit. Another
	// process that reads, such as a backup, is not waited for: the log grows
	// meanwhile, and commits go on.
	err := setUp(w.conn, []string{
		fmt.Sprintf(`PRAGMA journal_size_limit = %d`, w.keptLog()),
		`PRAGMA busy_timeout = 0`,
	})
	frames, copied, cerr := checkpoint(w.conn, `PRAGMA wal_checkpoint(RESTART)`)
	err = errors.Join(err, cerr, setUp(w.conn, []string{busyTimeout}), w.overwrites.refresh(w, frames == copied))
	if err == nil && frames == copied && w.size.log > w.keptLog() {
		// SQLite shortens the file when the next transaction writes a page. That of
		// a refused event writes none, so the log would keep the inbox full.
		err = w.transact((*tx).touch)
	}
	if err != nil {
		w.checkpoint.logFailure(err)
		w.noteDamage(err)
	}
	w.checkpoint.state.Store(logGrows)
}
