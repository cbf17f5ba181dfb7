package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// watchEvery is how often the files are checked while nothing is stored.
	// For the time while something is, see limits.verifyPause.
	watchEvery = time.Second

	// asideSuffix is appended to the name of a write-ahead log that must not be
	// applied because the database was overwritten.
	asideSuffix = ".set-aside"

	runbook = "docs/operations.md#the-inbox-is-broken"
)

// breakage is the reason why the inbox takes nothing any more. It lasts until
// the inbox is opened again.
type breakage struct {
	once sync.Once
	err  error
	ch   chan struct{} // closed once err is set

	// foreign says that the log must not be copied into the database: that was
	// overwritten, or the log has a gap.
	foreign bool
}

// Broken returns why the inbox takes nothing any more, or nil.
func (s *store) Broken() error {
	select {
	case <-s.broken.ch:
		return s.broken.err
	default:
		return nil
	}
}

// isDamage reports whether the file is damaged or cannot be read.
func isDamage(err error) bool {
	switch c := code(err); c & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	case sqlite3.SQLITE_IOERR:
		switch c {
		case sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_DATA, sqlite3.SQLITE_IOERR_CORRUPTFS:
			return true
		}
	}
	return false
}

// noteDamage marks the inbox as broken if the error means that the file is
// damaged. Reading goes on as far as it can.
func (s *store) noteDamage(err error) {
	if code(err) == sqlite3.SQLITE_IOERR_IN_PAGE { // only that file is mapped into memory
		s.noteLoss(false, fmt.Errorf("%s was emptied or shortened, or cannot be read: %w", s.path+shmSuffix, err), saveFirst)
		return
	}
	if err == nil || !isDamage(err) {
		return
	}
	damaged.add(s.path)
	s.markBroken(false, fmt.Errorf("%w: %s is damaged: %w; what can still be read is there for 'caddy fotor-webhook list' and 'backup': "+
		"stop Caddy, then restore a backup or recover the file, see %s", inbox.ErrBroken, s.path, err, runbook))
}

// What to do before the inbox is opened anew.
const (
	saveFirst     = "what it holds is still open: save it with 'caddy fotor-webhook backup <file>', put the right files in place"
	restoreBackup = "what was in it can only come from a backup: put that in place"
)

// noteLoss marks the inbox as broken because its files were removed, replaced or
// shortened.
func (s *store) noteLoss(foreign bool, err error, advice string) {
	s.markBroken(foreign, fmt.Errorf("%w: while it was in use, %w; %s, then reload or restart Caddy, see %s", inbox.ErrBroken, err, advice, runbook))
}

func (s *store) markBroken(foreign bool, err error) {
	s.broken.once.Do(func() {
		s.broken.err, s.broken.foreign = err, foreign
		close(s.broken.ch)
		s.log.Error("no callback is taken: the inbox is broken", zap.String("path", s.path), zap.Error(err))
	})
}

// verify checks that the files are still those in use.
func (w *writer) verify(inTransaction bool) error {
	if err := w.files.check(); err != nil {
		w.noteLoss(false, err, saveFirst)
		return w.Broken()
	}
	if err := w.checkLog(inTransaction, false); err != nil {
		return err
	}
	if err := w.overwrites.check(w); err != nil {
		w.noteLoss(true, err, restoreBackup)
		return w.Broken()
	}
	w.verified = time.Now()
	return nil
}

// runBroken is the rest of the writer's loop once the inbox is broken.
func (w *writer) runBroken() {
	w.preserveLog()
	for {
		select {
		case o := <-w.requests:
			o.base().fail(w.Broken())
		case <-w.closing:
			w.refuse()
			return
		}
	}
}

// preserveLog saves what is in the log. The log belongs to the open database,
// wherever that is now: once copied into it, that file is complete if it comes
// back. A database that was overwritten must not get it, and none gets one with a
// gap, which may be what made reading fail.
func (w *writer) preserveLog() {
	if k := w.checkpoint; k.state.Load() == logCopying {
		<-k.ended
	}
	if gap, err := w.findGap(true); gap != nil && err == nil {
		w.broken.foreign = true // only this goroutine looks at it until it has ended
	}
	if w.broken.foreign {
		err := w.setLogAside()
		if err != nil {
			w.log.Error("the write-ahead log could not be set aside: remove it before Caddy starts again",
				zap.String("path", w.path+walSuffix), zap.Error(err))
		}
		return
	}
	w.gate.Lock()
	defer w.gate.Unlock()
	if err := w.conn.query(`PRAGMA wal_checkpoint(TRUNCATE)`, func([]driver.Value) error { return nil }); err != nil {
		w.log.Error("copying the write-ahead log into the broken inbox failed", zap.String("path", w.path), zap.Error(err))
	}
}

// setLogAside renames the log, unless its path leads to another file by now.
func (w *writer) setLogAside() error {
	log := w.files.log
	info, err := log.look()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !os.SameFile(info, log.info):
		return nil
	}
	return os.Rename(log.path, log.path+asideSuffix)
}

// damagedFiles are the files that this process found damaged. They are checked
// before they are used again.
type damagedFiles struct {
	mu    sync.Mutex
	paths map[string]struct{}
}

var damaged = damagedFiles{paths: make(map[string]struct{})}

func (d *damagedFiles) add(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paths[path] = struct{}{}
}

func (d *damagedFiles) has(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.paths[path]
	return ok
}

func (d *damagedFiles) remove(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.paths, path)
}
