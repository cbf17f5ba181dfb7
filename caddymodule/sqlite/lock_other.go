//go:build !linux && !windows

package sqlite

import (
	"errors"
	"os"
	"syscall"
)

// lockDatabase refuses a file with several names instead of locking it: on
// these systems flock interferes with SQLite's locks.
func lockDatabase(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		return errors.New("it has several names (hard links), so that it could be opened twice: expected one")
	}
	return nil
}
