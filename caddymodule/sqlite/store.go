package sqlite

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// limits are the sizes by which the inbox keeps its steps short and its memory
// bounded. They are fields so that tests can make them small.
type limits struct {
	batch        int           // ops in one transaction
	queue        int           // ops that wait for the writer
	indexEntries int           // entries of a generation of the index
	flushStep    int           // entries written to the index in one transaction
	retireStep   int64         // events looked at in one transaction for being too old
	sweepStep    int64         // rows of the index looked at in one transaction
	sweepMin     int64         // stale rows in the index before it is swept
	logFrames    int64         // pages in the write-ahead log before a checkpoint
	scan         int64         // events looked at for one page of a list
	keptAttempts int64         // records of failed attempts kept with an event
	reserve      int64         // bytes set aside for when the disk is full, at most
	lockWait     time.Duration // for a predecessor to close the file
	verifyPause  time.Duration // between two looks at the files while much is stored
	bigTask      int           // events of a task beyond which it is kept in mind
	bigIDs       int           // ids of such tasks kept in mind, and events of one task
	checkedSize  int64         // bytes up to which a file is checked whenever it is opened
}

var defaultLimits = limits{
	batch:        256,
	queue:        256,
	indexEntries: 64 << 10,
	flushStep:    512,
	retireStep:   256,
	sweepStep:    512,
	sweepMin:     64 << 10,
	logFrames:    512,
	scan:         5_000,
	keptAttempts: 100,
	reserve:      4 << 20,
	lockWait:     5 * time.Second,
	verifyPause:  10 * time.Millisecond,
	bigTask:      64,
	bigIDs:       512 << 10,
	checkedSize:  16 << 20,
}

// view is what readers may know without asking the writer: the state as it was
// last committed.
type view struct {
	meta  meta
	hold  inbox.Hold
	bytes int64
	log   int64 // the part of bytes that is the write-ahead log
}

// store is an inbox in an SQLite file.
type store struct {
	path   string
	log    *zap.Logger
	now    func() time.Time
	limits limits

	policy  atomic.Pointer[inbox.Policy]
	maxSize atomic.Int64
	view    atomic.Pointer[view]

	index  *taskIndex
	leases *leases

	requests      chan op
	policyChanged chan struct{} // the policy has changed
	leaserWake    chan struct{} // something may be leased
	closing       chan struct{}
	stopped       chan struct{} // the writer has ended

	broken breakage

	lock       *fileLock
	database   *database // nil if it is no regular file
	copier     *conn     // reads only; for copying
	copying    sync.Mutex
	diskFull   atomic.Bool // there was no room to write
	writer     *writer
	leaser     *leaser
	readers    chan *conn
	gate       sync.RWMutex // readers hold it while they read, so that the log can begin anew
	checkpoint *checkpointer

	closeOnce sync.Once
	closeErr  error
}

// SetPolicy replaces the policy.
func (s *store) SetPolicy(p inbox.Policy) {
	s.policy.Store(&p)
	select {
	case s.policyChanged <- struct{}{}:
	default:
	}
}

// read lends f one of the reading connections.
func (s *store) read(ctx context.Context, f func(*conn) error) error {
	select {
	case <-s.closing:
		return s.errClosed()
	default:
	}
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		s.gate.RLock()
		defer s.gate.RUnlock()
		err := f(c)
		s.noteDamage(err)
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return s.errClosed()
	}
}

// Close ends the inbox: the transaction under way is completed, what has queued
// behind it is refused, and the lock is given up last.
func (s *store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.stopped
		s.checkpoint.stop()
		err := s.leaser.close()
		for range cap(s.readers) {
			c := <-s.readers
			err = errors.Join(err, c.close())
		}
		s.copying.Lock() // a copy under way has ended
		s.closeErr = errors.Join(err, s.closeLast(), s.database.release(), s.lock.release())
	})
	return s.closeErr
}

// closeLast closes the writing connection and the one that only reads. The last
// to be closed copies the log into the database and removes it, unless it may
// only read.
func (s *store) closeLast() error {
	if s.Broken() != nil && s.broken.foreign {
		return errors.Join(s.writer.conn.close(), s.copier.close())
	}
	err := s.copier.close()
	_, cerr := s.writer.conn.number(`PRAGMA wal_checkpoint(TRUNCATE)`)
	return errors.Join(err, cerr, s.writer.conn.close())
}

// Interface guards
var (
	_ inbox.Inbox     = (*store)(nil)
	_ inbox.Breakable = (*store)(nil)
	_ inbox.Backuper  = (*store)(nil)
)
