package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// pageSize is that of a new file, in bytes; one that is there keeps its own. In a page
	// of 4 KiB, two events of the usual size leave a third of it empty.
	pageSize = 8192

	// readers is the number of connections for look-ups.
	readers = 2

	// minSQLite is the first version without the bug by which restarting the
	// log while another connection writes could lose transactions.
	minSQLite = 3_051_003

	lockSuffix    = ".lock"
	reserveSuffix = ".reserve"
	walSuffix     = "-wal" // SQLite's own name
	shmSuffix     = "-shm"

	// writerCache and readerCache bound the pages in memory, in KiB.
	writerCache = 16 << 10
	readerCache = 2 << 10
)

// The connections with a purpose of their own. Those for look-ups follow.
const (
	writerConn = iota
	usualConn  // for the leases of the default destination
	leaseConn  // for those of all others
	checkpointConn
	copierConn
	fixedConns
)

// options are the arguments of open.
type options struct {
	path string // absolute, without symbolic links

	// configured is the path by which the operator refers to the file; empty if
	// it is the same.
	configured string

	maxSize int64
	policy  inbox.Policy
	log     *zap.Logger
	now     func() time.Time
	sleep   func(time.Duration) // of the writer, while a batch waits for more ops
	limits  limits
	schema  []migration
}

// open opens the inbox. If it fails, whatever was opened is closed again.
func open(ctx context.Context, o options) (_ *store, err error) {
	if sqlite3.SQLITE_VERSION_NUMBER < minSQLite {
		return nil, fmt.Errorf("the SQLite built in is version %s; it must be at least 3.51.3", sqlite3.SQLITE_VERSION)
	}
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(o.path), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the file: %w", err)
	}
	if err := refuseForeign(o.path); err != nil {
		return nil, err
	}
	lock, err := acquire(ctx, o.path+lockSuffix, o.limits.lockWait)
	if err != nil {
		return nil, err
	}
	opened := []func() error{lock.release}
	defer func() {
		if err != nil {
			for _, closeIt := range opened {
				err = errors.Join(err, closeIt())
			}
		}
	}()
	if err := createFile(o.path); err != nil {
		return nil, err
	}
	db, err := databases.claim(ctx, o.path, o.limits.lockWait)
	if err != nil {
		return nil, err
	}
	opened = append([]func() error{db.release}, opened...)
	conns := make([]*conn, fixedConns+readers)
	for i := range conns {
		mode := readWrite
		if i == copierConn {
			mode = readOnly
		}
		c, err := connectAs(ctx, o.path, mode)
		if err != nil {
			return nil, fileError(o.path, err)
		}
		conns[i] = c
		opened = append([]func() error{c.close}, opened...)
		if i == writerConn {
			err = prepareFile(ctx, c, o)
		} else {
			err = setUp(c, readerSettings)
		}
		if err != nil {
			return nil, fileError(o.path, err)
		}
	}
	s, err := newStore(o, lock, db, conns)
	if err != nil {
		return nil, fileError(o.path, err)
	}
	return s, nil
}

// createFile creates an empty file that only its owner can read, unless it
// exists. No connection is open yet, so closing the file drops none of SQLite's
// locks.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator's path
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("creating the file: %w", err)
	}
	return f.Close()
}

