package sqlite

import "database/sql/driver"

// freshQueries find the events of a queue that have no row in its delivery. None of them
// has ended there.
type freshQueries struct {
	lease  string // those from a number up to another one
	next   string // the first number from a number on that an event may have
	oldest string // the first of them from a number on
	newest string // of them and of those that had to wait for another event of their task, the last first
}

var (
	// freshOfAll are for the default destination while all events go there alone.
	freshOfAll = newFreshQueries("events", "events e", "e.seq", "")

	// freshOfUsual are for the default destination while some events go elsewhere.
	freshOfUsual = newFreshQueries("events", "events e", "e.seq",
		`NOT EXISTS (SELECT 1 FROM routes r WHERE r.seq = e.seq AND NOT r.open & $bit) AND `)

	// freshOfOthers are for any other destination. They read the small rows of routes,
	// and only those events that go there.
	freshOfOthers = newFreshQueries("routes", "routes r CROSS JOIN events e ON e.seq = r.seq", "r.seq", `r.open & $bit AND `)
)

func newFreshQueries(first, tables, seq, condition string) freshQueries {
	withState := tables + ` LEFT JOIN delivery$ d ON d.seq = ` + seq
	from, to := ` WHERE `+seq+` >= ? AND `, seq+` < ? AND `
	return freshQueries{
		lease: leaseColumns + withState + ` LEFT JOIN traces t ON t.seq = ` + seq + from + to + condition +
			`d.seq IS NULL ORDER BY ` + seq + ` LIMIT +?`,
		next:   `SELECT seq FROM ` + first + ` WHERE seq >= ? ORDER BY seq LIMIT 1`,
		oldest: `SELECT e.seq, e.received_at FROM ` + withState + from + condition + `d.seq IS NULL ORDER BY ` + seq + ` LIMIT 1`,
		newest: `SELECT e.seq FROM ` + withState + from + to + condition +
			`(d.seq IS NULL OR (d.state = 0 AND d.attempts = 0)) ORDER BY ` + seq + ` DESC`,
	}
}

// fresh returns the queries for the events without a row.
func (q *queue) fresh(v *queueView) *freshQueries {
	switch {
	case !q.isDefault():
		return &freshOfOthers
	case v.routed:
		return &freshOfUsual
	default:
		return &freshOfAll
	}
}

// leaseWindow is the range of numbers in which one query looks for fresh
// events.
const leaseWindow = 10_000

// findFresh returns fresh events that are not leased, oldest first, and where to look for
// others. If there are any, it returns at least one. If fewer than wanted are known, it reads
// as many from the file, or more to be kept.
func (l *leaser) findFresh(v *queueView, wanted int) (fresh []*heldLease, cursor int64, err error) {
	fresh, cursor = l.leases.known()
	if v.counters.fresh == 0 {
		cursor = v.next
	}
	var read []*heldLease
	for cursor < v.next && len(fresh) < wanted && len(read) == 0 {
		if read, cursor, err = l.readFresh(v, cursor, wanted); err != nil {
			return nil, cursor, err
		}
	}
	return append(fresh, read...), cursor, nil
}

// readFresh returns the events from the cursor on, of one window.
func (l *leaser) readFresh(v *queueView, cursor int64, wanted int) (fresh []*heldLease, _ int64, err error) {
	end := min(v.next, cursor+leaseWindow)
	most := max(wanted, l.limits.ahead)
	seen, last, bytes := 0, int64(0), 0
	err = l.conn.query(l.sql(l.fresh(v).lease), func(row []driver.Value) error {
		seen, last = seen+1, integer(row[0])
		if !l.leases.has(last) {
			h := scanLease(row)
			fresh, bytes = append(fresh, h), bytes+len(h.lease.Event.Body)
		}
		if seen == most || seen >= wanted && bytes >= l.limits.aheadBytes {
			return errEnough
		}
		return nil
	}, cursor, end, int64(most))
	switch {
	case err == errEnough: //nolint:errorlint // it comes as it is
		return fresh, last + 1, nil
	case err != nil || seen > 0:
		return fresh, end, err
	}
	cursor, err = l.skipGap(v, end)
	return nil, cursor, err
}

// skipGap returns where to go on from a number. Large ranges of numbers may be gone.
func (l *leaser) skipGap(v *queueView, seq int64) (int64, error) {
	first, err := l.conn.number(l.fresh(v).next, seq)
	if first == 0 || first > v.next {
		first = v.next
	}
	return first, err
}
