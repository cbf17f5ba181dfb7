package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// reserveShare bounds the reserve: it is at most this fraction of the size
	// limit. It must suffice for copying the log into the file, twice its size,
	// and for about 60 bytes per delivery.
	reserveShare = 8

	// reserveRetry is the least time between attempts to restore the reserve.
	reserveRetry = time.Second
)

// reserve is a file that keeps the room needed to record deliveries on a full
// disk. When the disk is full it is removed, and no events are taken until it
// could be restored.
type reserve struct {
	path  string
	size  int64
	spent bool
	tried time.Time // when it was last tried to restore it

	failed time.Time // when it could not be freed
}

// fill creates the file unless it exists in full size.
func (r *reserve) fill() error {
	if info, err := os.Stat(r.path); err == nil && info.Mode().IsRegular() && info.Size() == r.size {
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = writeZeros(f, r.size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(r.path))
	}
	return nil
}

// reserveError explains why the reserve could not be set aside.
func reserveError(err error) error {
	if isDiskFull(err) {
		return fmt.Errorf("%w: setting room aside: %w", inbox.ErrFull, err)
	}
	return fmt.Errorf("setting room aside for a full disk: %w", err)
}

func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, 64<<10)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// spendReserve frees the reserve. It reports false if it was freed before, or cannot be.
func (w *writer) spendReserve() bool {
	if w.reserve.spent {
		return false
	}
	now := w.now()
	if now.Sub(w.reserve.failed).Abs() < failureLogPause {
		return false
	}
	if err := os.Remove(w.reserve.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.reserve.failed = now // on a read-only disk for instance, which is not full
		w.log.Error("the room in reserve cannot be used", zap.String("path", w.reserve.path), zap.Error(err))
		return false
	}
	w.reserve.spent, w.reserve.tried = true, now
	w.log.Warn("the disk is full: no events are taken until there is room", zap.String("path", w.path))
	return true
}

// restoreReserve tries to restore the reserve, now and then, when an op needs
// room.
func (w *writer) restoreReserve(ops []op) {
	now := w.now()
	if !w.reserve.spent || now.Sub(w.reserve.tried).Abs() < reserveRetry {
		return
	}
	for _, o := range ops {
		if !o.grows() {
			continue
		}
		w.reserve.tried = now
		if err := w.reserve.fill(); err != nil {
			w.log.Debug("the disk is still full", zap.String("path", w.path), zap.Error(err))
			return
		}
		w.reserve.spent = false
		w.log.Info("the disk has room again: events are taken", zap.String("path", w.path))
		return
	}
}
