package sqlite

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// On Windows nobody else can read locked bytes. So the lock file is locked far
// behind the process id, and the database behind its largest possible size.
func lockFile(f *os.File) error     { return lockByte(f, 1) }
func lockDatabase(f *os.File) error { return lockByte(f, 1<<30) }

func lockByte(f *os.File, offsetHigh uint32) error {
	at := &windows.Overlapped{OffsetHigh: offsetHigh}
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errLocked
	}
	return err
}

// isAlive reports whether there is a process of that id.
func isAlive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		_ = p.Release()
	}
	return err == nil
}

// isDiskFull reports whether the system says that a disk or a quota is full.
func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}
