package sqlite

import (
	"database/sql/driver"
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// quarantineShare bounds the quarantine: it takes at most this fraction of the size
	// limit, so that most of the inbox is left to events whatever else is sent.
	quarantineShare = 10

	// suspectOverhead is about the size of a quarantined callback in the file
	// without its body and problems, in bytes.
	suspectOverhead = 100

	// trimStep and trimBytes bound what one step of maintenance removes: that many
	// suspects, and about as many bytes, because all pages of a long body are read.
	trimStep  = 16
	trimBytes = 4 << 20

	// replaceStep is the number of suspects at most whose place a new one takes.
	replaceStep = 256
)

const (
	suspectLength = `SELECT length(body) + length(problems) FROM quarantine`
	allSuspects   = `SELECT count(*), sum(length(body) + length(problems)) FROM quarantine`

	// oldestSuspects reads suspects, the one first that has not arrived for longest.
	oldestSuspects = `SELECT length(q.body) + length(q.problems)` + suspectTables + `ORDER BY a.place LIMIT +?`
)

// maxQuarantine returns how many bytes the quarantine may take.
func (s *store) maxQuarantine() int64 { return s.maxSize.Load() / quarantineShare }

// suspectSize returns about the size of a suspect in the file, in bytes.
func suspectSize(q *inbox.Suspect) int64 {
	return int64(suspectOverhead + len(q.Body) + len(q.Problems))
}

// loadSuspects adds up the sizes of all suspects. SQLite knows the length of a body without
// reading it.
func (w *writer) loadSuspects() error {
	return w.conn.query(allSuspects, func(row []driver.Value) error {
		w.suspectBytes = integer(row[0])*suspectOverhead + integer(row[1])
		return nil
	})
}

// placeFor reports whether a new suspect fits. It takes the place of those that have not
// arrived for longest, of as many as it needs; never that of events. If it does not fit all
// the same, they stay, and the request is refused.
func (t *tx) placeFor(r *request, q *inbox.Suspect) (bool, error) {
	size, share := suspectSize(q), t.w.maxQuarantine()
	if size > share {
		r.err = fmt.Errorf("%w: it takes %d bytes, and all callbacks in quarantine may take %d, a tenth of the limit of %s",
			inbox.ErrTooLarge, size, share, t.w.path)
		return false, nil
	}
	if !t.diskHasRoom(r, int(size)) {
		return false, nil
	}
	most, fits := int64(t.w.policy.Load().Quarantine), false
	n, freed, err := t.oldest(replaceStep, func(n, freed int64) bool {
		fits = freed >= size || t.suspectBytes-freed+size <= share && size-freed <= t.room()
		return fits && (n > 0 || t.meta.quarantined < most)
	})
	if err != nil {
		return false, err
	}
	if !fits && size-freed > t.room() {
		r.err = t.errLimit()
		return false, nil
	}
	t.grown += size
	t.freed += freed
	return true, t.removeOldest(n, freed)
}

// trimQuarantine removes suspects beyond the limits, those that have not arrived for longest.
// It is one step.
func (t *tx) trimQuarantine() error {
	most, share := int64(t.w.policy.Load().Quarantine), t.w.maxQuarantine()
	within := func(n, size int64) bool { return t.meta.quarantined-n <= most && t.suspectBytes-size <= share }
	n, size, err := t.oldest(trimStep, func(n, size int64) bool { return size >= trimBytes || within(n, size) })
	if err != nil {
		return err
	}
	if n == 0 && !within(0, 0) { // another program has removed them
		t.meta.quarantined, t.suspectBytes = 0, 0
		return nil
	}
	return t.removeOldest(n, size)
}

// oldest goes through the suspects, at most max, until those so far are enough. It returns
// how many they are, and their size.
func (t *tx) oldest(max int64, enough func(n, size int64) bool) (n, size int64, err error) {
	if enough(0, 0) {
		return 0, 0, nil
	}
	err = t.c.query(oldestSuspects, func(row []driver.Value) error {
		n++
		size += suspectOverhead + integer(row[0])
		if enough(n, size) {
			return errEnough
		}
		return nil
	}, max)
	if err == errEnough { //nolint:errorlint // it comes as it is
		err = nil
	}
	return n, size, err
}

// removeOldest removes the n suspects that have not arrived for longest, of that size together.
func (t *tx) removeOldest(n, size int64) error {
	if n == 0 {
		return nil
	}
	err := t.c.exec(`DELETE FROM quarantine WHERE id IN (SELECT id FROM arrivals ORDER BY place LIMIT +?)`, n)
	if err == nil {
		err = t.c.exec(`DELETE FROM arrivals WHERE place IN (SELECT place FROM arrivals ORDER BY place LIMIT +?)`, n)
	}
	t.meta.quarantined -= n
	t.suspectBytes -= size
	return err
}

// quarantineOver reports whether there is more in quarantine than there may be.
func (w *writer) quarantineOver() bool {
	return w.meta.quarantined > int64(w.policy.Load().Quarantine) || w.suspectBytes > w.maxQuarantine()
}

// trimQuarantine removes suspects beyond a limit that was lowered, or that new ones have
// passed because too many small ones are in the place of a large one.
func trimQuarantine(w *writer) error { return w.transact((*tx).trimQuarantine) }