// fileError explains to an operator what is wrong with a file.
func fileError(path string, err error) error {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s is not an SQLite file: %w", path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged: restore it from a backup, or move it away to begin with an empty inbox: %w", path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: no room on the disk of %s: %w", inbox.ErrFull, path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// busyTimeout is how long a statement waits for another process, in ms.
const busyTimeout = `PRAGMA busy_timeout = 5000`

// Settings of the connections. Only the checkpointer copies the log into the
// file.
var (
	writerSettings = []string{
		`PRAGMA journal_mode = WAL`,
		`PRAGMA synchronous = FULL`,
		`PRAGMA wal_autocheckpoint = 0`,
		fmt.Sprintf(`PRAGMA cache_size = -%d`, writerCache),
		busyTimeout,
	}
	readerSettings = []string{
		`PRAGMA synchronous = FULL`, // for checkpoints
		`PRAGMA wal_autocheckpoint = 0`,
		fmt.Sprintf(`PRAGMA cache_size = -%d`, readerCache),
		busyTimeout,
	}
)

func setUp(c *conn, settings []string) error {
	for _, s := range settings {
		if err := c.query(s, func([]driver.Value) error { return nil }); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// prepareFile initializes a new file, or migrates an old one to the newest
// version.
func prepareFile(ctx context.Context, c *conn, o options) error {
	version, err := identify(c)
	if err != nil {
		return err
	}
	keepPrivate(o.path, o.log)
	if version == 0 {
		if err := setUp(c, []string{fmt.Sprintf(`PRAGMA page_size = %d`, pageSize)}); err != nil {
			return err
		}
	}
	if err := setUp(c, writerSettings); err != nil {
		return err
	}
	if mode, err := journalMode(c); err != nil || mode != "wal" {
		return errors.Join(fmt.Errorf("its journal mode is %q; the inbox needs wal, which a network file system may not support", mode), err)
	}
	if err := checkOnOpen(ctx, c, o.path, o.limits.checkedSize); err != nil {
		return err
	}
	return migrate(c, version, o.schema)
}

func journalMode(c *conn) (mode string, err error) {
	err = c.query(`PRAGMA journal_mode`, func(row []driver.Value) error {
		mode = text(row[0])
		return nil
	})
	return mode, err
}

// newStore loads the state that is kept in memory, proves that the file can be
// written, and starts the goroutines.
func newStore(o options, lock *fileLock, db *database, conns []*conn) (*store, error) {
	s := &store{
		path:          o.path,
		log:           o.log,
		now:           o.now,
		limits:        o.limits,
		index:         newTaskIndex(o.limits.indexEntries),
		requests:      make(chan op, o.limits.queue),
		policyChanged: make(chan struct{}, 1),
		closing:       make(chan struct{}),
		stopped:       make(chan struct{}),
		lock:          lock,
		database:      db,
		copier:        conns[copierConn],
		readers:       make(chan *conn, readers),
	}
	s.broken.ch = make(chan struct{})
	s.policy.Store(&o.policy)
	s.maxSize.Store(o.maxSize)
	w := &writer{store: s, conn: conns[writerConn], sleep: o.sleep}
	w.reserve = reserve{path: o.path + reserveSuffix, size: min(o.limits.reserve, o.maxSize/reserveShare)}
	if err := w.load(); err != nil {
		return nil, err
	}
	// This first transaction proves that the file can be written.
	err := w.transact((*tx).dropSaved)
	if mayBeFull(err) && w.spendReserve() { // what is stored can be delivered all the same
		err = w.transact((*tx).dropSaved)
	}
	if err != nil {
		return nil, err
	}
	if !w.reserve.spent {
		if err := w.reserve.fill(); err != nil {
			return nil, reserveError(err)
		}
	}
	if w.files, err = identifyFiles(o.path, o.configured); err != nil {
		return nil, err
	}
	if db != nil {
		if err := w.overwrites.start(w, db.file); err != nil {
			return nil, err
		}
	}
	s.writer = w
	s.scanners[0].conn, s.scanners[1].conn = conns[usualConn], conns[leaseConn]
	for _, c := range conns[fixedConns:] {
		s.readers <- c
	}
	s.checkpoint = newCheckpointer(s, conns[checkpointConn])
	go w.run()
	return s, nil
}

// load reads the state that is kept in memory: the counters, the queues, and the
// events that are not in the table of the index yet.
func (w *writer) load() error {
	var err error
	if w.size.page, err = w.conn.number(`PRAGMA page_size`); err != nil {
		return err
	}
	if err := w.meta.read(w.conn); err != nil {
		return err
	}
	if err := w.loadSuspects(); err != nil {
		return err
	}
	w.maintenance.retirement.begin(&w.meta)
	if err := w.loadQueues(); err != nil {
		return err
	}
	some, err := w.conn.number(`SELECT 1 FROM outcomes LIMIT 1`)
	if err != nil {
		return err
	}
	w.outcomes.Store(some != 0)
	if err := w.numbers.load(w.conn); err != nil {
		return err
	}
	if err := w.loadParts(); err != nil {
		return err
	}
	if loaded, err := w.loadSaved(); loaded || err != nil {
		return err
	}
	var entries []entry
	err = w.conn.query(`SELECT seq, id FROM events WHERE seq > ? ORDER BY seq`, func(row []driver.Value) error {
		var id inbox.RawID
		copy(id[:], blob(row[1]))
		entries = append(entries, entry{keyOf(id), integer(row[0])})
		return nil
	}, w.meta.indexedSeq)
	for _, e := range entries {
		w.index.add(e)
	}
	return err
}
