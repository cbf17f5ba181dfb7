package sqlite

import "database/sql/driver"

// freshQueries find the events of a queue that have no row in its delivery. None of them
// has ended there.
type freshQueries struct {
	lease  string // those from a number up to another one
	next   string // the first number from a number on that an event may have
	oldest string // the first of them from a number on
	newest string // the last of them, or of those that had to wait for another event of their task
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
			`(d.seq IS NULL OR (d.state = 0 AND d.attempts = 0)) ORDER BY ` + seq + ` DESC LIMIT +?`,
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

// findFresh returns up to max fresh events from the cursor on that are not leased,
// and where to continue after them.
func (l *leaser) findFresh(cursor int64, v *queueView, max int) (fresh []*heldLease, end int64, err error) {
	next := v.next
	if v.counters.fresh == 0 {
		cursor = next
	}
	for cursor < next && len(fresh) == 0 {
		end := min(next, cursor+leaseWindow)
		seen, last := 0, int64(0)
		err := l.conn.query(l.sql(l.fresh(v).lease), func(row []driver.Value) error {
			h := scanLease(row)
			seen, last = seen+1, h.seq()
			if len(l.leases.unleased([]int64{last})) > 0 {
				fresh = append(fresh, h)
			}
			return nil
		}, cursor, end, int64(max))
		if err != nil {
			return nil, cursor, err
		}
		switch {
		case seen == max:
			cursor = last + 1
		case seen > 0:
			cursor = end
		default:
			if cursor, err = l.skipGap(v, end); err != nil {
				return nil, cursor, err
			}
		}
	}
	return fresh, cursor, nil
}

// skipGap returns where to go on from a number. Large ranges of numbers may be gone.
func (l *leaser) skipGap(v *queueView, seq int64) (int64, error) {
	first, err := l.conn.number(l.fresh(v).next, seq)
	if first == 0 || first > v.next {
		first = v.next
	}
	return first, err
}
