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

	all, routed walk

	task *partQuery // for the events of a task

	// Queries for what is dead: at one destination, and everywhere.
	dead, allDead string
}

// walk goes through the events: all of them, or those in routes, of which only the small
// rows are read unless they match.
type walk struct {
	next, window string // queries
	steps        int64  // the numbers that one page goes through, as a multiple of limits.scan
}

// routedSteps is walk.steps of those in routes.
const routedSteps = 10

var (
	newestFirst = newListOrder(false, "<", "DESC")
	oldestFirst = newListOrder(true, ">", "ASC")
)

// skipped stands, in filters, for the state of an event that goes to none of the wanted
// destinations.
const skipped = states

// filterSQL is the filter as a condition of the queries, so that bodies which
// do not match are not read. Its state is that of all the deliveries to a set of
// destinations.
var (
	filterSQL       = filterWith(`ifnull(d.state, 0)`)
	filterRoutedSQL = filterWith(`0`)
)

// filterWith returns the condition with the state of an event that is not in routes.
func filterWith(unrouted string) string {
	return `(? >> CASE
		WHEN r.seq IS NULL AND ? & 1 THEN ` + unrouted + `
		WHEN r.open & ? THEN 0
		WHEN r.dead & ? THEN 5
		WHEN r.delivered & ? THEN 3
		WHEN r.slots & ? THEN 4
		ELSE 6 END) & 1 AND (? = '' OR e.type = ?) AND e.received_at >= ? AND e.received_at < ?`
}

var listOne = readRecord + `WHERE e.seq = ? AND ` + filterSQL

