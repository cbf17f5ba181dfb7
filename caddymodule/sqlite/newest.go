package sqlite

import "database/sql/driver"

// newestWindow is how many of the last events are looked at for the newest.
const newestWindow = 1000

// readNewest finds the newest events that were never tried: those without a row, and
// those that had to wait for another event of their task.
const readNewest = leaseColumns + `WHERE e.seq >= ? AND e.seq < ? AND (d.seq IS NULL OR (d.state = 0 AND d.attempts = 0))
	ORDER BY e.seq DESC LIMIT ?`

// takeNewest takes up to n of the newest events that were never tried. It begins
// where the events end that are leased in turn. Of what it has looked at before, it
// looks again only at what it had to leave, or what became ready since.
func (l *leaser) takeNewest(f *scanResult, next int64, n int) error {
	looked := l.newest.Load()
	from := max(f.cursor, looked, next-newestWindow)
	if n <= 0 || from >= next {
		return nil
	}
	limit := n + l.leases.count()
	seen, left := 0, false
	err := l.conn.query(readNewest, func(row []driver.Value) error {
		seen++
		if len(l.leases.unleased([]int64{integer(row[0])})) == 0 {
			return nil
		}
		if left = n == 0; !left {
			h := scanLease(row)
			h.lease.Newest = true
			f.found = append(f.found, h)
			n--
		}
		return nil
	}, from, next, int64(limit))
	if err == nil && seen < limit && !left {
		l.newest.CompareAndSwap(looked, next)
	}
	return err
}

// lookAgainFrom has an event looked at again that became ready.
func (l *leaser) lookAgainFrom(seq int64) {
	for {
		looked := l.newest.Load()
		if seq >= looked || l.newest.CompareAndSwap(looked, seq) {
			return
		}
	}
}
