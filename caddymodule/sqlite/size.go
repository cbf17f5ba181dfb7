package sqlite

import (
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// fileSize is the disk space of the file in bytes.
type fileSize struct {
	page     int64 // size of a page
	pages    int64 // pages in use
	free     int64 // free pages
	log      int64 // the write-ahead log
	logStuck bool  // the log could not grow
	waited   int64 // of the log, when the writer last waited until it was copied
	grown    int64 // what was written to the log since its frames were counted, approximately
	since    int   // transactions since its frames were counted
}

// used returns the bytes that count toward the size limit. The log's file grows and
// shrinks up to what is kept of it; while it is shorter, that room is not given away.
func (w *writer) used() int64 { return w.size.pages + max(w.size.log, w.keptLog()) }

// measure updates the size after a transaction.
func (w *writer) measure(t *tx) {
	w.size.pages, w.size.free = t.pages*w.size.page, t.free*w.size.page
	w.size.grown += t.grown
	w.size.since++
	switch info, err := os.Stat(w.path + walSuffix); { //nolint:gosec // the operator names the file
	case err == nil:
		if w.size.log = info.Size(); w.size.log <= w.keptLog() {
			w.size.waited = 0
		}
	case !errors.Is(err, os.ErrNotExist):
		w.log.Warn("the size of the write-ahead log is unknown", zap.String("path", w.path), zap.Error(err))
	}
}

// hasRoom reports whether n more bytes fit. If not, it refuses the request.
func (t *tx) hasRoom(r *request, n int) bool {
	if !t.diskHasRoom(r, n) {
		return false
	}
	if int64(n) > t.room() {
		r.err = t.errLimit()
		return false
	}
	t.grown += int64(n)
	return true
}

// diskHasRoom reports whether n more bytes fit on the disk, as far as is known. If not, it
// refuses the request. While the reserve is spent, free pages in the file take its place:
// only those beyond its size may be used.
func (t *tx) diskHasRoom(r *request, n int) bool {
	if t.w.reserve.spent && t.w.size.free-t.grown-int64(n) < t.w.reserve.size {
		r.err = fmt.Errorf("%w: no room left on the disk of %s", inbox.ErrFull, t.w.path)
		return false
	}
	return true
}

// room returns how many more bytes the size limit allows.
func (t *tx) room() int64 { return t.w.maxSize.Load() - t.w.used() - t.grown + t.freed }

func (t *tx) errLimit() error {
	return fmt.Errorf("%w: %s has reached its limit of %d bytes", inbox.ErrFull, t.w.path, t.w.maxSize.Load())
}
