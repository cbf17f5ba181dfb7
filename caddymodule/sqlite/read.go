package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	defaultPage = 100
	maxPage     = 1000

	// maxPageBytes is the size of bodies at which a page of a list ends.
	maxPageBytes = 8 << 20
)

// errEnough ends a query early.
var errEnough = errors.New("enough rows")

const recordColumns = `SELECT e.seq, e.id, e.task_id, e.type, e.status, e.received_at, e.body,
	d.state, d.attempts, d.due, d.settled_at, d.last_at, d.last_duration, d.last_status, d.last_reason
	FROM events e LEFT JOIN delivery d ON d.seq = e.seq `

// scanRecord reads the columns above. A retry that is due counts as due now.
func scanRecord(row []driver.Value, now int64) *inbox.Record {
	s := state(integer(row[7]))
	r := &inbox.Record{
		Event:     scanEvent(row[1:]),
		State:     s.public(),
		Attempts:  int(integer(row[8])),
		SettledAt: fromMicros(integer(row[10])),
		Last: inbox.Attempt{
			At:       fromMicros(integer(row[11])),
			Duration: time.Duration(integer(row[12])),
			Status:   int(integer(row[13])),
			Reason:   text(row[14]),
		},
	}
	if due := integer(row[9]); s == retry && due > now {
		r.Due = fromMicros(due)
	}
	return r
}

// Get returns an event and its attempts.
func (s *store) Get(ctx context.Context, id string) (record *inbox.Record, attempts []inbox.Attempt, err error) {
	raw, err := inbox.ParseID(id)
	if err != nil {
		return nil, nil, notFound(err)
	}
	err = s.read(ctx, func(c *conn) error {
		seqs, err := s.taskEvents(c, keyOf(raw), math.MaxInt64, math.MaxInt64)
		if err != nil {
			return err
		}
		for _, seq := range seqs {
			err := c.query(recordColumns+`WHERE e.seq = ?`, func(row []driver.Value) error {
				if bytes.Equal(blob(row[1]), raw[:]) {
					record = scanRecord(row, s.now().UnixMicro())
				}
				return nil
			}, seq)
			if err != nil {
				return err
			}
			if record != nil {
				attempts, err = readAttempts(c, seq, record)
				return err
			}
		}
		return fmt.Errorf("event %s: %w", id, inbox.ErrNotFound)
	})
	return record, attempts, err
}

// readAttempts returns the attempts that failed and the one that did not.
func readAttempts(c *conn, seq int64, r *inbox.Record) (attempts []inbox.Attempt, err error) {
	err = c.query(`SELECT at, duration, status, reason FROM attempts WHERE seq = ? ORDER BY n`, func(row []driver.Value) error {
		attempts = append(attempts, inbox.Attempt{
			At:       fromMicros(integer(row[0])),
			Duration: time.Duration(integer(row[1])),
			Status:   int(integer(row[2])),
			Reason:   text(row[3]),
		})
		return nil
	}, seq)
	if r.State == inbox.Delivered {
		attempts = append(attempts, r.Last)
	}
	return attempts, err
}

