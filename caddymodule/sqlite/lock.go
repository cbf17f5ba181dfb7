package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// errLocked says that another process, or another inbox of this one, holds the
// lock.
var errLocked = errors.New("locked")

// lockRetry is the time between attempts to take a lock that is held.
const lockRetry = 25 * time.Millisecond

// fileLock keeps other processes away from the file that it stands beside. The
// operating system gives it up when the process dies, however it dies.
//
// It is a file of its own because SQLite's locks on the database vanish when
// any descriptor of the database is closed in this process.
type fileLock struct {
	file *os.File
	path string
}

// openLocks are the locks that this process holds, by their paths. Its mutex is
// held while one is taken, and while a file that nobody has open is looked at.
var openLocks = struct {
	sync.Mutex
	paths map[string]bool
}{paths: make(map[string]bool)}

// take takes the lock, or returns errLocked.
func take(f *os.File, path string) error {
	openLocks.Lock()
	defer openLocks.Unlock()
	err := lockFile(f)
	if err == nil {
		openLocks.paths[path] = true
	}
	return err
}

// give says that the lock is held no more.
func give(path string) {
	openLocks.Lock()
	defer openLocks.Unlock()
	delete(openLocks.paths, path)
}

// heldElsewhere reports whether another process that lives has put its id into
// the lock file. It does not touch the lock: who wants it must not find it taken.
func heldElsewhere(path string) bool {
	b, err := os.ReadFile(path) //nolint:gosec // beside the operator's path
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && pid > 0 && pid != os.Getpid() && isAlive(pid)
}

// acquire takes the lock at the path. While it is held by another it waits up
// to the given time, because a predecessor may be about to close.
func acquire(ctx context.Context, path string, wait time.Duration) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's path
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	deadline := time.Now().Add(wait)
	for {
		err := take(f, path)
		if err == nil {
			return claim(f, path)
		}
		if !errors.Is(err, errLocked) {
			return nil, errors.Join(fmt.Errorf("lock file %s: %w", path, err), f.Close())
		}
		if !time.Now().Before(deadline) {
			return nil, errors.Join(inUse(path, f), f.Close())
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for %s: %w", path, ctx.Err()), f.Close())
		}
	}
}

// claim writes this process's id into the file, for those who find it locked.
func claim(f *os.File, path string) (*fileLock, error) {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		give(path)
		return nil, errors.Join(fmt.Errorf("lock file: %w", err), f.Close())
	}
	return &fileLock{file: f, path: path}, nil
}

func inUse(path string, f *os.File) error {
	return fmt.Errorf("%s %w by %s; only one can use it at a time", strings.TrimSuffix(path, lockSuffix), inbox.ErrInUse, holder(f))
}

// holder describes who holds the lock.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 20))
	pid, perr := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil || perr != nil:
		return "another process"
	case pid == os.Getpid():
		return "another inbox of this process"
	default:
		return fmt.Sprintf("process %d", pid)
	}
}

// release gives the lock up. The file stays: whoever removed it could remove
// one that another process has just locked.
func (l *fileLock) release() error {
	defer give(l.path)
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
