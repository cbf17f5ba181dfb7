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

// limits bound the length of each step and the memory in use. They are fields
// so that tests can make them small.
type limits struct {
	batch        int           // ops in one transaction
	queue        int           // ops waiting for the writer
	indexEntries int           // entries of a generation of the index
	ahead        int           // fresh events of a queue in memory, unless more are leased at once
	aheadBytes   int           // of their bodies, and one more
	leastPart    int64         // entries of a part of the index, while there are few
	mostParts    int           // parts of the index from which on small ones are merged
	filtersMost  int           // bytes of the filters of all parts: a power of two
	fillStep     int64         // rows read for a filter in one step
	savedEvents  int64         // events from which on the index in memory is saved when the inbox is closed
	flushStep    int           // entries written to the index in one transaction
	retireStep   int64         // events checked for their age in one step
	sweepStep    int64         // rows of the index checked in one transaction
	sweepMin     int64         // stale rows in the index at which it is swept
	logFrames    int64         // pages of pageSize in the write-ahead log at which it is checkpointed
	scan         int64         // events read for one page of a list
	keptAttempts int64         // records of failed attempts kept with an event
	reserve      int64         // bytes at most that are reserved for a full disk
	lockWait     time.Duration // for a predecessor to close the file
	verifyPause  time.Duration // between checks of the files while events are stored
	bigTask      int           // events of a task from which on it is cached
	bigIDs       int           // ids in that cache, and events of one task
	checkedSize  int64         // bytes up to which a file is checked whenever it is opened
}

var defaultLimits = limits{
	batch:        256,
	queue:        256,
	indexEntries: 64 << 10,
	ahead:        128,
	aheadBytes:   256 << 10,
	leastPart:    256 << 10,
	mostParts:    2 * partShare,
	filtersMost:  64 << 20,
	fillStep:     2048,
	savedEvents:  256 << 10,
	flushStep:    512,
	retireStep:   256,
	sweepStep:    512,
	sweepMin:     64 << 10,
	logFrames:    128,
	scan:         5_000,
	keptAttempts: 100,
	reserve:      4 << 20,
	lockWait:     5 * time.Second,
	verifyPause:  10 * time.Millisecond,
	bigTask:      64,
	bigIDs:       512 << 10,
	checkedSize:  16 << 20,
}

// view is the state after the last commit, for readers that must not wait for
// the writer.
type view struct {
	meta  meta
	bytes int64
	log   int64 // the share of the write-ahead log in bytes
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

	index      *taskIndex
	numbers    taskNumbers
	taskLeases taskLeases
	queues     queues
	usual      *queue      // that of the default destination
	usualOnly  []*queue    // usual alone
	outcomes   atomic.Bool // there may be rows in the table outcomes

	requests      chan op
	policyChanged chan struct{} // the policy has changed
	closing       chan struct{}
	stopped       chan struct{} // closed when the writer has ended

	broken breakage

	lock       *fileLock
	database   *database // nil if it is not a regular file
	copier     *conn     // for backups; read-only
	copying    sync.Mutex
	diskFull   atomic.Bool // the last write found no room
	writer     *writer
	scanners   [2]scanner // of the default destination, and of all others
	readers    chan *conn
	gate       sync.RWMutex // held by readers while they read, so that the log can restart between reads
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

// read calls f with one of the connections for look-ups.
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

// Close closes the inbox: the transaction under way is completed, requests in
// the queue are refused, and the lock is released last.
func (s *store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.stopped
		s.checkpoint.stop()
		err := errors.Join(s.scanners[0].close(), s.scanners[1].close())
		for range cap(s.readers) {
			c := <-s.readers
			err = errors.Join(err, c.close())
		}
		s.copying.Lock() // waits for the backup under way
		s.closeErr = errors.Join(err, s.closeLast(), s.database.release(), s.lock.release())
	})
	return s.closeErr
}

// closeLast closes the writing and the read-only connection. The last
// connection to be closed copies the log into the database and removes it,
// unless it is read-only.
func (s *store) closeLast() error {
	if s.Broken() != nil && s.broken.foreign {
		return errors.Join(s.writer.conn.close(), s.copier.close())
	}
	err := s.copier.close()
	s.writer.save()
	_, cerr := s.writer.conn.number(`PRAGMA wal_checkpoint(TRUNCATE)`)
	return errors.Join(err, cerr, s.writer.conn.close())
}

// Interface guards
var (
	_ inbox.Inbox     = (*store)(nil)
	_ inbox.Queue     = (*queue)(nil)
	_ inbox.Picker    = (*queue)(nil)
	_ inbox.Breakable = (*store)(nil)
	_ inbox.Backuper  = (*store)(nil)
	_ inbox.Finder    = (*store)(nil)
)