// taskEvents returns the events before a number whose task has the key, newest
// first, about limit of them. Some may be gone.
func (s *store) taskEvents(c *conn, key, before, limit int64) ([]int64, error) {
	// What leaves the memory is in the table before: so the memory comes first.
	seqs := s.index.lookup(key, nil)
	err := c.query(`SELECT seq FROM task_index WHERE task_key = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
		func(row []driver.Value) error {
			seqs = append(seqs, integer(row[0]))
			return nil
		}, key, before, limit)
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	end, _ := slices.BinarySearch(seqs, before)
	seqs = seqs[:end]
	slices.Reverse(seqs)
	return seqs, err
}

// parsePage returns the number before which a page begins and its limit.
func parsePage(p inbox.Page) (before int64, limit int, err error) {
	before, limit = math.MaxInt64, p.Limit
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 1 || limit > maxPage {
		return 0, 0, fmt.Errorf("page limit is %d; it must be 1 to %d", p.Limit, maxPage)
	}
	if p.Cursor == "" {
		return before, limit, nil
	}
	before, err = strconv.ParseInt(p.Cursor, 10, 64)
	if err != nil || before < 1 || strconv.FormatInt(before, 10) != p.Cursor {
		return 0, 0, fmt.Errorf("page cursor %q is none that an earlier page gave", p.Cursor)
	}
	return before, limit, nil
}

// pager gathers one page of a list of events.
type pager struct {
	*store
	ctx     context.Context //nolint:containedctx // it lives for one call
	c       *conn
	f       inbox.Filter
	states  int64 // wanted, as bits
	since   int64
	until   int64
	before  int64
	limit   int
	records []*inbox.Record
	bytes   int
	last    int64 // of records
	full    bool
}

// List returns the events that fit the filter, newest first.
func (s *store) List(ctx context.Context, f inbox.Filter, page inbox.Page) (records []*inbox.Record, next string, err error) {
	before, limit, err := parsePage(page)
	if err != nil {
		return nil, "", err
	}
	p := &pager{store: s, ctx: ctx, f: f, since: math.MinInt64, until: math.MaxInt64, before: before, limit: limit}
	if !f.Since.IsZero() {
		p.since = ceilMicros(f.Since)
	}
	if !f.Until.IsZero() {
		p.until = ceilMicros(f.Until)
	}
	for st := range states {
		if len(f.States) == 0 || slices.Contains(f.States, st.public()) {
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
		next = strconv.FormatInt(rest, 10)
	}
	return p.records, next, nil
}

// ceilMicros rounds up, so that a bound between two microseconds leaves out
// the earlier one.
func ceilMicros(t time.Time) int64 {
	return t.Add(time.Microsecond - 1).UnixMicro()
}

// add takes a row into the page unless it does not fit the filter.
func (p *pager) add(row []driver.Value) error {
	received := integer(row[5])
	fits := p.states>>integer(row[7])&1 == 1 &&
		(p.f.TaskID == "" || p.f.TaskID == text(row[2])) &&
		(p.f.Type == "" || p.f.Type == text(row[3])) &&
		p.since <= received && received < p.until
	if fits {
		p.records = append(p.records, scanRecord(row, p.now().UnixMicro()))
		p.last = integer(row[0])
		p.bytes += len(blob(row[6]))
		if p.full = len(p.records) == p.limit || p.bytes >= maxPageBytes; p.full {
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

// The filter is in the query too, so that bodies that do not fit are not read.
const listAll = recordColumns + `WHERE e.seq >= ? AND e.seq < ? AND (? >> ifnull(d.state, 0)) & 1
	AND (? = '' OR e.type = ?) AND e.received_at >= ? AND e.received_at < ? ORDER BY e.seq DESC`

// listAll goes through the newest events, of which it looks at so many. It
// returns the number before which there may be more, 0 if there is none.
func (p *pager) listAll() (rest int64, err error) {
	first, err := p.c.number(`SELECT seq FROM events WHERE seq < ? ORDER BY seq DESC LIMIT 1`, p.before)
	if err != nil || first == 0 {
		return 0, err
	}
	floor := max(1, first+1-p.limits.scan)
	err = p.query(listAll, floor, first+1, p.states, p.f.Type, p.f.Type, p.since, p.until)
	if p.full {
		floor = p.last
	}
	return p.more(floor, err)
}

// more returns floor if there are events before it.
func (p *pager) more(floor int64, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	n, err := p.c.number(`SELECT 1 FROM events WHERE seq < ? ORDER BY seq DESC LIMIT 1`, floor)
	if err != nil || n == 0 {
		return 0, err
	}
	return floor, nil
}

// listSeqs goes through the events with these numbers, newest first.
func (p *pager) listSeqs(seqs []int64, more bool) (rest int64, err error) {
	for i, seq := range seqs {
		if err := p.query(recordColumns+`WHERE e.seq = ?`, seq); err != nil {
			return 0, err
		}
		if p.full && (more || i < len(seqs)-1) {
			return seq, nil
		}
	}
	if more {
		return seqs[len(seqs)-1], nil
	}
	return 0, nil
}

// seqStep is the part of limits.scan that is looked at when events are read one
// by one.
const seqStep = 5

func (p *pager) listTask() (rest int64, err error) {
	key := int64(inbox.TaskKey(p.f.TaskID)) //nolint:gosec // the same 64 bits
	limit := p.limits.scan / seqStep
	seqs, err := p.taskEvents(p.c, key, p.before, limit+1)
	if err != nil {
		return 0, err
	}
	more := int64(len(seqs)) > limit
	return p.listSeqs(seqs[:min(int64(len(seqs)), limit)], more)
}

func (p *pager) listDead() (rest int64, err error) {
	var seqs []int64
	limit := p.limits.scan / seqStep
	err = p.c.query(`SELECT seq FROM delivery WHERE state = 5 AND seq < ? ORDER BY seq DESC LIMIT ?`, func(row []driver.Value) error {
		seqs = append(seqs, integer(row[0]))
		return nil
	}, p.before, limit+1)
	if err != nil {
		return 0, err
	}
	more := int64(len(seqs)) > limit
	return p.listSeqs(seqs[:min(int64(len(seqs)), limit)], more)
}
