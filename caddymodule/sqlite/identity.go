package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// databases are the files that inboxes of this process have open. It has to be
// checked before a file is opened: closing a descriptor of the same file would
// drop SQLite's locks, see fileLock.
var databases databaseRegistry

type databaseRegistry struct {
	mu   sync.Mutex
	open []*database
}

// database is the inbox's file by its identity rather than its name. It is
// locked itself, so that nobody can open it under a second name (a hard link,
// another mount) or after its lock file was removed.
type database struct {
	file *os.File
	info fs.FileInfo
}

// claim locks the file at the path, waiting up to the given time for another
// process. Anything but a regular file is left for SQLite to refuse.
func (r *databaseRegistry) claim(ctx context.Context, path string, wait time.Duration) (*database, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil //nolint:nilnil // there is nothing to lock
	}
	if other := r.find(info); other != nil {
		return nil, fmt.Errorf("%s %w by another inbox of this process, which has it open as %s; only one can use it at a time",
			path, inbox.ErrInUse, other.file.Name())
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the operator's path
	if err != nil {
		return nil, fmt.Errorf("the file: %w", err)
	}
	err = awaitLock(ctx, f, wait, lockDatabase)
	if err == nil {
		info, err = f.Stat()
	}
	switch {
	case errors.Is(err, errLocked):
		err = fmt.Errorf("%s %w by another process, under another name of the same file (a hard link or a second mount); only one can use it at a time",
			path, inbox.ErrInUse)
	case err != nil:
		err = fmt.Errorf("locking %s: %w", path, err)
	default:
		d := &database{file: f, info: info}
		r.open = append(r.open, d)
		return d, nil
	}
	return nil, errors.Join(err, f.Close())
}

// find returns the open database that is this file, or nil. The caller holds
// r.mu.
func (r *databaseRegistry) find(info fs.FileInfo) *database {
	for _, d := range r.open {
		if os.SameFile(info, d.info) {
			return d
		}
	}
	return nil
}

// release unlocks the file. All of SQLite's connections to it must be closed.
func (d *database) release() error {
	if d == nil {
		return nil
	}
	databases.mu.Lock()
	defer databases.mu.Unlock()
	databases.open = slices.DeleteFunc(databases.open, func(other *database) bool { return other == d })
	return d.file.Close()
}

// watchedFile is a file that must stay in its place.
type watchedFile struct {
	path string
	info fs.FileInfo
	link bool // the path was a symbolic link already when the inbox was opened

	// grows says that the file must not become shorter. SQLite shortens its index of the
	// log only when nobody has it open.
	grows bool
}

// look returns what the path leads to. Only a link that was there when the inbox was
// opened is followed: SQLite finds the log by the name to which the database's links
// lead, so that behind a new link the next start would look for another log.
func (f *watchedFile) look() (fs.FileInfo, error) {
	if f.link {
		return os.Stat(f.path)
	}
	return os.Lstat(f.path)
}

// identity is the set of files to which the inbox's paths led when it was
// opened.
type identity struct {
	files []watchedFile
	log   watchedFile // the write-ahead log, also among files
}

// identifyFiles records the files of an open database. The configured path may
// lead to it through symbolic links.
func identifyFiles(path, configured string) (*identity, error) {
	paths := []string{path, path + walSuffix, path + shmSuffix, path + lockSuffix}
	if configured != "" && configured != path {
		paths = append(paths, configured)
	}
	id := &identity{}
	for _, p := range paths {
		info, err := os.Lstat(p)
		link := err == nil && info.Mode()&fs.ModeSymlink != 0
		if link {
			info, err = os.Stat(p)
		}
		if err != nil {
			return nil, fmt.Errorf("a file of the inbox: %w", err)
		}
		id.files = append(id.files, watchedFile{path: p, info: info, link: link, grows: p == path+shmSuffix && tellsSize})
	}
	id.log = id.files[1]
	return id, nil
}

// check reports whether every path still leads to the file in use.
func (id *identity) check() error {
	for i := range id.files {
		f := &id.files[i]
		info, err := f.look()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s was removed or renamed", f.path)
		case err != nil:
			return fmt.Errorf("%s cannot be found any more: %w", f.path, err)
		case !f.link && info.Mode()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link now, and was the file itself", f.path)
		case !os.SameFile(info, f.info):
			return fmt.Errorf("%s is another file than the one in use: it was replaced, or what it stands on was", f.path)
		case f.grows && info.Size() < f.info.Size():
			return fmt.Errorf("%s was emptied or shortened: it has %d bytes; expected at least %d", f.path, info.Size(), f.info.Size())
		case f.grows:
			f.info = info
		}
	}
	return nil
}
