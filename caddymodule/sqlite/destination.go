package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// maxSlots is the number of slots for destinations: those that are configured, and as
// many that are left behind. A set of slots fits an integer.
const maxSlots = 2 * inbox.MaxDestinations

// slotSchema makes the tables of a slot, like those of the default destination in
// version 1 and 2. A migration that changes these has to change those of all slots.
// For $ see queue.sql.
var slotSchema = []string{
	`CREATE TABLE delivery$ (
		seq           INTEGER PRIMARY KEY,
		state         INTEGER NOT NULL,
		attempts      INTEGER NOT NULL DEFAULT 0,
		due           INTEGER NOT NULL DEFAULT 0,
		settled_at    INTEGER NOT NULL DEFAULT 0,
		last_at       INTEGER NOT NULL DEFAULT 0,
		last_duration INTEGER NOT NULL DEFAULT 0,
		last_status   INTEGER NOT NULL DEFAULT 0,
		last_reason   TEXT    NOT NULL DEFAULT '',
		task_key      INTEGER
	) STRICT`,
	`CREATE INDEX delivery_pending$ ON delivery$ (state, seq)    WHERE state <= 2`,
	`CREATE INDEX delivery_due$     ON delivery$ (due)           WHERE state = 1`,
	`CREATE INDEX delivery_blocked$ ON delivery$ (task_key, seq) WHERE state = 2`,
	`CREATE INDEX delivery_dead$    ON delivery$ (seq)           WHERE state = 5`,
	`CREATE TABLE attempts$ (
		seq      INTEGER NOT NULL,
		n        INTEGER NOT NULL,
		at       INTEGER NOT NULL,
		duration INTEGER NOT NULL,
		status   INTEGER NOT NULL,
		reason   TEXT    NOT NULL,
		PRIMARY KEY (seq, n)
	) WITHOUT ROWID, STRICT`,
	`CREATE TABLE hold$ (
		id     INTEGER PRIMARY KEY CHECK (id = 1),
		since  INTEGER NOT NULL,
		until  INTEGER NOT NULL,
		ended  INTEGER NOT NULL,
		reason TEXT    NOT NULL
	) STRICT`,
}

var dropSlot = []string{`DROP TABLE delivery$`, `DROP TABLE attempts$`, `DROP TABLE hold$`}

// queue has the deliveries to one destination.
type queue struct {
	*store
	name   string
	slot   int // 0 is the default destination
	leases *leases
	leaser leaser
	wakeUp chan struct{} // something may be due
	view   atomic.Pointer[queueView]

	// asked says that somebody has asked for the queue since the inbox was opened.
	asked atomic.Bool

	texts sqlTexts

	// As committed; only the writer uses them. The counters of the default destination
	// are in meta.
	counters counters
	hold     inbox.Hold
}

// queueView is the state of a queue after the last commit that changed it, for readers
// that must not wait for the writer.
type queueView struct {
	counters
	hold   inbox.Hold
	next   int64 // no event from here on goes to the destination
	routed bool  // some of the events before do not go to the default destination alone
}

func newQueue(s *store, slot int, name string, c counters, h inbox.Hold) *queue {
	q := &queue{store: s, name: name, slot: slot, counters: c, hold: h, leases: newLeases(c.lowSeq), wakeUp: make(chan struct{}, 1)}
	q.leaser.queue = q
	suffix := ""
	if slot > 0 {
		suffix = fmt.Sprint("_", slot)
	}
	q.texts.names = strings.NewReplacer("$bit", fmt.Sprintf("(1 << %d)", slot), "$", suffix)
	q.texts.byTemplate = make(map[string]string)
	return q
}

// isDefault reports whether the queue is that of the default destination, whose
// counters are in meta and which has the events without a row in routes.
func (q *queue) isDefault() bool { return q.slot == 0 }

// bit is the set with the queue's slot alone.
func (q *queue) bit() slots { return slots(1) << q.slot }

