package sqlite

import (
	"database/sql/driver"
	"time"
)

// newestWindow is how many of the last events are looked at for the newest.
const newestWindow = 1000

// notLate is how long an event may wait for its turn before newer ones go before it.
const notLate = 500 * time.Millisecond

// takeNewest takes up to n of the newest events that were never tried. It begins
// where the events end that are leased in turn. Of what it has looked at before, it
// looks again only at what it had to leave, or what became ready since.
func (l *leaser) takeNewest(f *scanResult, v *queueView, n int) error {
	next := v.next
	if l.now().Sub(l.reached) < notLate {
		return nil // what comes next in turn has not waited for long
	}
	looked := l.newest.Load()
	from := max(l.turn, looked, next-newestWindow)
	if n <= 0 || from >= next {
		return nil
	}
	var free []int64 // one more than may be taken, to know whether there are others
	err := l.conn.query(l.sql(l.fresh(v).newest), func(row []driver.Value) error {
		if seq := integer(row[0]); !l.leases.has(seq) {
			free = append(free, seq)
		}
		if len(free) > n {
			return errEnough
		}
		return nil
	}, from, next)
	if err != nil && err != errEnough { //nolint:errorlint // it comes as it is
		return err
	}
	for _, seq := range free[:min(n, len(free))] {
		err := l.conn.query(l.sql(readLease), func(row []driver.Value) error {
			if h := scanLease(row); h.lease.Untried {
				h.lease.Newest = true
				f.found = append(f.found, h)
			}
			return nil
		}, seq)
		if err != nil {
			return err
		}
	}
	if len(free) <= n {
		l.newest.CompareAndSwap(looked, next)
	}
	return nil
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
