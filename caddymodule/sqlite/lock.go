package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// errLocked says that the lock is held by another process or by another inbox
// of this one.
var errLocked = errors.New("locked")

// lockRetry is the time between attempts to get a lock.
const lockRetry = 25 * time.Millisecond

// fileLock keeps other processes from using the file beside it. The operating
// system releases it when the process dies, however it dies.
//
// It is a separate file because closing any descriptor of the database in this
// process would drop SQLite's locks on it.
type fileLock struct {
	file *os.File
}

// heldElsewhere reports whether the lock file has the id of another, living
// process. It does not touch the lock, so that it never makes an acquire fail.
func heldElsewhere(path string) bool {
	b, err := os.ReadFile(path) //nolint:gosec // beside the operator's path
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && pid > 0 && pid != os.Getpid() && isAlive(pid)
}

// acquire takes the lock at the path. It waits up to the given time, because a
// predecessor may be about to release it.
func acquire(ctx context.Context, path string, wait time.Duration) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's path
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	switch err := awaitLock(ctx, f, wait, lockFile); {
	case err == nil:
		return writePID(f)
	case errors.Is(err, errLocked):
		return nil, errors.Join(inUseError(path, f), f.Close())
	default:
		return nil, errors.Join(fmt.Errorf("lock file %s: %w", path, err), f.Close())
	}
}

// awaitLock locks the file. It retries for the given time, then fails with
// errLocked.
func awaitLock(ctx context.Context, f *os.File, wait time.Duration, lock func(*os.File) error) error {
	deadline := time.Now().Add(wait)
	for {
		err := lock(f)
		if !errors.Is(err, errLocked) || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return fmt.Errorf("waiting for it: %w", ctx.Err())
		}
	}
}

// writePID writes this process's id into the file, for the error of those who
// find it locked.
func writePID(f *os.File) (*fileLock, error) {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock file: %w", err), f.Close())
	}
	return &fileLock{file: f}, nil
}

func inUseError(path string, f *os.File) error {
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

// release releases the lock. The file stays: removing it could remove one that
// another process has just locked.
func (l *fileLock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
