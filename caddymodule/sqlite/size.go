package sqlite

import (
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// fileSize is what the file takes on the disk, in bytes.
type fileSize struct {
	page     int64 // one page
	pages    int64 // those that are in use
	free     int64 // those that are not
	log      int64 // the write-ahead log
	logStuck bool  // the log had no room to grow
	grown    int64 // about what went into the log since its frames were counted
	since    int   // transactions since then
}

func (z *fileSize) used() int64 { return z.pages + z.log }

// measure notes the size after a transaction.
func (w *writer) measure(t *tx) {
	w.size.pages, w.size.free = t.pages*w.size.page, t.free*w.size.page
	w.size.grown += t.grown
	w.size.since++
	switch info, err := os.Stat(w.path + walSuffix); {
	case err == nil:
		w.size.log = info.Size()
	case !errors.Is(err, os.ErrNotExist):
		w.log.Warn("the size of the write-ahead log is unknown", zap.String("path", w.path), zap.Error(err))
	}
}

// hasRoom reports whether n more bytes fit, and refuses the request if not.
func (t *tx) hasRoom(r *request, n int) bool {
	limit := t.w.maxSize.Load()
	switch {
	case t.w.reserve.spent && t.w.size.free-t.grown-int64(n) < t.w.reserve.size:
		// Free pages in the file would stand in for the reserve.
		r.err = fmt.Errorf("%w: no room left on the disk of %s", inbox.ErrFull, t.w.path)
		return false
	case t.w.size.used()+t.grown+int64(n) > limit:
		r.err = fmt.Errorf("%w: %s has reached its limit of %d bytes", inbox.ErrFull, t.w.path, limit)
		return false
	}
	t.grown += int64(n)
	return true
}
