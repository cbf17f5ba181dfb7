package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"

	"go.uber.org/zap"
)

// savedSchema adds the part of the index that is in memory, as it was when the inbox was
// closed, so that a large one need not be read again at the next start: the newest entries
// would be read from as many events, and the filter from all of task_index. The rows are
// valid only until anything is written: the first transaction after opening removes them, and
// a migration that changes task_index must remove them as well.
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

	// savedPart is how many integers a row has.
	savedPart = 16 << 10
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
	filter := w.maintenance.bloom.whole
	if filter == nil || filter.keys < w.limits.savedKeys || w.Broken() != nil || w.reserve.spent {
		return
	}
	numbers := w.index.numbers()
	if size := int64(len(filter.words)+len(numbers)) * 8; w.used()+size > w.maxSize.Load() {
		return
	}
	err := w.transact(func(t *tx) error {
		return errors.Join(t.saveRows(savedFilter, filter.words), t.saveRows(savedEntries, numbers))
	})
	if err != nil {
		w.log.Warn("the index in memory could not be saved; it will be made again at the next start",
			zap.String("path", w.path), zap.Error(err))
	}
}

func (t *tx) saveRows(kind int64, numbers []uint64) error {
	for len(numbers) > 0 {
		part := numbers[:min(savedPart, len(numbers))]
		numbers = numbers[len(part):]
		bytes := make([]byte, 0, 8*len(part))
		for _, n := range part {
			bytes = binary.LittleEndian.AppendUint64(bytes, n)
		}
		if err := t.c.exec(insertSaved, kind, bytes); err != nil {
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
	if len(words)%bloomBlock != 0 || len(words)&(len(words)-1) != 0 || len(numbers)%2 != 0 {
		w.log.Warn("the index that was saved is not as it was written; it is made again", zap.String("path", w.path),
			zap.Int("words", len(words)), zap.Int("numbers", len(numbers)))
		return false, nil
	}
	w.maintenance.bloom = bloomBuild{ready: true, whole: &bloomFilter{words: words, keys: w.meta.total() + w.meta.stale}}
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
	numbers := make([]uint64, 0, bytes/8) // it may be large: a slice that grows would leave as much behind
	err = w.conn.query(readSaved, func(row []driver.Value) error {
		for part := blob(row[0]); len(part) >= 8; part = part[8:] {
			numbers = append(numbers, binary.LittleEndian.Uint64(part))
		}
		return nil
	}, kind)
	return numbers, err
}
