package sqlite

import "database/sql/driver"

// newestWindow is how many of the last events are looked at for the newest.
const newestWindow = 1000

const readNewest = leaseColumns + `WHERE e.seq >= ? AND e.seq < ? AND d.seq IS NULL ORDER BY e.seq DESC LIMIT ?`

// takeNewest takes up to n of the newest events that were never leased. It begins
// where the events end that are leased in turn, so that none is taken twice. What
// came after it has looked the last time is all that can be new to it, unless it
// had to leave some.
func (l *leaser) takeNewest(f *scanResult, next int64, n int) error {
	from := max(f.cursor, l.newest, next-newestWindow)
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
		l.newest = next
	}
	return err
}