// sql returns the text of a statement on the tables of the queue. In the template, $
// stands for what is appended to their names, and $bit for the set with their slot.
func (q *queue) sql(template string) string { return q.texts.get(template) }

// sqlTexts are the statements of a queue by their templates.
type sqlTexts struct {
	names      *strings.Replacer
	mu         sync.RWMutex
	byTemplate map[string]string
}

func (x *sqlTexts) get(template string) string {
	x.mu.RLock()
	text, ok := x.byTemplate[template]
	x.mu.RUnlock()
	if !ok {
		text = x.names.Replace(template)
		x.mu.Lock()
		x.byTemplate[template] = text
		x.mu.Unlock()
	}
	return text
}

// wake wakes the leaser, because something may be due.
func (q *queue) wake() {
	select {
	case q.wakeUp <- struct{}{}:
	default:
	}
}

// queues are the queues of an inbox. Only the writer changes which there are.
type queues struct {
	mu      sync.RWMutex
	byName  map[string]*queue
	bySlot  [maxSlots]*queue
	unasked atomic.Int32 // how many nobody has asked for
}

func (s *queues) add(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = make(map[string]*queue)
	}
	s.byName[q.name], s.bySlot[q.slot] = q, q
	if !q.asked.Load() {
		s.unasked.Add(1)
	}
}

// ask returns the queue of that name, which stays from then on, or nil.
func (s *queues) ask(name string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.byName[name]
	if q != nil && !q.asked.Swap(true) {
		s.unasked.Add(-1)
	}
	return q
}

// removeUnasked removes the queue, unless somebody has asked for it.
func (s *queues) removeUnasked(q *queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.asked.Load() {
		return false
	}
	delete(s.byName, q.name)
	s.bySlot[q.slot] = nil
	s.unasked.Add(-1)
	return true
}

// find returns the queue of that name, or nil.
func (s *queues) find(name string) *queue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[name]
}

// list returns the queues in the order of their names.
func (s *queues) list() []*queue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*queue, 0, len(s.byName))
	for _, q := range s.byName {
		all = append(all, q)
	}
	slices.SortFunc(all, func(a, b *queue) int { return cmp.Compare(a.name, b.name) })
	return all
}

// Queue returns the queue of a destination, and makes it if there is none.
func (s *store) Queue(ctx context.Context, destination string) (inbox.Queue, error) {
	if err := inbox.CheckDestination(destination); err != nil {
		return nil, err
	}
	select {
	case <-s.closing:
		return nil, s.errClosed()
	default:
	}
	if q := s.queues.ask(destination); q != nil {
		return q, nil
	}
	r := &makeQueue{request: newRequest(ctx), name: destination}
	if err := s.submit(r); err != nil {
		return nil, err
	}
	return r.queue, nil
}

// makeQueue is the request to make a queue.
type makeQueue struct {
	request
	name  string
	queue *queue
}

func (r *makeQueue) apply(t *tx) (err error) {
	r.err = nil
	if r.queue = t.w.queues.ask(r.name); r.queue != nil {
		return nil
	}
	for _, q := range t.made {
		if q.name == r.name {
			r.queue = q
			return nil
		}
	}
	slot, err := t.freeSlot()
	if err != nil {
		return err
	}
	if slot == 0 {
		r.err = t.w.tooMany(r.name)
		return nil
	}
	r.queue, err = t.makeQueue(slot, r.name)
	return err
}

func (r *makeQueue) grows() bool { return true }

// freeSlot returns a slot that no destination has, 0 if there is none.
func (t *tx) freeSlot() (int, error) {
	for slot, q := range t.w.queues.bySlot {
		if q == nil && t.changes[slot] == nil {
			return slot, nil
		}
	}
	for slot, q := range t.w.queues.bySlot {
		if q != nil && t.changes[slot] == nil && q.isGone() {
			dropped, err := t.drop(q)
			if dropped || err != nil {
				return slot, err
			}
		}
	}
	return 0, nil
}

