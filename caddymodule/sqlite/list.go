package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// errEnough ends a query early.
var errEnough = errors.New("enough rows")

// listOrder is an order in which events are listed. Events keep their numbers,
// so that a page continues in the right place whatever was added or removed.
type listOrder struct {
	ascending bool

	next, window, task, dead string // queries
}

var (
	newestFirst = newListOrder(false, "<", "DESC")
	oldestFirst = newListOrder(true, ">", "ASC")
)

// filterSQL is the filter as a condition of the queries, so that bodies which
// do not match are not read.
const filterSQL = `(? >> ifnull(d.state, 0)) & 1 AND (? = '' OR e.type = ?) AND e.received_at >= ? AND e.received_at < ?`

const listOne = recordColumns + `WHERE e.seq = ? AND ` + filterSQL

func newListOrder(ascending bool, past, order string) *listOrder {
	return &listOrder{
		ascending: ascending,

		next:   `SELECT seq FROM events WHERE seq ` + past + ` ? ORDER BY seq ` + order + ` LIMIT 1`,
		window: recordColumns + `WHERE e.seq >= ? AND e.seq <= ? AND ` + filterSQL + ` ORDER BY e.seq ` + order,
		task:   `SELECT seq FROM task_index WHERE task_key = ? AND seq ` + past + ` ? ORDER BY seq ` + order + ` LIMIT ?`,
		dead:   `SELECT seq FROM delivery WHERE state = 5 AND seq ` + past + ` ? ORDER BY seq ` + order + ` LIMIT ?`,
	}
}

// isPast reports whether seq comes after a number in this order.
func (o *listOrder) isPast(seq, number int64) bool {
	if o.ascending {
		return seq > number
	}
	return seq < number
}

// taskEvents returns about limit events past a number whose task has the key,
// in the given order. Some may be gone.
func (s *store) taskEvents(c *conn, o *listOrder, key, past, limit int64) ([]int64, error) {
	// An entry is in the table before it leaves the memory, so the memory is
	// read first.
	seqs := s.index.lookup(key, nil)
	err := c.query(o.task, func(row []driver.Value) error {
		seqs = append(seqs, integer(row[0]))
		return nil
	}, key, past, limit)
	seqs = slices.DeleteFunc(seqs, func(seq int64) bool { return !o.isPast(seq, past) })
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	if !o.ascending {
		slices.Reverse(seqs)
	}
	return seqs, err
}

// pager collects one page of a list of events.
type pager struct {
	*store
	ctx     context.Context //nolint:containedctx // it lives for one call
	c       *conn
	order   *listOrder
	f       inbox.Filter
	states  int64 // bit set of the wanted states
	since   int64
	until   int64
	past    int64
	limit   int
	records []*inbox.Record
	bytes   int
	last    int64 // number of the last record
	full    bool
}

// List returns the events that match the filter.
func (s *store) List(ctx context.Context, f inbox.Filter, page inbox.Page) (records []*inbox.Record, next string, err error) {
	order := newestFirst
	if page.OldestFirst {
		order = oldestFirst
	}
	past, limit, err := page.Start()
	if err != nil {
		return nil, "", err
	}
	p := &pager{store: s, ctx: ctx, order: order, f: f, since: math.MinInt64, until: math.MaxInt64, past: past, limit: limit}
	if !f.Since.IsZero() {
		p.since = ceilMicros(f.Since)
	}
	if !f.Until.IsZero() {
		p.until = ceilMicros(f.Until)
	}
	for st := range states {
		if f.HasState(st.public()) {
			p.states |= 1 << st
		}
	}
	var rest int64
	err = s.read(ctx, func(c *conn) (err error) {
		p.c = c
		switch {
		case f.TaskID != "":
			rest, err = p.listTask()
		case p.states == 1<<dead:
			rest, err = p.listDead()
		default:
			rest, err = p.listAll()
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if rest > 0 {
		next = page.Next(rest)
	}
	return p.records, next, nil
}

// ceilMicros rounds up, so that a bound between two microseconds excludes the
// earlier one.
func ceilMicros(t time.Time) int64 {
	return t.Add(time.Microsecond - 1).UnixMicro()
}

// add adds a row to the page. The query has applied the filter except for the
// task, of which it only had the key.
func (p *pager) add(row []driver.Value) error {
	if p.f.TaskID == "" || p.f.TaskID == text(row[2]) {
		p.records = append(p.records, p.scanRecord(row))
		p.last = integer(row[0])
		p.bytes += len(blob(row[6])) + len(text(row[7])) + len(text(row[8]))
		if p.full = len(p.records) == p.limit || p.bytes >= inbox.MaxPageBytes; p.full {
			return errEnough
		}
	}
	return p.ctx.Err()
}

// query adds the rows of a query to the page.
func (p *pager) query(query string, values ...driver.Value) error {
	err := p.c.query(query, p.add, values...)
	if err == errEnough { //nolint:errorlint // it comes as it is
		return nil
	}
	return err
}

// filter returns values followed by the arguments of filterSQL.
func (p *pager) filter(values ...driver.Value) []driver.Value {
	return append(values, p.states, p.f.Type, p.f.Type, p.since, p.until)
}

// listAll reads the next events, a bounded number of them. It returns the
// number past which there may be more, or 0.
func (p *pager) listAll() (rest int64, err error) {
	known := p.view.Load().meta.nextSeq - 1 // no event with a lower number can appear any more
	first, err := p.next(p.past)
	if err != nil || first == 0 {
		return 0, err
	}
	low, high := max(1, first+1-p.limits.scan), first
	end := low
	if p.order.ascending {
		// Only up to what is known to be stored, so that an event which arrives
		// between this query and the one for the rest is not left out.
		low, high = first, max(first, min(first+p.limits.scan-1, known))
		end = high
	}
	if err := p.query(p.order.window, p.filter(low, high)...); err != nil {
		return 0, err
	}
	if p.full {
		end = p.last
	}
	if more, err := p.next(end); err != nil || more == 0 {
		return 0, err
	}
	return end, nil
}

// next returns the event after a number, or 0.
func (p *pager) next(past int64) (seq int64, err error) {
	return p.c.number(p.order.next, past)
}

// seqStep is the fraction of limits.scan that is read when events are read one
// by one.
const seqStep = 5

// listTask lists the events of a task.
func (p *pager) listTask() (rest int64, err error) {
	key := int64(inbox.TaskKey(p.f.TaskID)) //nolint:gosec // the same 64 bits
	limit := p.limits.scan / seqStep
	seqs, err := p.taskEvents(p.c, p.order, key, p.past, limit+1)
	if err != nil {
		return 0, err
	}
	return p.listSeqs(seqs, limit)
}

// listDead lists the dead events by their index.
func (p *pager) listDead() (rest int64, err error) {
	var seqs []int64
	limit := p.limits.scan / seqStep
	err = p.c.query(p.order.dead, func(row []driver.Value) error {
		seqs = append(seqs, integer(row[0]))
		return nil
	}, p.past, limit+1)
	if err != nil {
		return 0, err
	}
	return p.listSeqs(seqs, limit)
}

// listSeqs lists the events with these numbers, up to limit of them.
func (p *pager) listSeqs(seqs []int64, limit int64) (rest int64, err error) {
	for i, seq := range seqs {
		if int64(i) == limit {
			return seqs[i-1], nil
		}
		if err := p.query(listOne, p.filter(seq)...); err != nil {
			return 0, err
		}
		if p.full && i < len(seqs)-1 {
			return seq, nil
		}
	}
	return 0, nil
}
