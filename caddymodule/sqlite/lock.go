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
	switch err := awaitLock(ctx, f, wait, lockFile); {
	case err == nil:
		return writePID(f)
	case errors.Is(err, errLocked):
		return nil, errors.Join(inUseError(path, f), f.Close())
	default:
		return nil, errors.Join(fmt.Errorf("lock file %s: %w", path, err), f.Close())
	}
}

// awaitLock locks the file. While another has it locked it tries again, for
// the given time; then the error is errLocked.
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

// writePID writes this process's id into the file, for those who find it locked.
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

// release gives the lock up. The file stays: whoever removed it could remove
// one that another process has just locked.
func (l *fileLock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
