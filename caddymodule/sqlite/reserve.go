package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"
)

const (
	// reserveShare is the part of the limit of the whole file that is set
	// aside at most: twice the log, which must find room in the file, and some
	// 60 bytes for each delivery.
	reserveShare = 8

	// reserveRetry is the least time between attempts to set the room aside
	// again.
	reserveRetry = time.Second
)

// reserve is a file of the room that recording deliveries needs on a disk that
// is full: it is removed then, and no more events are taken until it has been
// made again.
type reserve struct {
	path  string
	size  int64
	spent bool
	tried time.Time
}

// fill makes the file, unless it is there in full.
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

// spendReserve gives the room to the file system. It reports false if it has
// been given before.
func (w *writer) spendReserve() bool {
	if w.reserve.spent {
		return false
	}
	w.reserve.spent, w.reserve.tried = true, w.now()
	if err := os.Remove(w.reserve.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.log.Error("the room in reserve cannot be used", zap.String("path", w.reserve.path), zap.Error(err))
		return false
	}
	w.log.Warn("the disk is full: no events are taken until there is room", zap.String("path", w.path))
	return true
}

// restoreReserve tries to set the room aside again, now and then, when an op
// asks for room.
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