const insertDestination = `INSERT INTO destinations VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0, 0)`

// makeQueue makes the tables of a destination, which gets the events that are stored
// from now on.
func (t *tx) makeQueue(slot int, name string) (*queue, error) {
	q := newQueue(t.w.store, slot, name, counters{lowSeq: t.meta.nextSeq}, inbox.Hold{})
	q.asked.Store(true)
	for _, statement := range slotSchema {
		if err := t.c.exec(q.sql(statement)); err != nil {
			return nil, err
		}
	}
	t.made = append(t.made, q)
	t.of(q)
	return q, t.c.exec(insertDestination, int64(slot), name, t.meta.nextSeq)
}

// isGone reports whether the destination counts as gone: nothing is left of it, and
// nobody has asked for it.
func (q *queue) isGone() bool { return !q.isDefault() && !q.asked.Load() && q.view.Load().empty() }

// drop removes the tables of a destination that is gone, and its hold. It reports false
// if somebody has asked for it meanwhile.
func (t *tx) drop(q *queue) (bool, error) {
	if !t.w.queues.removeUnasked(q) {
		return false, nil
	}
	t.dropped = append(t.dropped, q)
	for _, statement := range dropSlot {
		if err := t.c.exec(q.sql(statement)); err != nil {
			return false, err
		}
	}
	return true, t.c.exec(`DELETE FROM destinations WHERE slot = ?`, int64(q.slot))
}

// tooMany says what to do if all slots are taken.
func (s *store) tooMany(name string) error {
	var left []string
	for _, q := range s.queues.list() {
		if !q.asked.Load() {
			left = append(left, q.name)
		}
	}
	const named = 5
	what := "restart Caddy to forget those that no config names any more"
	if len(left) > 0 {
		what = fmt.Sprintf("purge or replay elsewhere what is left of those that no config names any more, such as %s",
			strings.Join(left[:min(named, len(left))], ", "))
	}
	return fmt.Errorf("no room for the destination %q: the inbox has %d destinations already, the most that it keeps; %s", name, maxSlots, what)
}

const (
	readDestinations = `SELECT slot, name, low_seq, fresh, ready, retry, blocked, delivered, superseded, dead FROM destinations`

	updateDestination = `UPDATE destinations SET low_seq = ?, fresh = ?, ready = ?, retry = ?, blocked = ?, delivered = ?,
		superseded = ?, dead = ? WHERE slot = ?`
)

// loadQueues reads the destinations from the file.
func (w *writer) loadQueues() error {
	w.usual = newQueue(w.store, 0, inbox.DefaultDestination, w.meta.counters, inbox.Hold{})
	w.usual.asked.Store(true)
	w.usualOnly = []*queue{w.usual}
	loaded := []*queue{w.usual}
	err := w.conn.query(readDestinations, func(row []driver.Value) error {
		var c counters
		for i, p := range c.fields() {
			*p = integer(row[2+i])
		}
		slot := integer(row[0])
		if slot < 1 || slot >= maxSlots {
			return fmt.Errorf("the destination %.80q has slot %d; expected 1 to %d", text(row[1]), slot, maxSlots-1)
		}
		loaded = append(loaded, newQueue(w.store, int(slot), text(row[1]), c, inbox.Hold{}))
		return nil
	})
	for _, q := range loaded {
		if err != nil {
			return err
		}
		q.hold, err = readHold(w.conn, q)
		q.publish(q.counters, w.meta.nextSeq, w.meta.routed > 0)
		w.queues.add(q)
	}
	return err
}

// fields returns the columns of the counters in order.
func (c *counters) fields() []*int64 {
	fields := []*int64{&c.lowSeq, &c.fresh}
	for i := range c.rows {
		fields = append(fields, &c.rows[i])
	}
	return fields
}

// publish makes a committed state known.
func (q *queue) publish(c counters, next int64, routed bool) {
	q.view.Store(&queueView{counters: c, hold: q.hold, next: next, routed: routed})
}