func newListOrder(ascending bool, past, order string) *listOrder {
	next := func(table string) string {
		return `SELECT seq FROM ` + table + ` WHERE seq ` + past + ` ? ORDER BY seq ` + order + ` LIMIT 1`
	}
	return &listOrder{
		ascending: ascending,

		all: walk{
			next:   next("events"),
			window: readRecord + `WHERE e.seq >= ? AND e.seq <= ? AND ` + filterSQL + ` ORDER BY e.seq ` + order,
			steps:  1,
		},
		routed: walk{
			next:   next("routes"),
			window: readRouted + `WHERE r.seq >= ? AND r.seq <= ? AND ` + filterRoutedSQL + ` ORDER BY r.seq ` + order,
			steps:  routedSteps,
		},
		task: newPartQuery(`SELECT seq FROM part_entries WHERE part = ? AND task_key = ? AND seq ` + past + ` ? ORDER BY seq ` + order + ` LIMIT +?`),
		dead: `SELECT seq FROM delivery$ WHERE state = 5 AND seq ` + past + ` ?1 ORDER BY seq ` + order + ` LIMIT +?2`,
		allDead: `SELECT seq FROM delivery WHERE state = 5 AND seq ` + past + ` ?1
			UNION SELECT seq FROM routes WHERE dead != 0 AND seq ` + past + ` ?1 ORDER BY seq ` + order + ` LIMIT +?2`,
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
// in the given order. Some may be gone. recent are those that were in memory before the
// snapshot: an entry is in the file before it leaves the memory.
func (s *store) taskEvents(c *conn, o *listOrder, recent []int64, key, past, limit int64) ([]int64, error) {
	parts, err := c.partNumbers()
	if err != nil {
		return nil, err
	}
	if !o.ascending {
		slices.Reverse(parts)
	}
	seqs := recent
	for _, part := range parts {
		wanted := limit - int64(len(seqs)-len(recent))
		if wanted <= 0 {
			break // those of the other parts come after these
		}
		err := c.query(o.task.of(part), func(row []driver.Value) error {
			seqs = append(seqs, integer(row[0]))
			return nil
		}, part, key, past, wanted)
		if err != nil {
			return nil, err
		}
	}
	seqs = slices.DeleteFunc(seqs, func(seq int64) bool { return !o.isPast(seq, past) })
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	if !o.ascending {
		slices.Reverse(seqs)
	}
	return seqs, nil
}

// pager collects one page of a list of events.
type pager struct {
	*store
	ctx    context.Context //nolint:containedctx // it lives for one call
	c      *conn
	order  *listOrder
	f      inbox.Filter
	states int64  // bit set of the wanted states
	at     *queue // the wanted destination, or nil
	of     slots  // the wanted destinations
	since  int64
	until  int64
	past   int64
	limit  int
	recent []int64 // events of the wanted task that were in memory before the snapshot
	events []found
	bytes  int
	last   int64 // number of the last record
	full   bool
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
	if f.Destination == "" && f.HasState(inbox.Skipped) {
		p.states |= 1 << skipped
	}
	rest, err := p.list()
	if err != nil {
		return nil, "", err
	}
	for _, e := range p.events {
		records = append(records, e.record)
	}
	if rest > 0 {
		next = page.Next(rest)
	}
	return records, next, nil
}

// list reads the page. It returns the number past which there may be more, or 0.
func (p *pager) list() (rest int64, err error) {
	if p.f.TaskID != "" {
		p.recent = p.index.lookup(p.taskKey(), nil)
	}
	err = p.snapshot(p.ctx, func(c *conn) error {
		p.c = c
		if ok, err := p.selectDestination(); err != nil || !ok {
			return err
		}
		switch {
		case p.f.TaskID != "":
			rest, err = p.listTask()
		case p.states == 1<<dead:
			rest, err = p.listDead()
		default:
			rest, err = p.listAll()
		}
		if err != nil {
			return err
		}
		return p.complete()
	})
	return rest, err
}

func (p *pager) taskKey() int64 {
	return int64(inbox.TaskKey(p.f.TaskID)) //nolint:gosec // the same 64 bits
}

// selectDestination looks up the wanted destination. ok is false if there is none of
// that name.
func (p *pager) selectDestination() (ok bool, err error) {
	if p.of = -1; p.f.Destination == "" {
		return true, nil
	}
	queues, err := p.destinationsIn(p.c)
	for _, q := range queues {
		if q.name == p.f.Destination {
			p.at, p.of = q, q.bit()
		}
	}
	return p.at != nil, err
}

// complete reads the other deliveries of the events.
func (p *pager) complete() error {
	if err := p.store.complete(p.c, p.events); err != nil || p.at == nil {
		return err
	}
	for _, e := range p.events {
		for _, d := range e.record.Deliveries {
			if d.Destination == p.at.name {
				e.record.Progress = d.Progress
			}
		}
	}
	return nil
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
		p.events = append(p.events, p.scanRecord(row))
		p.last = integer(row[0])
		p.bytes += len(blob(row[6])) + len(text(row[7])) + len(text(row[8]))
		if p.full = len(p.events) == p.limit || p.bytes >= inbox.MaxPageBytes; p.full {
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
	of := int64(p.of)
	return append(values, p.states, of, of, of, of, of, p.f.Type, p.f.Type, p.since, p.until)
}

// listAll reads the next events, a bounded number of them. It returns the
// number past which there may be more, or 0.
func (p *pager) listAll() (rest int64, err error) {
	w := &p.order.all
	if p.at != nil && !p.at.isDefault() {
		w = &p.order.routed
	}
	first, err := p.c.number(w.next, p.past)
	if err != nil || first == 0 {
		return 0, err
	}
	scan := w.steps * p.limits.scan
	low, high := max(1, first+1-scan), first
	end := low
	if p.order.ascending {
		low, high = first, first+scan-1
		end = high
	}
	if err := p.query(w.window, p.filter(low, high)...); err != nil {
		return 0, err
	}
	if p.full {
		end = p.last
	}
	if more, err := p.c.number(w.next, end); err != nil || more == 0 {
		return 0, err
	}
	return end, nil
}

// seqStep is the fraction of limits.scan that is read when events are read one
// by one.
const seqStep = 5

// listTask lists the events of a task.
func (p *pager) listTask() (rest int64, err error) {
	limit := p.limits.scan / seqStep
	seqs, err := p.taskEvents(p.c, p.order, p.recent, p.taskKey(), p.past, limit+1)
	if err != nil {
		return 0, err
	}
	return p.listSeqs(seqs, limit)
}

// listDead lists the dead events by their indexes.
func (p *pager) listDead() (rest int64, err error) {
	var seqs []int64
	limit := p.limits.scan / seqStep
	query := p.order.allDead
	if p.at != nil {
		query = p.at.sql(p.order.dead)
	}
	err = p.c.query(query, func(row []driver.Value) error {
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
