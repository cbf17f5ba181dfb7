package sqlite

import (
	"errors"

	"go.uber.org/zap"
)

// savedSchema adds the part of the index that is in memory, as it was when the inbox was
// closed, so that it need not be made again at the next start: the newest entries would be
// read from as many events, and the newest part's filter from its rows. What is saved is
// valid only until anything is written: the first transaction after opening removes it, and a
// migration that changes the index must remove it as well.
var savedSchema = migration{
	`CREATE TABLE saved (
		n     INTEGER PRIMARY KEY, -- in order
		kind  INTEGER NOT NULL,    -- 0 words of the filter, 1 entries
		bytes BLOB    NOT NULL     -- integers of 8 bytes, the lowest byte first
	) STRICT`,
}

const (
	savedFilter  = 0
	savedEntries = 1
)

const (
	insertSaved = `INSERT INTO saved (kind, bytes) VALUES (?, ?)`
	sizeSaved   = `SELECT COALESCE(SUM(LENGTH(bytes)), 0) FROM saved WHERE kind = ?`
	readSaved   = `SELECT bytes FROM saved WHERE kind = ? ORDER BY n`
	deleteSaved = `DELETE FROM saved`
)

// save stores the part of the index that is in memory if it would take long to read again.
// It is called when the inbox is closed. Without it, nothing is lost but time.
func (w *writer) save() {
	newest := w.parts.last()
	if newest == nil || newest.filter == nil || w.meta.total() < w.limits.savedEvents || w.Broken() != nil || w.reserve.spent {
		return
	}
	words, numbers := newest.filter.words, w.index.numbers()
	if size := int64(len(words)+len(numbers)) * 8; w.used()+size > w.maxSize.Load() {
		return
	}
	err := w.transact(func(t *tx) error {
		return errors.Join(t.saveRows(savedFilter, words), t.saveRows(savedEntries, numbers))
	})
	if err != nil {
		w.log.Warn("the index in memory could not be saved; it will be made again at the next start",
			zap.String("path", w.path), zap.Error(err))
	}
}

func (t *tx) saveRows(kind int64, numbers []uint64) error {
	for len(numbers) > 0 {
		part := numbers[:min(storedPart, len(numbers))]
		numbers = numbers[len(part):]
		if err := t.c.exec(insertSaved, kind, littleEndian(part)); err != nil {
			return err
		}
	}
	return nil
}

// dropSaved removes what was saved, because it will not be valid any more.
func (t *tx) dropSaved() error { return t.c.exec(deleteSaved) }

// loadSaved reads what was saved and reports whether anything was.
func (w *writer) loadSaved() (bool, error) {
	words, err := w.savedNumbers(savedFilter)
	if err != nil || len(words) == 0 {
		return false, err
	}
	numbers, err := w.savedNumbers(savedEntries)
	if err != nil {
		return false, err
	}
	filter, newest := (*bloomFilter)(nil), w.parts.last()
	if newest != nil {
		filter = filterOf(words, len(words), newest.entries)
	}
	if filter == nil || len(numbers)%2 != 0 {
		w.log.Warn("the index that was saved is not as it was written; it is made again", zap.String("path", w.path),
			zap.Int("words", len(words)), zap.Int("numbers", len(numbers)))
		return false, nil
	}
	newest.filter, newest.making = filter, nil
	w.parts.bound(w.limits.filtersMost)
	for ; len(numbers) > 0; numbers = numbers[2:] {
		w.index.add(entry{int64(numbers[0]), int64(numbers[1])}) //nolint:gosec // as they were
	}
	return true, nil
}

func (w *writer) savedNumbers(kind int64) ([]uint64, error) {
	bytes, err := w.conn.number(sizeSaved, kind)
	if err != nil {
		return nil, err
	}
	return w.conn.integers(readSaved, int(bytes/8), kind)
}
